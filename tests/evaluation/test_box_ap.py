"""AP of boxes: who counts, and what a detector's boxes are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherpose.data.coco import AnnotatedImage, keypoints_alone
from featherpose.evaluation.box_ap import box_precision, box_results, box_scores
from featherpose.methods.boxes.person_boxes import PERSON_BOX
from featherpose.poses import Poses

pytest.importorskip("pycocotools")


def _found(boxes: list[list[float]], scores: list[float]) -> Poses:
    corners = np.array(boxes, np.float32).reshape(-1, 2, 2) - np.float32(0.5)
    values = np.array(scores, np.float32)
    return Poses(corners, np.repeat(values[:, None], 2, axis=1), values, PERSON_BOX, (200, 200))


def _image(boxes: list[list[float]], crowds: list[list[float]]) -> AnnotatedImage:
    people = np.full((len(boxes), 17, 2), np.nan, np.float32)
    people[0] = 30
    return AnnotatedImage(
        Path("a.jpg"), 1, (200, 200), people, np.array(crowds, np.float32).reshape(-1, 4),
        crowds=np.ones(len(crowds), np.bool_), boxes=np.array(boxes, np.float32),
    )  # fmt: skip


def test_every_box_counts_and_crowds_are_ignored() -> None:
    image = _image([[10, 10, 60, 110], [100, 20, 150, 120]], [[150, 150, 200, 200]])
    both = _found([[10, 10, 60, 110], [100, 20, 150, 120], [160, 160, 180, 180]], [0.9, 0.8, 0.95])
    assert pytest.approx(1) == box_scores([both], [image]).AP50
    assert pytest.approx(0.5, abs=0.01) == box_scores([both[:1]], [image]).AP50
    missed = _found([[60, 10, 109, 109]], [0.9])
    assert pytest.approx(0) == box_scores([missed], [image]).AP50
    assert pytest.approx(0) == box_scores([both[:0]], [image]).AP50
    assert len(keypoints_alone(image).keypoints) == 1
    assert len(keypoints_alone(image).ignore_boxes) == 2


def test_people_without_keypoints_can_be_ignored() -> None:
    annotations = {
        "images": [{"id": 5}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 1, "iscrowd": 0, "num_keypoints": 9, "bbox": [10, 10, 50, 100],
             "area": 5000},
            {"id": 2, "image_id": 5, "category_id": 1, "iscrowd": 0, "num_keypoints": 0, "bbox": [100, 20, 50, 100],
             "area": 5000},
        ],
    }  # fmt: skip
    found = box_results(_found([[10, 10, 60, 110]], [0.9]), 5)
    assert found[0]["bbox"] == [10, 10, 50, 100]
    assert pytest.approx(0.5, abs=0.01) == box_precision(annotations, found, [5]).AP50
    assert pytest.approx(1) == box_precision(annotations, found, [5], with_keypoints=True).AP50
    assert box_precision(annotations, found, [5]).APS == -1
