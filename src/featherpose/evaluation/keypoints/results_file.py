"""COCO keypoint results from a file, as ``featherpose evaluate --save-results`` and other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featherpose.errors import DatasetError
from featherpose.evaluation.keypoints.dataset import CocoDataset
from featherpose.parsing import Limits, ParseError, is_finite, is_integer, parse_json, read_document, shown

__all__ = ["read_results"]

_LIMITS = Limits(max_bytes=2**30, max_depth=8, max_values=200_000_000)


def read_results(path: Path, dataset: CocoDataset) -> list[dict[str, Any]]:
    """Read results for a data set; those for other images are left out.

    Args:
        path: A JSON list of ``image_id``, ``keypoints`` (x, y, v for each keypoint of the data set's file) and
            ``score``.
        dataset: The images that were measured.

    Returns:
        COCO results with the keypoints of the dataset's skeleton.

    Raises:
        DatasetError: If the file cannot be read, or holds something else.
    """
    try:
        values = parse_json(read_document(path, _LIMITS.max_bytes), _LIMITS)
    except ParseError as error:
        raise DatasetError(f"{path} {error}") from error
    if not isinstance(values, list):
        raise DatasetError(f"{path} holds {shown(values)}", expected="a list of COCO keypoint results")
    ids = {image.image_id for image in dataset.images}
    from_file = dataset.file_skeleton or dataset.skeleton
    sources = from_file.mapping_to(dataset.skeleton)
    results = []
    for number, value in enumerate(values):
        good = isinstance(value, dict) and is_integer(value.get("image_id")) and is_finite(value.get("score"))
        points = value.get("keypoints") if good else None
        if (
            not isinstance(points, list)
            or len(points) != 3 * from_file.num_keypoints
            or not all(map(is_finite, points))
        ):
            raise DatasetError(
                f"{path}: result {number} is {shown(value)}",
                expected=f"image_id, score and {from_file.num_keypoints} keypoints",
            )
        if value["image_id"] in ids:
            rows = [points[3 * s[0] : 3 * s[0] + 3] if len(s) == 1 else [0.0, 0.0, 0.0] for s in sources]
            flat = [coordinate for row in rows for coordinate in row]
            results.append(
                {"image_id": value["image_id"], "category_id": 1, "keypoints": flat, "score": value["score"]}
            )
    return results
