r"""Joint and segment angles in the image plane, in degrees, by the conventions of the field.

Joint angles are 0 in the anatomical position and positive in flexion:

    knee, elbow   0 straight, positive flexed
    hip           0 thigh in line with the trunk, positive thigh to the front
    shoulder      0 arm along the trunk, positive arm to the front
    ankle         0 foot square to the shank, positive toes up (dorsiflexion); needs heel and toe
    neck          0 head in line with the trunk, positive head to the front
    trunk_lean    0 upright, positive leaning to the front

Segment angles are measured from the horizontal, counterclockwise when the person faces right and mirrored when they
face left: a standing trunk has 90, a standing thigh -90 (from hip down to knee).

                      neck o                        trunk +90
                           |                             ^
           shoulder (+) /  |                             |
                       o   |   hip (+)                   +----> 0
              elbow        o-----                        |
                           |\                            v
                     knee  | o                      thigh -90
                           |/
                          _o_                       (person facing right; y up)

They are the conventions of Sports2D (Pagnon, J. Open Source Softw. 2024), so curves of both can be laid over each
other. In a view from the front or back the same numbers are abduction (positive away from the midline, both sides),
and flexion in the depth of the image cannot be seen.

Curves do not jump by a whole turn. Each angle has a middle, the center of what the joint can do (75 for a knee, which
goes from -20 to 170); a first value lies within half a turn of it, and each further value is the one nearest to the
value before, up to 60 degrees beyond. An elbow that folds to 175, and in the image on to 185, therefore stays at 185
and does not become -175.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from featherpose.errors import OptionError
from featherpose.jit import kernel
from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.filters import derivative
from featherpose.motion.facing import FACINGS, Facing, facing_over_time
from featherpose.motion.sequence import PoseSequence

__all__ = ["ANGLES", "Angle", "Angles", "folded", "joint_angles"]

# How far beyond half a turn from its middle a curve may go on, in turns.
_BEYOND = 1 / 6


@dataclass(frozen=True, slots=True)
class Angle:
    """Definition of one angle.

    Attributes:
        name: Such as ``left_knee``.
        kind: ``joint`` or ``segment``.
        first: (from, to): the first vector.
        second: (from, to): the second vector; None for a segment, whose second vector is the horizontal.
        offset: Degrees that are added to the angle from the first vector to the second.
        middle: Center of what the body can do, for a person seen from the side; a curve stays near it.
        axial: Whether turning the segment round changes nothing (shoulders, pelvis): -90..90 degrees.
    """

    name: str
    kind: str
    first: tuple[str, str]
    second: tuple[str, str] | None = None
    offset: float = 0.0
    middle: float = 0.0
    axial: bool = False

    @property
    def points(self) -> tuple[str, ...]:
        """Return the keypoints that it needs."""
        return tuple(dict.fromkeys((*self.first, *(self.second or ()))))

    @property
    def side(self) -> str:
        """Return ``left``, ``right`` or empty."""
        side = self.name.split("_")[0]
        return side if side in ("left", "right") else ""


def _definitions() -> dict[str, Angle]:
    trunk = ("mid_hip", "neck")
    angles: list[Angle] = []
    for side in ("left", "right"):
        hip, knee, ankle, heel, toe, shoulder, elbow, wrist = (
            f"{side}_{part}" for part in ("hip", "knee", "ankle", "heel", "big_toe", "shoulder", "elbow", "wrist")
        )
        # Flexion is the turn from the second vector to the first, counterclockwise for a person facing right. The
        # foot is square to the shank when it is a quarter turn clockwise from it, hence 90.
        angles += [
            Angle(f"{side}_ankle", "joint", (heel, toe), (ankle, knee), offset=90.0),
            Angle(f"{side}_knee", "joint", (hip, knee), (knee, ankle), middle=75),
            Angle(f"{side}_hip", "joint", (hip, knee), ("neck", "mid_hip"), middle=55),
            Angle(f"{side}_shoulder", "joint", (shoulder, elbow), ("neck", "mid_hip"), middle=65),
            Angle(f"{side}_elbow", "joint", (elbow, wrist), (shoulder, elbow), middle=75),
            Angle(f"{side}_foot", "segment", (heel, toe)),
            Angle(f"{side}_shank", "segment", (knee, ankle), middle=-90),
            Angle(f"{side}_thigh", "segment", (hip, knee), middle=-45),
            Angle(f"{side}_arm", "segment", (shoulder, elbow), middle=-30),
            Angle(f"{side}_forearm", "segment", (elbow, wrist), middle=-30),
        ]
    angles += [
        Angle("neck", "joint", trunk, ("neck", "head")),
        Angle("trunk_lean", "joint", ("vertical", "vertical"), trunk),
        Angle("trunk", "segment", trunk, middle=90),
        Angle("head", "segment", ("neck", "head"), middle=90),
        Angle("pelvis", "segment", ("right_hip", "left_hip"), axial=True),
        Angle("shoulders", "segment", ("right_shoulder", "left_shoulder"), axial=True),
    ]
    return {angle.name: angle for angle in angles}


ANGLES: dict[str, Angle] = _definitions()
"""Every angle by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Angles:
    """Angles over time.

    Attributes:
        values: float64[T, P, A], degrees; NaN where a keypoint is missing.
        names: A names, as in `ANGLES`.
        timestamps_s: float64[T].
        track_ids: P ids.
        facing: int64[T, P], index into `featherpose.motion.facing.FACINGS`.
    """

    values: Float64[np.ndarray, "T P A"]
    names: tuple[str, ...]
    timestamps_s: Float64[np.ndarray, " T"]
    track_ids: tuple[int, ...]
    facing: np.ndarray

    def __getitem__(self, name: str) -> Float64[np.ndarray, "T P"]:
        """Return one angle.

        Raises:
            OptionError: If the skeleton cannot give it, or there is none by that name.
        """
        if name not in self.names:
            raise OptionError(f"there is no angle {name!r}", expected=f"one of {', '.join(self.names)}")
        return self.values[..., self.names.index(name)]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @property
    def velocity(self) -> Float64[np.ndarray, "T P A"]:
        """Return the angular velocity, degrees a second."""
        return derivative(self.values, self.timestamps_s)

    def beside(self, others: Angles) -> Angles:
        """Return these angles on the turn that is nearest to others of the same shape, to be drawn together."""
        whole = np.array([180.0 if ANGLES[name].axial else 360.0 for name in self.names])
        apart = self.values - others.values
        near = self.values - whole * np.round(np.nan_to_num(apart) / whole)
        return replace(self, values=near)

    def select(self, people: Sequence[int]) -> Angles:
        """Return some of the people, by their places."""
        which = list(people)
        if which == list(range(len(self.track_ids))):
            return self
        return replace(
            self,
            values=self.values[:, which],
            track_ids=tuple(self.track_ids[p] for p in which),
            facing=self.facing[:, which],
        )


