"""COCO average precision of boxes by pycocotools, for detectors.

Source: https://cocodataset.org/#detection-eval. Everyone with a box counts, keypoints or not; crowds are ignored.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featherpose.data.coco import AnnotatedImage
from featherpose.errors import MissingExtraError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.dataset import CocoDataset, check_images
from featherpose.media.images import read_image
from featherpose.poses import Poses

__all__ = ["BoxScores", "box_precision", "box_results", "box_scores", "estimate_boxes"]

_PERSON = 1


@dataclass(frozen=True, slots=True)
class BoxScores:
    """COCO's figures of boxes, 0..1 (-1: no person of that size is annotated).

    Attributes:
        AP: Mean average precision over intersections over union of 0.50, 0.55, …, 0.95.
        AP50: At 0.50.
        AP75: At 0.75.
        APS: Of people under 32² pixels.
        APM: Of people of 32² to 96² pixels.
        APL: Of larger people.
        AR: Mean average recall with at most 100 boxes an image.
    """

    AP: float
    AP50: float
    AP75: float
    APS: float
    APM: float
    APL: float
    AR: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name, rounded to five digits."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def box_results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """Return the boxes of one image as COCO results.

    Args:
        poses: People of skeleton `featherpose.methods.person_boxes.PERSON_BOX`.
        image_id: COCO's id.

    Example:
        >>> from featherpose.methods.person_boxes import PERSON_BOX
        >>> corners, ones = np.float32([[[9.5, 19.5], [29.5, 59.5]]]), np.ones((1, 2), np.float32)
        >>> box_results(Poses(corners, ones, ones[0, :1], PERSON_BOX, (100, 100)), 7)[0]["bbox"]
        [10.0, 20.0, 20.0, 40.0]
    """
    corners = poses.keypoints.reshape(-1, 4).astype(np.float64)
    # COCO counts from the edge of the first pixel, not from its center.
    return [
        {
            "image_id": image_id, "category_id": _PERSON, "score": float(score),
            "bbox": [left + 0.5, top + 0.5, right - left, bottom - top],
        }
        for (left, top, right, bottom), score in zip(corners.tolist(), poses.scores, strict=True)
    ]  # fmt: skip


def box_precision(
    annotations: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    ids: Sequence[int],
    *,
    with_keypoints: bool = False,
) -> BoxScores:
    """Compare boxes with annotations in COCO's form.

    Args:
        annotations: ``images`` and ``annotations`` with ``bbox``, ``area`` and ``iscrowd``, of category 1.
        results: Of `box_results`.
        ids: Of the images that count.
        with_keypoints: Whether only people with keypoints count, and all others are ignored as crowds are: those whom a
            network for single people could be measured on.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingExtraError("COCO AP", "eval") from error
    boxes = [
        {**result, "id": number, "iscrowd": 0, "area": result["bbox"][2] * result["bbox"][3]}
        for number, result in enumerate(results, 1)
    ]
    known = [dict(a) for a in annotations["annotations"]]
    if with_keypoints:
        known = [{**a, "iscrowd": int(a["iscrowd"] or not a["num_keypoints"])} for a in known]
    # pycocotools prints its progress, and writes into the annotations it is given.
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for records in (known, boxes):
            side = COCO()
            side.dataset = {
                "images": annotations["images"], "categories": [{"id": _PERSON, "name": "person"}],
                "annotations": records,
            }  # fmt: skip
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, "bbox")
        evaluation.params.imgIds = list(ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75, small, middle, large = (float(value) for value in evaluation.stats[:6])
    return BoxScores(
        AP=ap, AP50=ap50, AP75=ap75, APS=small, APM=middle, APL=large, AR=float(evaluation.stats[8])
    )  # fmt: skip


def estimate_boxes(
    estimator: PoseEstimator,
    dataset: CocoDataset,
    *,
    in_flight: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return the boxes of everyone whom a detector finds on every image, as COCO results.

    Args:
        estimator: A detector, nobody refined.
        dataset: The images.
        in_flight: Images in flight at once; the result does not depend on it.
        progress: Called with (images done, boxes found so far).

    Raises:
        DatasetError: If an image is missing.
        SourceError: If one cannot be read.
        ModelError: If the engine fails.
    """
    check_images(dataset)
    results: list[dict[str, Any]] = []
    found = estimator.map((read_image(image.path) for image in dataset.images), in_flight=in_flight)
    for done, (image, boxes) in enumerate(zip(dataset.images, found, strict=True), start=1):
        results += box_results(boxes, image.image_id)
        if progress is not None:
            progress(done, len(results))
    return results


def box_scores(poses: Sequence[Poses], images: Sequence[AnnotatedImage]) -> BoxScores:
    """Compare the boxes found in images with those annotated.

    Args:
        poses: Boxes found in each image.
        images: Read with ``everyone``, so that people without keypoints count.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    records: list[dict[str, Any]] = []
    for image_id, image in enumerate(images):
        known = np.empty((0, 4), np.float32) if image.boxes is None else image.boxes
        for boxes, crowd in ((known, 0), (image.ignore_boxes, 1)):
            for left, top, right, bottom in boxes.astype(np.float64).tolist():
                width, height = right - left, bottom - top
                records.append({
                    "id": len(records) + 1, "image_id": image_id, "category_id": _PERSON, "iscrowd": crowd,
                    "bbox": [left, top, width, height], "area": width * height,
                })  # fmt: skip
    annotations = {"images": [{"id": i} for i in range(len(images))], "annotations": records}
    found = [result for image_id, boxes in enumerate(poses) for result in box_results(boxes, image_id)]
    return box_precision(annotations, found, range(len(images)))
