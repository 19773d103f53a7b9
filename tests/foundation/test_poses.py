"""Poses and their similarity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherpose.errors import SkeletonError
from featherpose.oks import oks_matrix
from featherpose.poses import Poses
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton


def people(count: int, seed: int = 0, skeleton: Skeleton = COCO_17) -> Poses:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 200, (count, skeleton.num_keypoints, 2)).astype(np.float32)
    scores = rng.uniform(0.1, 1, (count, skeleton.num_keypoints)).astype(np.float32)
    missing = rng.uniform(size=scores.shape) < 0.2
    points[missing] = np.nan
    scores[missing] = 0
    return Poses(points, scores, scores.mean(axis=1), skeleton, (200, 200))


def test_shapes_are_checked() -> None:
    with pytest.raises(SkeletonError, match=r"expected shapes \(2, 17, 2\)"):
        Poses(np.zeros((2, 18, 2), np.float32), np.zeros((2, 18), np.float32), np.zeros(2, np.float32), COCO_17, (1, 1))
    with pytest.raises(SkeletonError, match="track ids"):
        people(2).with_track_ids(np.zeros(3, np.int64))


def test_boxes_ignore_missing_keypoints() -> None:
    poses = people(3)
    for box, points in zip(poses.boxes(), poses.keypoints, strict=True):
        found = points[~np.isnan(points[:, 0])]
        assert box.tolist() == [*found.min(axis=0), *found.max(axis=0)]
    nobody_found = Poses(
        np.full((1, 17, 2), np.nan, np.float32),
        np.zeros((1, 17), np.float32),
        np.zeros(1, np.float32),
        COCO_17,
        (9, 9),
    )
    assert np.isnan(nobody_found.boxes()).all()
    assert Poses.empty(COCO_17, (9, 9)).boxes().shape == (0, 4)


def test_selection_keeps_everything_together() -> None:
    poses = people(4).with_track_ids(np.arange(4, dtype=np.int64))
    some = poses[np.array([3, 1])]
    assert some.track_ids is not None
    assert some.track_ids.tolist() == [3, 1]
    assert np.array_equal(some.keypoints, poses.keypoints[[3, 1]], equal_nan=True)
    assert len(poses[1:3]) == 2


def test_remapping_there_and_back_keeps_coco() -> None:
    poses = people(5)
    back = poses.to_skeleton(OPENPOSE_18).to_skeleton(COCO_17)
    assert np.array_equal(back.keypoints, poses.keypoints, equal_nan=True)
    assert np.array_equal(back.keypoint_scores, poses.keypoint_scores)
    wide = poses.to_skeleton(BODY_25)
    assert np.isnan(wide.keypoints[:, BODY_25.index("left_heel")]).all()
    assert (wide.keypoint_scores[np.isnan(wide.keypoints[..., 0])] == 0).all()


def oks_by_hand(a: Poses, b: Poses, areas: np.ndarray) -> np.ndarray:
    """COCO's formula, keypoint by keypoint."""
    result = np.zeros((len(a), len(b)))
    for p in range(len(a)):
        for q in range(len(b)):
            terms = []
            for k, sigma in enumerate(a.skeleton.sigmas):
                first, second = a.keypoints[p, k], b.keypoints[q, k]
                if not (np.isnan(first[0]) or np.isnan(second[0])):
                    d2 = float(((first - second) ** 2).sum())
                    terms.append(np.exp(-d2 / (2 * areas[p] * (2 * sigma) ** 2)))
            result[p, q] = np.mean(terms) if terms else 0
    return result


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 1000))
def test_oks_equals_the_formula(p: int, q: int, seed: int) -> None:
    a, b = people(p, seed), people(q, seed + 1)
    areas = np.full(p, 9000, np.float32)
    assert oks_matrix(a, b, areas=areas) == pytest.approx(oks_by_hand(a, b, areas), abs=1e-5)
