"""COCO average precision of boxes by pycocotools, for detectors.

Source: https://cocodataset.org/#detection-eval. Everyone with a box counts, keypoints or not; crowds are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featherpose.data.coco import AnnotatedImage
from featherpose.evaluation.keypoints.coco_ap import PERSON, matched, summarized
from featherpose.poses import Poses

__all__ = ["BoxScores", "box_precision", "box_results", "box_scores"]


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
        poses: People of skeleton `featherpose.methods.boxes.person_boxes.PERSON_BOX`.
        image_id: COCO's id.

    Example:
        >>> from featherpose.methods.boxes.person_boxes import PERSON_BOX
        >>> corners, ones = np.float32([[[9.5, 19.5], [29.5, 59.5]]]), np.ones((1, 2), np.float32)
        >>> box_results(Poses(corners, ones, ones[0, :1], PERSON_BOX, (100, 100)), 7)[0]["bbox"]
        [10.0, 20.0, 20.0, 40.0]
    """
    corners = poses.keypoints.reshape(-1, 4).astype(np.float64)
    # COCO counts from the edge of the first pixel, not from its center.
    return [
        {
            "image_id": image_id, "category_id": PERSON, "score": float(score),
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
    boxes = [{**result, "area": result["bbox"][2] * result["bbox"][3]} for result in results]
    known = annotations["annotations"]
    if with_keypoints:
        known = [{**a, "iscrowd": int(a["iscrowd"] or not a["num_keypoints"])} for a in known]
    figures = summarized(matched({**annotations, "annotations": known}, boxes, ids, "bbox"))
    return BoxScores(*(*figures[:6], figures[8]))  # of AR that with 100 boxes


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
                    "id": len(records) + 1, "image_id": image_id, "category_id": PERSON, "iscrowd": crowd,
                    "bbox": [left, top, width, height], "area": width * height,
                })  # fmt: skip
    annotations = {"images": [{"id": i} for i in range(len(images))], "annotations": records}
    found = [result for image_id, boxes in enumerate(poses) for result in box_results(boxes, image_id)]
    return box_precision(annotations, found, range(len(images)))
