"""The motion model: what it predicts, and that time is time however it is cut."""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.evaluation.tracking.baselines import plain_correct, plain_predict
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17
from featherpose.tracking import TrackOptions
from featherpose.tracking.motion import MotionState, pose_sizes


def _poses(points: np.ndarray) -> Poses:
    ones = np.ones(points.shape[:2], np.float32)
    return Poses(points.astype(np.float32), ones, ones[:, 0], COCO_17, (640, 480))


def _walker() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (1, 17, 2))


def _moving_state(speed: float = 100.0) -> MotionState:
    state = MotionState.start(_poses(_walker()), TrackOptions())
    for step in range(1, 11):
        state.predict(0.04)
        state.correct(np.array([0]), (_walker() + np.array([speed * 0.04 * step, 0])).astype(np.float32))
    return state


def test_one_long_step_predicts_what_many_short_ones_do() -> None:
    once, often = _moving_state(), _moving_state()
    once.predict(1.0)
    for _ in range(20):
        often.predict(0.05)
    np.testing.assert_allclose(once.keypoints, often.keypoints, rtol=1e-4)
    for name in ("velocity", "position_var", "cross_var", "velocity_var"):
        np.testing.assert_allclose(getattr(once, name), getattr(often, name), rtol=1e-6)


def test_the_velocity_is_learned_and_carries_on() -> None:
    state = _moving_state(100.0)
    assert state.velocity[0] == pytest.approx([100, 0], abs=12)
    before = state.keypoints.copy()
    state.predict(0.5)
    assert (state.keypoints - before)[0, :, 0] == pytest.approx(np.full(17, 44), abs=7)


def test_a_hidden_joint_is_carried_by_those_that_are_seen() -> None:
    state = MotionState.start(_poses(_walker()), TrackOptions())
    seen = (_walker() + np.array([30, 0])).astype(np.float32)
    seen[0, 9] = np.nan
    state.predict(0.1)
    state.correct(np.array([0]), seen)
    assert state.keypoints[0, 9] == pytest.approx(_walker()[0, 9] + np.array([30, 0]), abs=4)


def test_a_joint_seen_for_the_first_time_is_where_it_is() -> None:
    first = _walker()
    first[0, 3] = np.nan
    state = MotionState.start(_poses(first), TrackOptions())
    state.predict(0.04)
    state.correct(np.array([0]), _walker().astype(np.float32))
    assert state.keypoints[0, 3] == pytest.approx(_walker()[0, 3], abs=1e-3)


def test_uncertainty_grows_unseen_and_shrinks_seen() -> None:
    state = _moving_state()
    steady = state.position_var.copy()
    state.predict(0.5)
    grown = state.position_var.copy()
    assert (grown > steady).all()
    state.correct(np.array([0]), state.keypoints.copy())
    assert (state.position_var < grown).all()
    assert (state.velocity_var > 0).all()
    assert (state.spread > 0).all()


def test_a_person_without_joints_has_a_size() -> None:
    assert pose_sizes(np.full((1, 17, 2), np.nan, np.float32))[0] > 0
    assert len(pose_sizes(np.empty((0, 17, 2), np.float32))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_compiled_correction_is_the_plain_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, 300, (6, 17, 2))
    first[rng.random((6, 17)) < 0.3] = np.nan
    fast, plain = (MotionState.start(_poses(first), TrackOptions()) for _ in range(2))
    for _ in range(4):
        seen = np.nan_to_num(first, nan=100.0) + rng.normal(0, 9, first.shape)
        seen[rng.random((6, 17)) < 0.4] = np.nan
        seen[2] = np.nan
        rows = rng.permutation(6)[:4]
        for state, correct in ((fast, MotionState.correct), (plain, plain_correct)):
            state.predict(0.04)
            correct(state, rows, seen[rows].astype(np.float32))
    for name in ("keypoints", "spread", "velocity", "position_var", "cross_var", "velocity_var", "sizes"):
        np.testing.assert_allclose(getattr(fast, name), getattr(plain, name), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_prediction_is_the_plain_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, 300, (5, 17, 2))
    first[rng.random((5, 17)) < 0.3] = np.nan
    fast, plain = (MotionState.start(_poses(first), TrackOptions()) for _ in range(2))
    for elapsed_s in (0.04, 0.2, 1.5, 0.01, 30.0):
        seen = np.nan_to_num(first, nan=100.0) + rng.normal(0, 9, first.shape)
        for state, predict in ((fast, MotionState.predict), (plain, plain_predict)):
            predict(state, elapsed_s)
            state.correct(np.arange(3), seen[:3].astype(np.float32))
    for name in ("keypoints", "spread", "velocity", "position_var", "cross_var", "velocity_var"):
        np.testing.assert_allclose(getattr(fast, name), getattr(plain, name), rtol=1e-4, atol=1e-4)
