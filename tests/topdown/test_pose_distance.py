"""Parametric pose suppression: the formula term by term, and who stays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featherpose.errors import OptionError
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17
from featherpose.topdown.pose_distance import PoseDistance, pose_similarity, suppress_by_pose


def _poses(keypoints: np.ndarray, scores: np.ndarray, keypoint_scores: np.ndarray | None = None) -> Poses:
    keypoints = keypoints.astype(np.float32)
    sure = np.isfinite(keypoints[..., 0]).astype(np.float32) if keypoint_scores is None else keypoint_scores
    return Poses(keypoints, sure.astype(np.float32), scores.astype(np.float32), COCO_17, (640, 480))


def _reference(poses: Poses, i: int, j: int, parameters: PoseDistance) -> float:
    """Equations 8 to 11, keypoint by keypoint."""
    a, b = poses.keypoints[i], poses.keypoints[j]
    seen = a[np.isfinite(a[:, 0])]
    side = max(1.0, float((seen.max(axis=0) - seen.min(axis=0)).max()))
    scores = near = 0.0
    for k in range(17):
        if not (np.isfinite(a[k]).all() and np.isfinite(b[k]).all()):
            continue
        distance = float(np.linalg.norm(a[k] - b[k]))
        if distance <= side / 10:
            scores += math.tanh(poses.keypoint_scores[i, k] / parameters.score_scale) * math.tanh(
                poses.keypoint_scores[j, k] / parameters.score_scale
            )
        near += math.exp(-distance / (parameters.distance_scale * side / 265))
    return scores + parameters.distance_weight * near


def test_similarity_equals_the_formula() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(100, 300, (17, 2))
    keypoints = np.stack([base, base + rng.normal(0, 4, (17, 2)), base + 150, base * 1.01])
    keypoints[1, 4] = np.nan
    sure = rng.uniform(0.1, 1, (4, 17))
    sure[1, 4] = 0
    poses = _poses(keypoints, np.ones(4), sure)
    found = pose_similarity(poses)
    for i in range(4):
        for j in range(4):
            assert found[i, j] == pytest.approx(_reference(poses, i, j, PoseDistance()), rel=1e-3, abs=1e-4)


def test_doubles_go_and_neighbors_stay() -> None:
    rng = np.random.default_rng(1)
    person = rng.uniform(0, 200, (17, 2))
    keypoints = np.stack([person, person + rng.normal(0, 0.7, (17, 2)), person + np.array([60, 0])])
    assert suppress_by_pose(_poses(keypoints, np.array([0.5, 0.9, 0.2]))).tolist() == [1, 2]
    fragment = np.full((17, 2), np.nan)
    fragment[:6] = person[:6] + 0.3
    both = _poses(np.stack([person, fragment]), np.array([0.9, 0.4]))
    assert suppress_by_pose(both).tolist() == [0]
    assert suppress_by_pose(Poses.empty(COCO_17, (64, 64))).tolist() == []
    with pytest.raises(OptionError, match="same_person is 0"):
        PoseDistance(same_person=0)
