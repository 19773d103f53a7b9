"""Ids: given once confirmed, kept through what happens in real video, shared by nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import OptionError, SkeletonError
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, LSP_14
from featherpose.tracking import PoseSmoother, PoseTracker, TrackOptions

RNG = np.random.default_rng(3)
SHAPE = np.array([[0, -80], [3, -84], [-3, -84], [8, -82], [-8, -82], [18, -60], [-18, -60], [24, -30], [-24, -30],
                  [26, 0], [-26, 0], [10, 0], [-10, 0], [11, 40], [-11, 40], [11, 80], [-11, 80]])  # fmt: skip


def people(*centers: tuple[float, float], score: float = 0.8) -> Poses:
    points = np.array([SHAPE + c for c in centers], np.float32).reshape(-1, 17, 2)
    points += RNG.normal(0, 1, points.shape).astype(np.float32)
    scores = np.full(points.shape[:2], score, np.float32)
    return Poses(points, scores, scores.sum(1) / np.float32(4), COCO_17, (1280, 720))


def ids(poses: Poses) -> list[int]:
    assert poses.track_ids is not None
    return [int(i) for i in poses.track_ids]


def settle(tracker: PoseTracker, *centers: tuple[float, float], speed: float = 0.0, start_s: float = 0.0) -> list[int]:
    out: list[int] = []
    for i in range(10):
        moved = [(x + speed * i / 25, y) for x, y in centers]
        out = ids(tracker.update(people(*moved), start_s + i / 25))
    return out


def test_ids_do_not_follow_the_order_of_detection() -> None:
    tracker = PoseTracker()
    assert settle(tracker, (200, 300), (600, 300)) == [0, 1]
    assert ids(tracker.update(people((601, 300), (201, 300)), 0.4)) == [1, 0]


def test_nothing_but_the_ids_changes() -> None:
    poses = people((200, 300), (600, 300))
    before = poses.keypoints.copy()
    tracked = PoseTracker().update(poses, 0.0)
    assert tracked.keypoints is poses.keypoints
    np.testing.assert_array_equal(poses.keypoints, before)
    assert poses.track_ids is None


def test_somebody_hidden_while_walking_comes_back_with_the_same_id() -> None:
    tracker = PoseTracker()
    settle(tracker, (200, 300), speed=150)
    for i in range(10, 35):
        tracker.update(people(), i / 25)
    back = [ids(tracker.update(people((200 + 150 * i / 25, 300)), i / 25)) for i in range(35, 40)]
    assert back == [[0]] * 5


def test_who_never_comes_back_is_forgotten() -> None:
    tracker = PoseTracker(TrackOptions(max_lost_s=0.5))
    settle(tracker, (200, 300))
    tracker.update(people(), 0.4)
    assert settle(tracker, (200, 300), start_s=2.0) == [1]


def test_two_people_who_pass_each_other_keep_their_ids() -> None:
    tracker = PoseTracker()
    out = []
    for i in range(60):
        a, b = (300 + 6 * i, 300), (660 - 6 * i, 310)
        hidden = 27 <= i <= 33  # the one behind
        out.append(ids(tracker.update(people(a) if hidden else people(a, b), i / 25)))
    assert out[10] == [0, 1]
    assert out[-1] == [0, 1]
    assert tracker.count == 2


def test_false_people_of_a_frame_or_two_get_no_id() -> None:
    tracker = PoseTracker()
    for i in range(50):
        poses = people((200, 300), (900, 200), score=0.5) if i % 8 == 3 else people((200, 300))
        tracked = tracker.update(poses, i / 25)
    assert ids(tracked)[0] == 0
    assert tracker.count == 1


def test_a_weak_detection_continues_a_person_but_starts_none() -> None:
    tracker = PoseTracker()
    settle(tracker, (200, 300))
    for i in range(10, 30):
        out = ids(tracker.update(people((200, 300), (800, 300), score=0.15), i / 25))
    assert out == [0, -1]
    assert tracker.count == 1


def test_a_torn_off_part_of_somebody_is_nobody() -> None:
    tracker = PoseTracker()
    settle(tracker, (200, 300))
    for i in range(10, 40):
        whole = people((200, 300), (200, 300))
        whole.keypoints[0, 11:] = np.nan  # the legs are torn off …
        whole.keypoints[1, :11] = np.nan  # … and found as a person of their own
        out = ids(tracker.update(whole, i / 25))
    assert out == [0, -1]


def test_dropped_frames_change_nothing() -> None:
    tracker = PoseTracker()
    settle(tracker, (200, 300), (500, 300), speed=100)
    for i in (11, 17, 18, 26, 33):
        out = ids(tracker.update(people((200 + 4 * i, 300), (500 + 4 * i, 300)), i / 25))
        assert out == [0, 1]


def test_a_slow_source_loses_nobody_between_two_frames() -> None:
    tracker = PoseTracker(TrackOptions(max_lost_s=1, max_unconfirmed_s=0.1))
    out = [ids(tracker.update(people((200, 300)), 5.0 * i)) for i in range(4)]
    assert out[-1] == [0]


def test_a_image_of_another_size_shows_the_same_people() -> None:
    tracker, smoother = PoseTracker(), PoseSmoother()
    for i in range(30):
        poses = people((300 + 5 * i, 300), (700, 300))
        if i >= 15:  # the stream goes over to half the size, one axis more than the other
            factor = np.array([0.5, 0.4], np.float32)
            poses = replace(poses, keypoints=poses.keypoints * factor, image_size=(640, 288))
        tracked = tracker.update(poses, i / 25)
        smooth = smoother.update(tracked, i / 25)
        assert np.nanmax(np.abs(smooth.keypoints - poses.keypoints)) < 8
        if i > 5:
            assert ids(tracked) == [0, 1]
    assert tracker.count == 2


def test_trackers_share_nothing() -> None:
    first, second = PoseTracker(), PoseTracker()
    assert settle(first, (200, 300), (700, 300)) == [0, 1]
    assert settle(second, (500, 300)) == [0]


def test_reset_starts_from_zero_at_any_time() -> None:
    tracker = PoseTracker()
    settle(tracker, (200, 300), (700, 300), start_s=100)
    tracker.reset()
    assert tracker.count == 0
    assert settle(tracker, (500, 300)) == [0]


def test_everyone_gets_an_id_at_once_if_asked() -> None:
    tracker = PoseTracker(TrackOptions(min_init_score=0))
    assert ids(tracker.update(people((200, 300)), 0)) == [0]


def test_many_people_and_no_cap() -> None:
    tracker = PoseTracker()
    grid = [(60.0 + 60 * (i % 20), 100.0 + 180 * (i // 20)) for i in range(60)]
    assert sorted(settle(tracker, *grid)) == list(range(60))


def test_empty_frames_are_frames() -> None:
    tracker = PoseTracker()
    assert len(tracker.update(people(), 0)) == 0
    settle(tracker, (200, 300), start_s=1)
    assert ids(tracker.update(people(), 1.5)) == []


def test_two_frames_of_one_instant_are_allowed_and_time_running_backwards_is_not() -> None:
    tracker = PoseTracker()
    settle(tracker, (200, 300))
    assert ids(tracker.update(people((200, 300)), 0.36)) == [0]
    with pytest.raises(OptionError, match="reset"):
        tracker.update(people((200, 300)), 0.1)
    with pytest.raises(OptionError):
        tracker.update(people((200, 300)), float("nan"))


def test_another_skeleton_needs_another_tracker() -> None:
    tracker = PoseTracker()
    settle(tracker, (200, 300))
    with pytest.raises(SkeletonError, match="one tracker for each model"):
        tracker.update(Poses.empty(LSP_14, (1280, 720)), 1.0)


@pytest.mark.parametrize(
    "bad", [{"max_lost_s": -1}, {"min_similarity": 0}, {"weak_certainty": 0.9}, {"measurement_noise": float("nan")}]
)
def test_impossible_options_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        TrackOptions(**bad)


@pytest.mark.slow
def test_as_many_ids_as_people_walk_through_a_real_video(shared: Path) -> None:
    from featherpose.estimator import PoseEstimator
    from featherpose.media.sources.find import open_source

    tracker = PoseTracker()
    with (
        PoseEstimator(quality="fast") as estimator,
        open_source(shared / "data/videos/one-by-one.mp4", frame_step=2) as video,
    ):
        for frame in video:
            tracker.update(estimator(frame.image), frame.timestamp_s)
    assert tracker.count == 6  # counted by eye
