"""The rating of people: the compiled form against the plain one, and that it ranks real people better."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featherpose.rating
from featherpose.errors import CheckpointError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.reference import rating as reference
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.poses import Poses
from featherpose.rating.rate import RATING_FEATURES, RatedBy, can_rate, rate_people, read_rating
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

ROOM = Path(featherpose.rating.__file__).parent


def crowd(people: int, *, missing: float = 0.3, seed: int = 0) -> Poses:
    """People who stand over each other, some of equal score."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 300, (people, 1, 2))
    points = (centers + rng.uniform(-60, 60, (people, 18, 2))).astype(np.float32)
    points[rng.random((people, 18)) < missing] = np.nan
    points[:, 5] = np.where(np.isnan(points[:, 5]), 100, points[:, 5])  # everybody has a shoulder
    scores = np.where(np.isnan(points[..., 0]), 0, rng.random((people, 18))).astype(np.float32)
    ranks = np.round(rng.random(people), 1).astype(np.float32)
    return Poses(points, scores, ranks, OPENPOSE_18, (320, 300))


@pytest.mark.parametrize("by", ["found", "refined"])
@pytest.mark.parametrize(("people", "scale"), [(1, 1.0), (2, 0.4), (40, 1.7)])
def test_the_kernel_equals_the_reference(by: RatedBy, people: int, scale: float) -> None:
    layers = read_rating(ROOM / f"{by}.npz")
    for missing in (0.0, 0.4, 0.95):
        poses = crowd(people, missing=missing, seed=people)
        expected = reference.rate(poses, layers, scale)
        np.testing.assert_allclose(rate_people(poses, by, scale=scale), expected, atol=2e-5)


def test_a_rating_does_not_depend_on_the_order_of_people() -> None:
    poses = crowd(12)
    order = np.random.default_rng(3).permutation(12)
    distinct = replace(poses, scores=np.linspace(0.1, 1, 12, dtype=np.float32))
    assert np.array_equal(rate_people(distinct[order], "found"), rate_people(distinct, "found")[order])


def test_nobody_and_somebody_without_a_keypoint_of_cocos() -> None:
    assert rate_people(Poses.empty(COCO_17, (10, 10)), "found").shape == (0,)
    neck = crowd(2)
    neck.keypoints[0] = np.nan
    neck.keypoints[0, 1] = 5
    assert rate_people(neck, "found")[0] == 0


def test_other_skeletons_keep_their_ranks() -> None:
    assert not can_rate(Skeleton.create("pair", ["a", "b"], [("a", "b")]))


@pytest.mark.parametrize(
    ("widths", "said"),
    [((RATING_FEATURES, 1), "1 layers"), ((RATING_FEATURES, 4, 4, 2), "ends with 2"), ((9, 4, 4, 1), "a matrix with")],
)
def test_a_wrong_network_is_refused(tmp_path: Path, widths: tuple[int, ...], said: str) -> None:
    arrays: dict[str, np.ndarray] = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        arrays |= {f"weight{i}": np.zeros((outputs, inputs), np.float32), f"bias{i}": np.zeros(outputs, np.float32)}
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    with pytest.raises(CheckpointError, match=said):
        read_rating(tmp_path / "a.npz")


def test_estimators_score_people_by_it(astronaut: np.ndarray) -> None:
    with PoseEstimator(quality="fast", height=256) as rated:
        one = rated(astronaut)
    with PoseEstimator(quality="fast", height=256, options=PafOptions(rate=False)) as ranked:
        other = ranked(astronaut)
    assert len(one) == len(other) >= 1
    assert np.array_equal(
        np.sort(one.keypoints[~np.isnan(one.keypoints)]), np.sort(other.keypoints[~np.isnan(other.keypoints)])
    )
    scale = 256 / astronaut.shape[0]
    assert one.scores.tolist() == sorted(rate_people(other, "found", scale=scale).tolist(), reverse=True)
    assert 0.3 < one.scores[0] <= 1
    with PoseEstimator(quality="balanced", height=256) as refining:
        refined = refining(astronaut)
    assert 0.3 < refined.scores[0] <= 1
    assert np.all(np.diff(refined.scores) <= 0)


def test_nobody_is_dropped_before_refinement() -> None:
    with PoseEstimator(quality="fast", height=64) as alone, PoseEstimator(quality="balanced", height=64) as refining:
        assert (alone.options.min_rating, refining.options.min_rating) == (0.01, 0.0)
        assert refining.at_height(128).options == refining.options
