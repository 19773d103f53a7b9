"""People as JSON values of the server's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featherpose.estimator import StageTimes
from featherpose.formats.jsonl import people_to_dicts
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["Thresholds", "people_records", "select_people", "skeleton_record", "times_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds that a client chose.

    Attributes:
        min_keypoint_score: Keypoints below this score count as missing.
        min_person_score: People below this score are left out.
    """

    min_keypoint_score: float = 0.0
    min_person_score: float = 0.0


def select_people(poses: Poses, thresholds: Thresholds) -> Poses:
    """Return the people and keypoints that reach the thresholds; people without any keypoint left are dropped."""
    if thresholds.min_keypoint_score > 0:
        poses = poses.without_weak(thresholds.min_keypoint_score)
    keep = (poses.scores >= thresholds.min_person_score) & poses.detected.any(1)
    return poses if keep.all() else poses[keep]


def people_records(poses: Poses) -> list[dict[str, Any]]:
    """Return all people as in JSON Lines files, with the box [x, y, width, height] of their keypoints.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> people_records(Poses.empty(COCO_17, (640, 480)))
        []
    """
    boxes = poses.boxes().astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    rounded = np.round(boxes, 2).tolist()
    return [
        {"id": person["id"], "score": person["score"], "box": box, "keypoints": person["keypoints"]}
        for person, box in zip(people_to_dicts(poses), rounded, strict=True)
    ]


def skeleton_record(skeleton: Skeleton) -> dict[str, Any]:
    """Return the keypoints, and the limbs to draw between them."""
    redundant = set(skeleton.loop_limbs)
    return {
        "name": skeleton.name,
        "keypoints": list(skeleton.keypoints),
        "limbs": [list(limb) for i, limb in enumerate(skeleton.limbs) if i not in redundant],
    }


def times_record(times: StageTimes, **further_ms: float) -> dict[str, float]:
    """Return the milliseconds of each stage, to a hundredth.

    Example:
        >>> times_record(StageTimes(0.5, 20.0, 0.123), queue=1)
        {'queue': 1, 'prepare': 0.5, 'infer': 20.0, 'decode': 0.12, 'refine': 0.0}
    """
    return {name: round(ms, 2) for name, ms in {**further_ms, **times.by_stage()}.items()}
