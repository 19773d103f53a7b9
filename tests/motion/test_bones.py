"""Keypoints at the end of bones that no body has."""

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
from featherpose.motion.cleaning.bones import reject_bones
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25


@pytest.mark.parametrize("known", [squatting(2), pendulum_arms(), walking(6), jumping(1), jumping_jacks(3)])
def test_nothing_of_a_true_person_is_rejected(known: KnownMotion) -> None:
    assert reject_bones(known.sequence).steps[-1].changed == 0


def hurt(change: str, rows: slice) -> PoseSequence:
    points = squatting(2).sequence.keypoints.copy()
    knee, ankle, hip = (BODY_25.index(f"left_{part}") for part in ("knee", "ankle", "hip"))
    if change == "ankle on the knee":
        points[rows, 0, ankle] = points[rows, 0, knee] + 3
    elif change == "ankle far away":
        points[rows, 0, ankle] += (250, 0)
    else:  # the knee on the hip: one bone collapses, the other is too long
        points[rows, 0, knee] = points[rows, 0, hip]
    return PoseSequence.from_arrays(points, squatting(2).sequence.timestamps_s, BODY_25)


@pytest.mark.parametrize(
    ("change", "joint"),
    [("ankle on the knee", "left_ankle"), ("ankle far away", "left_ankle"), ("knee on the hip", "left_knee")],
)
def test_the_joint_that_is_elsewhere_is_rejected(change: str, joint: str) -> None:
    clean = reject_bones(hurt(change, slice(60, 75)))
    missing = ~clean.found[:, 0]
    assert missing[60:75, BODY_25.index(joint)].all()
    assert missing.sum() == 15
    assert clean.scores[60, 0, BODY_25.index(joint)] == 0
    assert clean.raw.found.all()


def test_a_keypoint_alone_among_rejected_ones_is_rejected_with_them() -> None:
    """A frame in which bone and knee are wrong together seems right, and a gap would be filled up to it."""
    sequence = hurt("ankle on the knee", slice(60, 75))
    points = sequence.keypoints.copy()
    ankle = BODY_25.index("left_ankle")
    points[67, 0, ankle] -= (0, 60)
    missing = ~reject_bones(PoseSequence.from_arrays(points, sequence.timestamps_s, BODY_25)).found[:, 0, ankle]
    assert np.flatnonzero(missing).tolist() == list(range(60, 75))


def test_an_arm_that_turns_toward_the_camera_is_kept() -> None:
    """The forearm shortens to nothing within a third of a second, and grows again."""
    sequence = squatting(2).sequence
    points = sequence.keypoints.copy()
    elbow, wrist = BODY_25.index("left_elbow"), BODY_25.index("left_wrist")
    share = np.abs(np.sin(np.linspace(-np.pi / 2, np.pi / 2, 21)))[:, None]
    points[60:81, 0, wrist] = points[60:81, 0, elbow] + share * (points[60:81, 0, wrist] - points[60:81, 0, elbow])
    turned = PoseSequence.from_arrays(points, sequence.timestamps_s, BODY_25)
    assert reject_bones(turned).steps[-1].changed == 0


def test_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(OptionError, match="expected a range around 1"):
        reject_bones(squatting(1).sequence, longest=0.9)
