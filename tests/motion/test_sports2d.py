"""Angles against Sports2D's definitions, written down plainly from its published table (Pagnon 2024; BSD-3).

An angle of three or four points is the turn between two vectors, of two points the direction of one; an offset and a
sign make it flexion. x is mirrored when the person faces left. `benchmarks/motion.py --sports2d` runs the program
itself.
"""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.evaluation.motion.known_people import jumping, pendulum_arms, squatting, walking
from featherpose.evaluation.motion.noise import bundled_noise, see_with_noise
from featherpose.motion.angles import joint_angles
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25

# Name -> points, offset, sign. With four points the vectors are first to second and third to fourth.
TABLE: dict[str, tuple[list[str], float, float]] = {}
for side in ("left", "right"):
    TABLE |= {
        f"{side}_ankle": ([f"{side}_knee", f"{side}_ankle", f"{side}_big_toe", f"{side}_heel"], 90, 1),
        f"{side}_knee": ([f"{side}_ankle", f"{side}_knee", f"{side}_hip"], -180, 1),
        f"{side}_hip": ([f"{side}_knee", f"{side}_hip", "mid_hip", "neck"], 0, -1),
        f"{side}_shoulder": ([f"{side}_elbow", f"{side}_shoulder", "mid_hip", "neck"], 0, -1),
        f"{side}_elbow": ([f"{side}_wrist", f"{side}_elbow", f"{side}_shoulder"], 180, -1),
        f"{side}_foot": ([f"{side}_big_toe", f"{side}_heel"], 0, -1),
        f"{side}_shank": ([f"{side}_ankle", f"{side}_knee"], 0, -1),
        f"{side}_thigh": ([f"{side}_knee", f"{side}_hip"], 0, -1),
        f"{side}_arm": ([f"{side}_elbow", f"{side}_shoulder"], 0, -1),
        f"{side}_forearm": ([f"{side}_wrist", f"{side}_elbow"], 0, -1),
    }
TABLE |= {
    "trunk": (["neck", "mid_hip"], 0, -1),
    "pelvis": (["left_hip", "right_hip"], 0, -1),
    "shoulders": (["left_shoulder", "right_shoulder"], 0, -1),
}


def plainly(sequence: PoseSequence, name: str, mirror: float) -> np.ndarray:
    points, offset, sign = TABLE[name]
    out = []
    for row in range(sequence.num_frames):
        places = []
        for point in points:
            x, y = sequence.keypoints[row, 0, BODY_25.index(point)]
            places.append(complex(mirror * x, y))
        if len(places) == 2:
            turn = np.degrees(np.angle(places[0] - places[1]))
        else:
            if len(places) == 3:
                u, v = places[0] - places[1], places[2] - places[1]
            else:
                u, v = places[1] - places[0], places[3] - places[2]
            turn = np.degrees(np.angle(u * np.conj(v)))
        out.append((turn + offset) * sign)
    return np.array(out)


@pytest.mark.parametrize("facing", ["right", "left"])
@pytest.mark.parametrize("noisy", [False, True])
def test_every_common_angle_agrees(facing: str, noisy: bool) -> None:
    people = (walking(3, facing=facing), squatting(1, facing=facing), pendulum_arms(seconds=1, facing=facing))
    for known in (*people, jumping(1, facing=facing)):
        sequence = known.sequence
        if noisy:
            sequence = see_with_noise(known, BODY_25, bundled_noise(), seed=3)
        ours = joint_angles(sequence, facing="left" if facing == "left" else "right")
        for name in TABLE:
            turn = 180 if name in ("pelvis", "shoulders") else 360
            theirs = plainly(sequence, name, -1.0 if facing == "left" else 1.0)
            apart = (ours[name][:, 0] - theirs + turn / 2) % turn - turn / 2
            there = np.isfinite(apart)
            assert there.any() or noisy
            if name in ("pelvis", "shoulders") and not noisy:
                continue  # both ends lie in one point in an exact side view: there is no direction
            assert np.abs(apart[there]).max() < 1e-6, name