def joint_angles(sequence: PoseSequence, names: Sequence[str] | None = None, *, facing: Facing | None = None) -> Angles:
    """Compute the angles of everyone over time.

    Args:
        sequence: Poses over time, filtered or not, in pixels or meters.
        names: Which of `ANGLES`; all that the skeleton can give unless named.
        facing: Where the front of the body points; detected unless given.

    Raises:
        OptionError: If a name is unknown or needs keypoints that the skeleton lacks.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.full((1, 17, 2), np.nan)
        >>> points[0, [12, 14, 16]] = (50, 50), (80, 50), (80, 90)  # right hip, knee, ankle: sitting, facing right
        >>> sequence = PoseSequence.from_arrays(points, np.zeros(1), COCO_17)
        >>> joint_angles(sequence, ["right_knee"], facing="right")["right_knee"].round(6)
        array([[90.]])
    """
    available = _points(sequence)
    if names is None:
        wanted = [a for a in ANGLES.values() if all(point in available for point in a.points)]
    else:
        wanted = []
        for name in names:
            if name not in ANGLES:
                raise OptionError(f"there is no angle {name!r}", expected=f"one of {', '.join(ANGLES)}")
            if lacking := [point for point in ANGLES[name].points if point not in available]:
                raise OptionError(
                    f"the angle {name} needs {lacking[0]}, which skeleton {sequence.skeleton.name} lacks",
                    hint="take a network whose skeleton has it",
                )
            wanted.append(ANGLES[name])
    faces = facing_over_time(sequence, facing)
    mirror = np.where(faces == FACINGS.index("left"), -1.0, 1.0)
    # Face on, the person's left is on the right of the image: mirroring the right side makes outward positive on both.
    outward = {
        "left": np.where(faces == FACINGS.index("back"), -1.0, mirror),
        "right": np.where(faces == FACINGS.index("front"), -1.0, mirror),
        "": mirror,
    }
    down = 1.0 if sequence.unit == "px" else -1.0
    values = np.empty((sequence.num_frames, sequence.num_people, len(wanted)))
    for i, angle in enumerate(wanted):
        sign = outward[angle.side]
        ux, uy = _vector(available, angle.first, sign, down)
        if angle.second is None:
            turn = np.degrees(np.arctan2(uy, ux))
        else:
            vx, vy = _vector(available, angle.second, sign, down)
            turn = np.degrees(np.arctan2(vx * uy - vy * ux, vx * ux + vy * uy))
        values[..., i] = turn + angle.offset
    _unroll(values.reshape(len(values), -1), *_branches(wanted, faces))
    return Angles(values, tuple(a.name for a in wanted), sequence.timestamps_s, sequence.track_ids, faces)


