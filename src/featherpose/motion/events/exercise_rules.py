"""The exercises: by which angles their repetitions are found, and how much of a movement it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from featherpose.errors import OptionError
from featherpose.motion.angles import ANGLES

__all__ = ["EXERCISES", "ExerciseRule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExerciseRule:
    """Rule by which repetitions of an exercise are found in its angles.

    Attributes:
        name: Name of the exercise.
        angles: Angles whose mean is the signal; the angles of a hidden side are left out.
        along: Angles that go along with the movement in a view from the side. Turning points are sought in the mean of
            all, in which one misplaced joint weighs less; depth and sides are those of ``angles`` alone.
        combine: ``mean`` of all, ``max``: the larger side, for exercises of one limb, or ``min``: the smaller one,
            where both must take part.
        prominence_deg: Least movement from rest to the turning point, and back.
        least_deg: Least signal at the turning point: arms that swing forward are no jumping jack.
        level: Whether the trunk is more level than upright at the turning point; None for either.
        min_duration_s: Shortest repetition.
        edge: Share of the movement that counts as still at rest: where start and end of a repetition are put.

    Raises:
        OptionError: If an angle is unknown or a number outside its range.
    """

    name: str
    angles: tuple[str, ...]
    along: tuple[str, ...] = ()
    combine: str = "mean"
    prominence_deg: float = 35.0
    least_deg: float = 0.0
    level: bool | None = None
    min_duration_s: float = 0.3
    edge: float = 0.1

    def __post_init__(self) -> None:
        for angle in (*self.angles, *self.along):
            if angle not in ANGLES:
                raise OptionError(f"there is no angle {angle!r}", expected=f"one of {', '.join(ANGLES)}")
        if not self.angles:
            raise OptionError(f"exercise {self.name!r} names no angle", expected="one or more")
        if self.combine not in ("mean", "max", "min"):
            raise OptionError(f"combine {self.combine!r}", expected="mean, max or min")
        if not 0 < self.prominence_deg <= 180 or not 0 <= self.min_duration_s <= 60 or not 0 < self.edge < 0.5:
            raise OptionError(
                f"prominence {self.prominence_deg} degrees, duration {self.min_duration_s} s, edge {self.edge}",
                expected="up to 180 degrees, up to 60 s, under 0.5",
            )


def _rules() -> dict[str, ExerciseRule]:
    def both(part: str) -> tuple[str, str]:
        return f"left_{part}", f"right_{part}"

    rules = [
        ExerciseRule(name="squat", angles=both("knee"), along=both("hip"), prominence_deg=30, min_duration_s=0.6),
        ExerciseRule(name="split-squat", angles=both("knee"), along=both("hip"), prominence_deg=25, min_duration_s=0.6),
        ExerciseRule(name="push-up", angles=both("elbow"), prominence_deg=30, level=True, min_duration_s=0.6),
        ExerciseRule(name="pull-up", angles=both("elbow"), prominence_deg=40, level=False, min_duration_s=0.6),
        ExerciseRule(name="curl", angles=both("elbow"), combine="max", prominence_deg=50, min_duration_s=0.5),
        ExerciseRule(
            name="jumping-jack",
            angles=both("shoulder"),
            combine="min",
            prominence_deg=60,
            least_deg=120,
            min_duration_s=0.4,
        ),
        ExerciseRule(name="sit-up", angles=both("hip"), prominence_deg=30, min_duration_s=0.6),
        ExerciseRule(name="deadlift", angles=both("hip"), prominence_deg=35, min_duration_s=0.6),
    ]
    return {rule.name: rule for rule in rules}


EXERCISES: Mapping[str, ExerciseRule] = _rules()
"""The exercises that are known by name."""
