"""Angles on people whose angles are known."""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.errors import OptionError
from featherpose.evaluation.motion.known_people import (
    KnownMotion,
    jumping,
    jumping_jacks,
    pendulum_arms,
    squatting,
    walking,
)
from featherpose.motion.angles import ANGLES, joint_angles
from featherpose.motion.cleaning.filters import filter_sequence
from featherpose.motion.facing import facing_of, facing_over_time
from featherpose.motion.meters import Scale, to_meters
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18

PEOPLE = {
    "squats to the right": squatting(),
    "squats to the left": squatting(facing="left"),
    "pendulum arms": pendulum_arms(),
    "pendulum arms to the left": pendulum_arms(facing="left"),
    "walking": walking(),
    "walking to the left": walking(facing="left"),
    "jumping": jumping(),
    "jumping jacks, face on": jumping_jacks(),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_angles_are_the_known_ones(name: str) -> None:
    known = PEOPLE[name]
    assert worst_error(known, known.sequence) <= 0.1  # degrees, root mean square


@pytest.mark.parametrize("name", PEOPLE)
def test_the_default_filter_changes_angles_by_less_than_a_degree(name: str) -> None:
    known = PEOPLE[name]
    assert worst_error(known, filter_sequence(known.sequence)) <= 1.0


def worst_error(known: KnownMotion, sequence: PoseSequence) -> float:
    angles = joint_angles(sequence)
    names = [angle for angle in known.angles if angle in angles]
    assert len(names) >= 5
    return max(float(np.sqrt(np.mean((angles[n][:, 0] - known.angles[n]) ** 2))) for n in names)


def test_meters_and_pixels_give_the_same_angles() -> None:
    sequence = walking(6, facing="left").sequence
    metric = to_meters(sequence, Scale(0.004, 0.0, origin_px=(10, 300)))
    np.testing.assert_allclose(joint_angles(metric).values, joint_angles(sequence).values, atol=1e-6)


def test_segment_angles_of_somebody_standing() -> None:
    angles = joint_angles(squatting(1).sequence)
    standing = {name: float(angles[name][0, 0]) for name in angles.names}
    for name, degrees in (("trunk", 90), ("left_thigh", -90), ("right_shank", -90), ("left_foot", 0)):
        assert standing[name] == pytest.approx(degrees, abs=1e-6)


@pytest.mark.parametrize("skeleton", [COCO_17, OPENPOSE_18], ids=lambda s: s.name)
def test_skeletons_without_feet_have_no_ankle_angle(skeleton: type) -> None:
    sequence = squatting(1).in_skeleton(skeleton)  # type: ignore[arg-type]
    angles = joint_angles(sequence)
    assert "left_ankle" not in angles
    assert "left_knee" in angles
    with pytest.raises(OptionError, match="left_ankle needs left_heel"):
        joint_angles(sequence, ["left_ankle"])


def test_an_unknown_angle_is_named() -> None:
    with pytest.raises(OptionError, match="no angle 'knee'; expected one of left_ankle"):
        joint_angles(squatting(1).sequence, ["knee"])


def test_missing_keypoints_give_missing_angles() -> None:
    sequence = squatting(1).sequence
    points = sequence.keypoints.copy()
    points[3, 0, BODY_25.index("left_knee")] = np.nan
    hurt = PoseSequence.from_arrays(points, sequence.timestamps_s, BODY_25)
    angles = joint_angles(hurt)
    assert np.isnan(angles["left_knee"][3, 0])
    assert np.isfinite(angles["right_knee"][3, 0])
    assert np.isfinite(angles["left_knee"][4, 0])


@pytest.mark.parametrize("skeleton", [BODY_25, COCO_17, OPENPOSE_18], ids=lambda s: s.name)
def test_the_side_that_somebody_faces_is_found(skeleton: type) -> None:
    seen = {name: facing_of(known.in_skeleton(skeleton))[0] for name, known in PEOPLE.items()}  # type: ignore[arg-type]
    assert seen == {
        name: "front" if "face on" in name else "left" if "to the left" in name else "right" for name in PEOPLE
    }


def test_somebody_who_lies_face_down_faces_where_the_belly_is() -> None:
    """A push-up with the head on the left: upright again, that person would face left."""
    sequence = squatting(1, facing="left").sequence
    x, y = sequence.keypoints[..., 0], sequence.keypoints[..., 1]
    level = PoseSequence.from_arrays(np.stack([y, -x], -1), sequence.timestamps_s, BODY_25)
    assert facing_of(level) == ["left"]
    np.testing.assert_allclose(
        joint_angles(level)["left_knee"], joint_angles(sequence)["left_knee"], atol=1e-6
    )  # joint angles do not depend on how the body lies


def test_somebody_who_turns_round_keeps_the_sign_of_flexion() -> None:
    there, back = walking(8).sequence, walking(8, facing="left").sequence
    points = np.concatenate([there.keypoints, back.keypoints])
    times = np.arange(len(points)) / 30
    both = PoseSequence.from_arrays(points, times, BODY_25)
    facing = facing_over_time(both)[:, 0]
    turn = there.num_frames
    assert (facing[: turn - 20] == 0).all()
    assert (facing[turn + 20 :] == 1).all()
    knee = joint_angles(both)["left_knee"][:, 0]
    away = np.abs(np.arange(len(points)) - turn) > 20
    assert knee[away].min() > 0


def test_every_angle_has_a_definition_that_its_points_can_give() -> None:
    assert len(ANGLES) == 26
    for angle in ANGLES.values():
        assert angle.kind in ("joint", "segment")
        assert (angle.second is None) == (angle.kind == "segment")


@pytest.mark.parametrize("facing", ["left", "right"])
def test_an_elbow_that_folds_and_trembles_does_not_jump_by_a_turn(facing: str) -> None:
    """Hands on a bar at the neck: wrists beside the shoulders, a little in front of them or behind."""
    folded_by = 176 + 8 * np.sin(np.arange(120) / 5)
    known = bent_arm(folded_by, facing)
    angles = joint_angles(known)
    np.testing.assert_allclose(angles["left_elbow"][:, 0], folded_by, atol=1e-6)
    assert np.abs(angles.velocity).max() < 1000  # degrees a second; a jump would be ten thousand


def bent_arm(elbow: np.ndarray, facing: str) -> PoseSequence:
    sequence = pendulum_arms(seconds=len(elbow) / 60, facing=facing).sequence
    points = sequence.keypoints[: len(elbow)].copy()
    shoulder, joint, wrist = (BODY_25.index(f"left_{part}") for part in ("shoulder", "elbow", "wrist"))
    points[:, 0, joint] = points[:, 0, shoulder] + (0, 80)
    sign = 1.0 if facing == "right" else -1.0
    # From straight down the forearm turns forward and up.
    turn = np.radians(elbow)
    points[:, 0, wrist] = points[:, 0, joint] + 60 * np.stack([sign * np.sin(turn), np.cos(turn)], -1)
    return PoseSequence.from_arrays(points, sequence.timestamps_s[: len(elbow)], BODY_25)


def test_a_curve_goes_on_over_missing_frames_and_comes_back_after_a_whole_turn() -> None:
    elbow = np.concatenate(
        [np.linspace(0, 190, 40), np.linspace(190, 20, 40), np.linspace(20, 380, 90), np.full(20, 380)]
    )
    sequence = bent_arm(elbow, "right")
    points = sequence.keypoints.copy()
    points[38:42, 0, BODY_25.index("left_wrist")] = np.nan
    angles = joint_angles(PoseSequence.from_arrays(points, sequence.timestamps_s, BODY_25))["left_elbow"][:, 0]
    np.testing.assert_allclose(angles[42:80], elbow[42:80], atol=1e-6)
    # A wrist that goes all the way round, which no arm does, leaves a straight arm straight.
    assert angles[-1] == pytest.approx(20, abs=1e-6)


def test_raw_angles_lie_on_the_turn_of_the_filtered_ones() -> None:
    raw = joint_angles(bent_arm(np.full(60, 200.0), "right"))
    smooth = joint_angles(bent_arm(np.full(60, -150.0), "right"))  # the same posture, 10 degrees apart
    assert np.abs(raw.beside(smooth).values - smooth.values).max() < 11


def test_segments_stay_on_one_turn_about_their_resting_posture() -> None:
    """A thigh that swings behind the vertical, and an arm that goes overhead and beyond."""
    angles = joint_angles(bent_arm(np.linspace(100, 260, 60), "right"), ["left_forearm"])
    assert np.abs(np.diff(angles["left_forearm"][:, 0])).max() < 5
