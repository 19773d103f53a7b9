"""Where repetitions turn: peaks of a signal, and which of them belong to one repetition with a bounce.

Two peaks are two repetitions if the joint comes back by the prominence between them. Who does not stand up comes back
by less, in the image of a network that does not see the whole of it: half of the prominence is enough if it is a
quarter of the movement as well, the peaks are a quarter of the movement's duration apart, and knees and hips both do. A
bounce is smaller or shorter than that, and a misplaced ankle bends the knees alone.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks

from featherpose.motion.events.exercise_rules import ExerciseRule

__all__ = ["turning_points"]

# Least return between two repetitions: of the prominence, and of the movement's height and duration.
_PARTIAL = 0.5
_QUARTER = 0.25
# Least return of each kind of angle, as a share of their mean's.
_OF_EACH = 0.5


def turning_points(times: np.ndarray, values: np.ndarray, kinds: list[np.ndarray], rule: ExerciseRule) -> list[int]:
    """Find where repetitions turn: peaks without bounces and without those of no height.

    Args:
        times: float64[T], seconds.
        values: float64[T], the mean of the kinds, degrees, without gaps.
        kinds: float64[T] each; NaN where a kind of angle is unknown.
        rule: The exercise.

    Example:
        >>> from featherpose.motion.events.exercise_rules import EXERCISES
        >>> times = np.arange(0, 5, 0.1)
        >>> knees = np.interp(times, [0, 1, 2, 3, 4], [5, 100, 60, 90, 5])
        >>> turning_points(times, knees, [knees], EXERCISES["squat"])
        [10, 30]
    """
    peaks, _ = find_peaks(values, prominence=_PARTIAL * rule.prominence_deg, plateau_size=1)
    kept: list[int] = []
    for peak in peaks.tolist():
        if kept and not _comes_back(times, values, kinds, kept[-1], peak, rule):
            if values[peak] > values[kept[-1]]:
                kept[-1] = peak
            continue
        kept.append(peak)
    return [peak for peak in kept if values[peak] - _base(values, peak, peak) >= rule.prominence_deg]


def _comes_back(
    times: np.ndarray, values: np.ndarray, kinds: list[np.ndarray], first: int, second: int, rule: ExerciseRule
) -> bool:
    """Whether two peaks are two repetitions: see the top of this module."""
    lower = float(min(values[first], values[second]))
    back = _return(values, first, second)
    if back >= rule.prominence_deg:
        return True
    base = _base(values, first, second)
    height = lower - base
    if height < rule.prominence_deg or back < max(_PARTIAL * rule.prominence_deg, _QUARTER * height):
        return False
    if any(_return(kind, first, second) < _OF_EACH * back for kind in kinds):
        return False
    at_rest = values <= base + rule.edge * height
    before, after = np.flatnonzero(at_rest[:first]), second + np.flatnonzero(at_rest[second:])
    return bool(times[second] - times[first] >= _QUARTER * (times[after[0]] - times[before[-1]]))


def _return(values: np.ndarray, first: int, second: int) -> float:
    """Return how far a signal comes back between two rows; NaN if it is unknown in one of them."""
    between = values[first : second + 1]
    return float(min(between[0], between[-1]) - between[np.isfinite(between)].min(initial=np.inf))


def _base(values: np.ndarray, first: int, second: int) -> float:
    """Return the lowest level to which the signal falls on both sides of some peaks."""
    return float(max(values[: first + 1].min(), values[second:].min()))
