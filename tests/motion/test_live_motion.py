"""Counting while it happens, against the analysis that knows the future."""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.errors import OptionError
from featherpose.evaluation.motion.known_people import KnownMotion, jumping_jacks, squatting
from featherpose.evaluation.motion.noise import bundled_noise, see_with_noise
from featherpose.motion.live import LiveMotion
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, LSP_14, OPENPOSE_18, Skeleton


def counts(known: KnownMotion, exercise: str, skeleton: Skeleton) -> list[int]:
    sequence = known.in_skeleton(skeleton)
    live = LiveMotion(exercise, skeleton)
    return [
        live.update(sequence.poses(row), float(sequence.timestamps_s[row]))[0]["count"]
        for row in range(sequence.num_frames)
    ]


@pytest.mark.parametrize("skeleton", [COCO_17, OPENPOSE_18, LSP_14], ids=lambda s: s.name)
@pytest.mark.parametrize("rate_hz", [10, 30])
def test_squats_are_counted_soon_after_the_turn(skeleton: Skeleton, rate_hz: float) -> None:
    known = squatting(6, rate_hz=rate_hz)
    seen = counts(known, "squat", skeleton)
    assert seen[-1] == 6
    for number, turn in enumerate(known.events["turn"], 1):
        counted = known.sequence.timestamps_s[seen.index(number)]
        assert turn < counted < turn + 1.0


@pytest.mark.parametrize("period_s", [2.5, 10, 20, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_slow_squats_count_once_with_all_errors_of_the_network(period_s: float, seed: int) -> None:
    sequence = see_with_noise(squatting(2, period_s=period_s), OPENPOSE_18, bundled_noise(), seed=seed)
    live = LiveMotion("squat", OPENPOSE_18)
    states = [live.update(sequence.poses(row), float(sequence.timestamps_s[row])) for row in range(sequence.num_frames)]
    assert next(state for state in reversed(states) if state)[0]["count"] == 2


def test_jumping_jacks_are_counted_face_on() -> None:
    assert counts(jumping_jacks(8), "jumping-jack", OPENPOSE_18)[-1] == 8


def test_each_person_has_a_count_and_those_who_leave_are_forgotten() -> None:
    sequence = squatting(2).in_skeleton(COCO_17)
    live = LiveMotion("squat", COCO_17)
    for row in range(sequence.num_frames):
        poses = sequence.poses(row)
        two = Poses(
            np.concatenate([poses.keypoints] * 2), np.concatenate([poses.keypoint_scores] * 2),
            np.concatenate([poses.scores] * 2), COCO_17, poses.image_size, np.array([5, -1]),
        )  # fmt: skip
        state = live.update(two, float(sequence.timestamps_s[row]))
        assert set(state) == {5}  # -1 is not confirmed yet
    assert state[5]["count"] == 2
    assert state[5]["angle_deg"] < 5
    live.update(Poses.empty(COCO_17, (64, 64)), 100.0)
    assert live.update(sequence.poses(0), 100.1)[0]["count"] == 0


def test_what_cannot_be_counted_is_one_clear_line() -> None:
    with pytest.raises(OptionError, match="exercise 'dance' is unknown; expected one of squat"):
        LiveMotion("dance", COCO_17)
    with pytest.raises(OptionError, match="squat needs left_knee or right_knee, which skeleton dot does not give"):
        LiveMotion("squat", Skeleton.create("dot", ["tip"], []))