def folded(degrees: np.ndarray) -> np.ndarray:
    """Return how far angles are from 0 by the shorter way round, 0..180.

    Example:
        >>> folded(np.array([170.0, 185.0, -20.0]))
        array([170., 175.,  20.])
    """
    return np.asarray(np.abs((degrees + 180) % 360 - 180))


def _branches(angles: Sequence[Angle], faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float64[P A] each: the middle of each curve and its period, for each person."""
    aside = np.isin(faces, (FACINGS.index("right"), FACINGS.index("left"))).mean(0) >= 0.5
    # Face on, a forearm points in or out alike.
    both_ways = np.array([angle.name.endswith(("_knee", "_elbow")) for angle in angles])
    middles = np.where(both_ways & ~aside[:, None], 0.0, [angle.middle for angle in angles])
    periods = np.tile([180.0 if angle.axial else 360.0 for angle in angles], (len(aside), 1))
    return middles.reshape(-1), periods.reshape(-1)


@kernel
def _unroll(values: np.ndarray, middles: np.ndarray, periods: np.ndarray) -> None:
    """Add whole periods to each column of float64[T, C] in place, so that it goes on where it was; NaN is skipped."""
    for column in range(values.shape[1]):
        middle, period = middles[column], periods[column]
        before = middle
        for row in range(len(values)):
            value = values[row, column]
            if value != value:
                continue
            value -= period * np.floor((value - before) / period + 0.5)
            if abs(value - middle) > period * (0.5 + _BEYOND):
                value -= period * np.floor((value - middle) / period + 0.5)
            values[row, column] = before = value


def _vector(
    points: dict[str, np.ndarray], ends: tuple[str, str], sign: np.ndarray, down: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors with x to the front and y up."""
    if ends == ("vertical", "vertical"):
        return np.zeros_like(sign), np.ones_like(sign)
    vector = points[ends[1]] - points[ends[0]]
    return vector[..., 0] * sign, -down * vector[..., 1]


def _points(sequence: PoseSequence) -> dict[str, np.ndarray]:
    names = {point for angle in ANGLES.values() for point in angle.points} - {"head", "vertical"}
    points = body_points(sequence, [*sorted(names), "head_top", "mid_ear", "nose"])
    for name in ("head_top", "mid_ear"):
        if name in points:
            points["head"] = points[name]
            break
    if "neck" in points:
        points["vertical"] = points["neck"]  # a direction; it needs no place of its own
    return points
