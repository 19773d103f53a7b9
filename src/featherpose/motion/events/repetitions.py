"""Repetitions of an exercise: peaks of an angle signal, with depth, tempo and symmetry.

A repetition is a peak of the signal that stands out by at least the rule's prominence on both sides (the topographic
prominence of `scipy.signal.find_peaks`): the joint bends from a resting posture and comes back. A movement that is cut
off by the beginning or end of the recording is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from featherpose.errors import OptionError
from featherpose.motion.angles import Angles, folded
from featherpose.motion.events.exercise_rules import EXERCISES, ExerciseRule
from featherpose.motion.events.exercise_signals import (
    exercise_signal,
    followed_angle,
    mean_of_kinds,
    sought_kinds,
)
from featherpose.motion.events.turning_points import turning_points
from featherpose.motion.measures import Measure

__all__ = [
    "Repetition",
    "RepetitionUncertainty",
    "Repetitions",
    "find_repetitions",
    "parabola",
]

# Of the way out and of the way back, the part of which more must be seen of the limb that moves.
_SEEN = 0.5


@dataclass(frozen=True, slots=True)
class RepetitionUncertainty:
    """One standard deviation of random error of each number of a repetition; NaN where it is unknown.

    Attributes:
        depth_deg: Of the depth.
        range_deg: Of the movement.
        turn_s: Of the time of the turning point.
        out_s: Of the duration of the way out.
        back_s: Of the duration of the way back.
        left_deg: Of the left side's own angle.
        right_deg: Of the right side's.
    """

    depth_deg: float = float("nan")
    range_deg: float = float("nan")
    turn_s: float = float("nan")
    out_s: float = float("nan")
    back_s: float = float("nan")
    left_deg: float = float("nan")
    right_deg: float = float("nan")


@dataclass(frozen=True, slots=True)
class Repetition:
    """One repetition; rows are places in the sequence, times are seconds.

    Attributes:
        start: Row where the movement leaves rest.
        turn: Row of the turning point.
        end: Row where rest is reached again.
        start_s: Time of ``start``.
        turn_s: Time of the turning point, between the frames by a parabola through the highest three values.
        end_s: Time of ``end``.
        depth_deg: Signal at the turning point.
        rest_deg: Signal at rest before it.
        range_deg: The movement: depth minus the mean of the rests before and after.
        out_s: Duration from rest to the turning point (a squat's way down).
        back_s: Duration of the way back.
        left_deg: The left side's own angle at the turning point; NaN if it is not in the signal.
        right_deg: Likewise.
        uncertainty: Of these numbers; `featherpose.motion.events.repetition_uncertainty` finds it.
    """

    start: int
    turn: int
    end: int
    start_s: float
    turn_s: float
    end_s: float
    depth_deg: float
    rest_deg: float
    range_deg: float
    out_s: float
    back_s: float
    left_deg: float = float("nan")
    right_deg: float = float("nan")
    uncertainty: RepetitionUncertainty = RepetitionUncertainty()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Repetitions:
    """All repetitions of one person.

    Attributes:
        rule: How they were found.
        signal: float64[T], degrees.
        found: The repetitions, in order.
    """

    rule: ExerciseRule
    signal: np.ndarray
    found: tuple[Repetition, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        return f"Repetitions({len(self)} of {self.rule.name})"

    @property
    def tempo_s(self) -> float:
        """Return the mean time from one turning point to the next; NaN for fewer than two."""
        return self.tempo.value

    @property
    def tempo(self) -> Measure:
        """Return the mean time from one turning point to the next, with its uncertainty."""
        if len(self) < 2:
            return Measure(float("nan"), "s")
        first, last = self.found[0], self.found[-1]
        # Repetitions share their turning points, so the error of the mean is that of the first and last one.
        error = float(np.hypot(first.uncertainty.turn_s, last.uncertainty.turn_s))
        return Measure((last.turn_s - first.turn_s) / (len(self) - 1), "s", error / (len(self) - 1))


def find_repetitions(angles: Angles, rule: ExerciseRule | str, person: int = 0) -> Repetitions:
    """Find the repetitions of one person.

    Args:
        angles: Filtered angles.
        rule: A rule, or the name of one of `EXERCISES`.
        person: Place of the person, 0 .. P-1.

    Raises:
        OptionError: If the exercise is unknown or needs other keypoints.

    Example:
        >>> times = np.arange(0, 6, 0.02)
        >>> knee = 50 - 50 * np.cos(2 * np.pi * times / 2)  # three squats, 100 degrees deep
        >>> angles = Angles(knee[:, None, None], ("left_knee",), times, (0,), np.zeros((300, 1), int))
        >>> squats = find_repetitions(angles, "squat")
        >>> len(squats), [round(r.depth_deg) for r in squats.found], round(squats.tempo_s, 2)
        (3, [100, 100, 100], 2.0)
    """
    if isinstance(rule, str):
        if rule not in EXERCISES:
            raise OptionError(f"exercise {rule!r} is unknown", expected=f"one of {', '.join(EXERCISES)}")
        rule = EXERCISES[rule]
    signal = exercise_signal(angles, rule, person)
    kinds = sought_kinds(angles, rule, person, signal)
    sought = mean_of_kinds(kinds)
    times = angles.timestamps_s
    sides = {
        side: np.mean(
            [angles[n][:, person] for n in rule.angles if n in angles and n.startswith(side)] or [signal * np.nan], 0
        )
        for side in ("left", "right")
    }
    found: list[Repetition] = []
    known = np.flatnonzero(np.isfinite(signal))
    if len(known) < 5:
        return Repetitions(rule, signal)
    # A long gap may hide a movement: each stretch between such gaps is evaluated separately.
    lean = angles["trunk_lean"][:, person] if "trunk_lean" in angles else None
    for stretch in np.split(known, np.flatnonzero(np.diff(times[known]) > max(1.0, rule.min_duration_s)) + 1):
        if len(stretch) >= 5:
            found += _in_stretch(sought, kinds, signal, times, stretch, rule, sides)
    if rule.combine == "max":
        names = [name for name in rule.angles if name in angles]
        found = [r for r in found if _is_seen(angles, names, person, r)]
    if rule.level is not None and lean is not None:
        # NaN where the trunk is not seen: then the movement of the joint is all there is.
        found = [r for r in found if not np.isfinite(lean[r.turn]) or (folded(lean[r.turn]) > 45) == rule.level]
    return Repetitions(rule, signal, tuple(found))


def _in_stretch(
    sought: np.ndarray, kinds: list[np.ndarray], signal: np.ndarray, times: np.ndarray, rows: np.ndarray,
    rule: ExerciseRule, sides: Mapping[str, np.ndarray],
) -> list[Repetition]:  # fmt: skip
    values, depths, t = sought[rows], signal[rows], times[rows]
    peaks = turning_points(t, values, [kind[rows] for kind in kinds], rule)
    out = []
    for i, peak in enumerate(peaks):
        low = 0 if i == 0 else int(peaks[i - 1] + np.argmin(values[peaks[i - 1] : peak + 1]))
        high = len(values) - 1 if i == len(peaks) - 1 else int(peak + np.argmin(values[peak : peaks[i + 1] + 1]))
        start_row = peak - _leaves(values[low : peak + 1][::-1], rule.edge)
        end_row = peak + _leaves(values[peak : high + 1], rule.edge)
        if t[end_row] - t[start_row] < rule.min_duration_s:
            continue
        turn_s, height = _vertex(t, values, peak)
        depth = height if sought is signal else float(np.interp(turn_s, t, depths))
        if depth < rule.least_deg:
            continue
        before, after = (float(depths[part].min()) for part in (slice(low, peak + 1), slice(peak, high + 1)))
        turn_row = int(rows[peak])
        out.append(
            Repetition(
                start=int(rows[start_row]),
                turn=turn_row,
                end=int(rows[end_row]),
                start_s=float(t[start_row]),
                turn_s=turn_s,
                end_s=float(t[end_row]),
                depth_deg=depth,
                rest_deg=before,
                range_deg=depth - (before + after) / 2,
                out_s=turn_s - float(t[start_row]),
                back_s=float(t[end_row]) - turn_s,
                left_deg=float(sides["left"][turn_row]),
                right_deg=float(sides["right"][turn_row]),
            )
        )
    return out


def _is_seen(angles: Angles, names: Sequence[str], person: int, found: Repetition) -> bool:
    """Whether the limb that is bent most at the turning point is seen on the way out and back.

    Where it disappears the larger side is another one, and the fall of the signal no movement.
    """
    there = np.isfinite(angles[followed_angle(angles, names, person, found.turn, "max")][:, person])
    ways = there[found.start : found.turn + 1], there[found.turn + 1 : found.end + 1]
    return all(way.mean() > _SEEN for way in ways)


def _leaves(away: np.ndarray, edge: float) -> int:
    """Return the rows from the peak until the signal is back at rest but for the share ``edge`` of the movement."""
    rest = away.min()
    level = rest + edge * (away[0] - rest)
    return int(np.argmax(away <= level))


def parabola(times: np.ndarray, values: np.ndarray, row: int) -> tuple[float, float, float]:
    """Return (a, b, c) of a t^2 + b t + c through a row and its two neighbors; t counts from the row's time.

    Example:
        >>> parabola(np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 16.0]), 1)
        (1.0, 4.0, 4.0)
    """
    before, after = float(times[row] - times[row - 1]), float(times[row + 1] - times[row])
    down, up = float(values[row - 1] - values[row]), float(values[row + 1] - values[row])
    a = (down / before + up / after) / (before + after)
    return a, up / after - a * after, float(values[row])


def _vertex(times: np.ndarray, values: np.ndarray, peak: int) -> tuple[float, float]:
    """Return time and height of a peak by the parabola through it and its two neighbors."""
    if not 0 < peak < len(values) - 1:
        return float(times[peak]), float(values[peak])
    a, b, c = parabola(times, values, peak)
    if a >= 0:
        return float(times[peak]), float(values[peak])
    at = float(np.clip(-b / (2 * a), times[peak - 1] - times[peak], times[peak + 1] - times[peak]))
    return float(times[peak] + at), float(c + b * at + a * at * at)
