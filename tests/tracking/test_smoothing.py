"""One-Euro smoothing is held to the paper's filter, joint by joint, and never invents anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherpose.errors import OptionError, SkeletonError
from featherpose.evaluation.tracking.baselines import PlainOneEuro
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, LSP_14
from featherpose.tracking import PoseSmoother, SmoothOptions
from featherpose.tracking.motion import pose_sizes

STILL = np.random.default_rng(0).uniform(0, 200, (17, 2)).astype(np.float32)


def poses(*people: np.ndarray, track_ids: list[int] | None = None) -> Poses:
    points = np.array(people, np.float32).reshape(-1, 17, 2)
    scores = (~np.isnan(points[..., 0])).astype(np.float32)
    given = list(range(len(points))) if track_ids is None else track_ids
    return Poses(points, scores, np.ones(len(points), np.float32), COCO_17, (640, 480), np.array(given, np.int64))


def test_equals_the_filter_of_the_paper_on_uneven_times() -> None:
    rng = np.random.default_rng(5)
    options = SmoothOptions(min_cutoff_hz=1.2, beta=0.7, derivative_cutoff_hz=0.9, max_gap_s=10)
    smoother = PoseSmoother(options)
    anchor = np.array([[-1000, -1000], [1000, 1000]], np.float32)  # fixes the size
    size = float(pose_sizes(np.vstack((anchor, STILL[2:]))[None])[0])
    plain = [PlainOneEuro(options, size) for _ in range(17)]
    time_s = 0.0
    for _ in range(50):
        time_s += float(rng.uniform(0.005, 0.2))
        points = STILL + rng.normal(0, 4, STILL.shape)
        points[:2] = anchor
        out = smoother.update(poses(points), time_s).keypoints[0]
        expected = [plain[k](float(np.float32(x)), float(np.float32(y)), time_s) for k, (x, y) in enumerate(points)]
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-2)


def test_a_person_is_born_unsmoothed() -> None:
    smoother = PoseSmoother()
    first = poses(STILL)
    np.testing.assert_array_equal(smoother.update(first, 0).keypoints, first.keypoints)
    # Another person at another place, with a new id, is not drawn towards the first.
    other = poses(STILL + 300, track_ids=[7])
    np.testing.assert_array_equal(smoother.update(other, 0.04).keypoints, other.keypoints)


def test_people_without_an_id_pass_unchanged() -> None:
    smoother = PoseSmoother()
    smoother.update(poses(STILL, track_ids=[-1]), 0)
    moved = poses(STILL + 5, track_ids=[-1])
    np.testing.assert_array_equal(smoother.update(moved, 0.04).keypoints, moved.keypoints)


def test_missing_stays_missing_and_returns_where_it_is() -> None:
    smoother = PoseSmoother(SmoothOptions(max_gap_s=0.3))
    without = STILL.copy()
    without[4] = np.nan
    for i in range(10):
        smoother.update(poses(STILL), i / 25)
    for i in range(10, 25):
        out = smoother.update(poses(without), i / 25)
        assert np.isnan(out.keypoints[0, 4]).all()
        assert out.keypoint_scores[0, 4] == 0
        assert not np.isnan(out.keypoints[0, 5]).any()
    back = smoother.update(poses(STILL + 40), 1.0).keypoints[0]
    np.testing.assert_array_equal(back[4], STILL[4] + 40)
    assert (back[5] < STILL[5] + 40).all()


def test_a_short_gap_does_not_start_afresh() -> None:
    smoother = PoseSmoother()
    for i in range(10):
        smoother.update(poses(STILL), i / 25)
    after = smoother.update(poses(STILL + 3), 0.36 + 0.12).keypoints[0]
    assert ((after > STILL) & (after < STILL + 3)).all()


def test_coordinates_are_not_rounded() -> None:
    smoother = PoseSmoother()
    for i in range(40):
        out = smoother.update(poses(STILL + 0.25), i / 25)
    np.testing.assert_allclose(out.keypoints[0], STILL + 0.25, atol=1e-3)


def test_slow_time_smooths_less_per_frame() -> None:
    reached = []
    for step_s in (0.01, 0.1):
        smoother = PoseSmoother(SmoothOptions(beta=0))
        smoother.update(poses(STILL), 0)
        reached.append(float((smoother.update(poses(STILL + 1), step_s).keypoints[0] - STILL).mean()))
    assert reached[0] < 0.2 < 0.4 < reached[1]


def test_trembling_of_somebody_who_stands_shrinks() -> None:
    rng = np.random.default_rng(1)
    smoother = PoseSmoother()
    out = [smoother.update(poses(STILL + rng.normal(0, 1, STILL.shape)), i / 30).keypoints[0] for i in range(120)]
    assert np.std(out[30:], axis=0).mean() < 0.5


def test_the_input_is_left_alone_and_ids_may_change_places() -> None:
    smoother = PoseSmoother()
    for i in range(5):
        smoother.update(poses(STILL, STILL + 100), i / 25)
    swapped = poses(STILL + 100, STILL, track_ids=[1, 0])
    before = swapped.keypoints.copy()
    out = smoother.update(swapped, 0.2)
    np.testing.assert_array_equal(swapped.keypoints, before)
    np.testing.assert_allclose(out.keypoints, before, atol=1e-3)


def test_bad_input_is_named() -> None:
    smoother = PoseSmoother()
    with pytest.raises(OptionError, match="PoseTracker"):
        smoother.update(replace(poses(STILL), track_ids=None), 0)
    with pytest.raises(OptionError, match="each id once"):
        smoother.update(poses(STILL, STILL, track_ids=[1, 1]), 0)
    smoother.update(poses(STILL), 1)
    with pytest.raises(OptionError, match="reset"):
        smoother.update(poses(STILL), 0.5)
    with pytest.raises(SkeletonError):
        smoother.update(Poses.empty(LSP_14, (640, 480)).with_track_ids(np.empty(0, np.int64)), 2)
    with pytest.raises(OptionError):
        SmoothOptions(min_cutoff_hz=0)
