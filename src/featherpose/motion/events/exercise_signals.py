"""The angle of an exercise over time: its sides and kinds of angles as one signal.

A side that appears or disappears, and a keypoint that lies elsewhere for some frames, should move it little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featherpose.errors import OptionError
from featherpose.motion.angles import Angles, folded
from featherpose.motion.events.exercise_rules import ExerciseRule
from featherpose.motion.facing import FACINGS

__all__ = ["exercise_signal", "followed_angle", "mean_of_kinds", "sought_kinds", "sought_signal", "used_angles"]

# How much farther than usual knees and hips may be apart in one movement until the less steady ones count less, and
# until they do not count: a misplaced ankle bends the knee alone.
_APART_DEG, _MAX_APART_DEG = 17.5, 35.0


def exercise_signal(angles: Angles, rule: ExerciseRule, person: int = 0) -> np.ndarray:
    """Return float64[T]: the angle that is followed; a side without a value in a frame is left out of it.

    Raises:
        OptionError: If the skeleton gives none of the rule's angles.
    """
    names = [name for name in rule.angles if name in angles]
    if not names:
        raise OptionError(
            f"{rule.name} needs {' or '.join(rule.angles)}, which this skeleton does not give",
            hint="name another exercise or your own signal",
        )
    return _combined(angles, names, rule.combine, person)


def sought_signal(angles: Angles, rule: ExerciseRule, person: int, signal: np.ndarray) -> np.ndarray:
    """Return float64[T]: the signal in which turning points are sought."""
    return mean_of_kinds(sought_kinds(angles, rule, person, signal))


def sought_kinds(angles: Angles, rule: ExerciseRule, person: int, signal: np.ndarray) -> list[np.ndarray]:
    """Return the rule's angles, and those along in a view from the side; the less steady side counts less there."""
    # Face on, hips that bend are not seen to, and neither side hides the other.
    aside = np.isin(angles.facing[:, person], (FACINGS.index("right"), FACINGS.index("left"))).mean() >= 0.5
    if not aside or rule.combine != "mean":
        return [signal]
    own, along = ([name for name in names if name in angles] for names in (rule.angles, rule.along))
    first = _combined(angles, own, "steady", person) if len(own) > 1 else signal
    return [first, _combined(angles, along, "steady", person)] if along else [first]


def mean_of_kinds(kinds: list[np.ndarray]) -> np.ndarray:
    """Return the mean of both kinds of angles; the less steady one counts as far as the other one expects it.

    Its distance from there enters by a redescending function (Hampel 1974, "The Influence Curve and Its Role in Robust
    Estimation"): a knee of 160 degrees for some frames must not turn a squat.
    """
    if len(kinds) == 1:
        return kinds[0]
    there = np.isfinite(kinds[0]) & np.isfinite(kinds[1])
    steady, other = sorted(kinds, key=_steadiness, reverse=True)
    apart = np.where(there, other - steady, 0.0)
    usual = float(np.median(apart[there])) if there.any() else 0.0
    falls = (_MAX_APART_DEG - np.abs(apart - usual)) / (_MAX_APART_DEG - _APART_DEG)
    expected = steady + usual + (apart - usual) * np.clip(falls, 0, 1)
    return np.asarray(np.where(there, (steady + expected) / 2, kinds[0]))


def used_angles(angles: Angles, names: Sequence[str], person: int = 0) -> list[str]:
    """Return the angles that are seen most of the time; one that appears and disappears would shift their mean."""
    shares = [float(np.isfinite(angles[name][:, person]).mean()) for name in names]
    return [name for name, share in zip(names, shares, strict=True) if share >= 0.8 * max(shares)]


def _combined(angles: Angles, names: Sequence[str], combine: str, person: int) -> np.ndarray:
    if combine != "max":
        names = used_angles(angles, names, person)
    values = _rows(angles, names, person)
    there = np.isfinite(values)
    if combine in ("max", "min"):
        sign = 1 if combine == "max" else -1
        best = sign * np.where(there, sign * values, -np.inf).max(0)
        # Of a side that is not seen nobody knows whether it is the smaller one.
        return np.where(there.any(0) if combine == "max" else there.all(0), best, np.nan)
    weights = np.array([_steadiness(row) for row in values]) if combine == "steady" else np.ones(len(values))
    values = _filled(values)
    there = np.isfinite(values)
    total = weights @ there
    known = total > 0
    return np.asarray(np.where(known, weights @ np.where(there, values, 0) / np.where(known, total, 1), np.nan))


def _filled(values: np.ndarray) -> np.ndarray:
    """Fill the gaps of one side by the other, as much larger or smaller as it is before and after.

    The mean of both would move where a side appears or disappears, as if the person did.

    Example:
        >>> _filled(np.array([[10.0, 20.0, np.nan, 40.0], [14.0, np.nan, 35.0, 46.0]])).round(1)
        array([[10. , 20. , 29.7, 40. ],
               [14. , 24.7, 35. , 46. ]])
    """
    there = np.isfinite(values)
    rows = np.flatnonzero(there.all(0))
    if not 0 < len(rows) < values.shape[1]:
        return values
    apart = values[:, rows] - values[:, rows].mean(0)
    apart = np.stack([np.interp(np.arange(values.shape[1]), rows, one) for one in apart])
    count = there.sum(0)
    level = np.where(there, values - apart, 0).sum(0) / np.where(count, count, np.nan)
    return np.asarray(np.where(there, values, level + apart))


def _rows(angles: Angles, names: Sequence[str], person: int) -> np.ndarray:
    """Return float64[A, T], the angles as they are compared and combined."""
    values = np.stack([angles[name][:, person] for name in names])
    # Knees and elbows bend one way only, and arms overhead pass 180 degrees, where the sign changes: without the sign
    # the signal does not depend on the direction that a person faces.
    signless = np.array([name.endswith(("_knee", "_elbow", "_shoulder")) for name in names])
    values[signless] = folded(values[signless])
    return values


def followed_angle(angles: Angles, names: Sequence[str], person: int, row: int, combine: str) -> str:
    """Return the angle that a signal of the larger or smaller side (``max``, ``min``) follows in a row."""
    values = _rows(angles, names, person)[:, row] * (1 if combine == "max" else -1)
    return names[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))]


def _steadiness(values: np.ndarray) -> float:
    """Return the weight of an angle: the inverse square of its way up and down in multiples of its range.

    A joint that the body hides is put here and there, and its angle goes up and down more often than the movement does.
    """
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return 1.0
    low, high = np.percentile(known, [5, 95])
    return float((max(high - low, 1.0) / max(np.abs(np.diff(known)).sum(), 1.0)) ** 2)
