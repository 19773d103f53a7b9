"""One follower for streams and sessions: its clock, resets and smoothing."""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.errors import OptionError
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17
from featherpose.tracking import Follower, PoseSmoother, PoseTracker

FPS = 25


def walker(frame: int, noise: float = 0.0) -> Poses:
    rng = np.random.default_rng(5)
    points = rng.uniform(20, 120, (1, 17, 2))
    points[..., 0] += 2.0 * frame
    points += np.random.default_rng(frame).normal(0, noise, points.shape)
    return Poses(points.astype(np.float32), np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (640, 480))


def ids(follower: Follower, times: list[float]) -> list[int | None]:
    return [follower.update(walker(i), t)[0].id for i, t in enumerate(times)]


def test_it_is_the_tracker_and_then_the_smoother() -> None:
    follower, tracker, smoother = Follower(), PoseTracker(), PoseSmoother()
    for frame in range(20):
        expected = smoother.update(tracker.update(walker(frame, 2), frame / FPS), frame / FPS)
        got = follower.update(walker(frame, 2), frame / FPS)
        assert np.array_equal(got.keypoints, expected.keypoints)
        assert got[0].id == expected[0].id


def test_smoothing_can_be_turned_off_between_frames() -> None:
    follower = Follower(smoothing=False)
    for frame in range(5):
        assert np.array_equal(follower.update(walker(frame, 2), frame / FPS).keypoints, walker(frame, 2).keypoints)
    follower.smoothing = True
    follower.update(walker(5, 2), 5 / FPS)
    assert not np.array_equal(follower.update(walker(6, 2), 6 / FPS).keypoints, walker(6, 2).keypoints)


def test_a_trusted_clock_that_goes_back_starts_ids_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("featherpose.tracking.follower._log.warning", lambda text, *values: said.append(text % values))
    # A person is confirmed in the second frame; after the step back that begins again.
    assert ids(Follower(), [0.0, 0.04, 0.08, 0.0, 0.04]) == [None, 0, 0, None, 0]
    assert said == ["the time of the source went back from 0.080 s to 0.000 s: ids start anew"]


def test_a_clock_that_jumps_is_read_as_bounded_steps() -> None:
    follower = Follower(max_step_s=0.1)
    assert ids(follower, [0.0, 0.04, 0.08, 5e6, 0.0, 0.04]) == [None, 0, 0, 0, 0, 0]


def test_reset_starts_anew() -> None:
    follower = Follower()
    assert ids(follower, [0.0, 0.04]) == [None, 0]
    follower.reset()
    assert ids(follower, [0.08, 0.12]) == [None, 0]


def test_a_step_must_be_positive() -> None:
    with pytest.raises(OptionError, match="positive"):
        Follower(max_step_s=0)
