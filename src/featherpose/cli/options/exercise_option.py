"""``--motion`` of the commands that show live sources."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from featherpose.errors import OptionError
from featherpose.motion.events.exercise_rules import EXERCISES

__all__ = ["ExerciseOption", "check_exercise"]

ExerciseOption = Annotated[
    str | None,
    Parameter(
        help="Count repetitions of an exercise and show them with the joint's angle: squat, split-squat, push-up, "
        "pull-up, curl, jumping-jack, sit-up, deadlift."
    ),
]


def check_exercise(motion: str | None) -> str | None:
    """Return the exercise.

    Raises:
        OptionError: If it is unknown.
    """
    if motion is not None and motion not in EXERCISES:
        raise OptionError(f"--motion {motion} is unknown", expected=", ".join(EXERCISES))
    return motion
