"""How well each repetition is known, from the noise and scores of its keypoints and the frame rate.

As for jumps and steps: the noise of a coordinate is what the filter removed (`coordinate_uncertainty`); here the scores
around the turning point, and at rest, count instead of those of the whole recording, so that a repetition in which a
knee was half hidden is less certain than its neighbors. It is propagated to the angles with the lengths that their
segments have there, and to the mean of the angles. Times are known to the frame, and to the error of the signal over
its slope (start and end) or over its curvature (the turning point).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from featherpose.motion.angles import Angles
from featherpose.motion.events.exercise_signals import followed_angle, sought_signal, used_angles
from featherpose.motion.events.repetitions import (
    Repetition,
    Repetitions,
    RepetitionUncertainty,
    parabola,
)
from featherpose.motion.measures import angle_uncertainty_by_row, frame_uncertainty_s, score_doubt, seen_scores
from featherpose.motion.sequence import PoseSequence

__all__ = ["with_uncertainty"]

# Seconds on both sides of an event whose scores count for it; the default filter mixes about as many.
_AROUND_S = 0.1
# Where the signal hardly moves its noise says nothing about time.
_MOST_S = 0.2


def with_uncertainty(found: Repetitions, one: PoseSequence, angles: Angles, noise: np.ndarray) -> Repetitions:
    """Return the same repetitions with their uncertainty.

    Args:
        found: Repetitions of one person.
        one: Filtered poses of this person alone.
        angles: Their angles.
        noise: float64[1, K], the person's `coordinate_uncertainty`.

    Example:
        >>> from featherpose.evaluation.motion.known_people import squatting
        >>> from featherpose.motion.analysis import analyze_motion
        >>> squat = analyze_motion(squatting(2).sequence).people[0].repetitions.found[0]
        >>> squat.uncertainty.depth_deg < 1, squat.uncertainty.out_s < 1 / 30
        (True, True)
    """
    if not len(found):
        return found
    rule = found.rule
    names = [name for name in rule.angles if name in angles]
    names = names if rule.combine == "max" else used_angles(angles, names)
    sought = sought_signal(angles, rule, 0, found.signal)
    along = [] if sought is found.signal else used_angles(angles, [name for name in rule.along if name in angles])
    events = sorted({row for r in found.found for row in (r.start, r.turn, r.end)})
    errors = _errors(one, [*names, *along], noise[0], np.array(events))
    of_row = {row: {name: float(error[i]) for name, error in errors.items()} for i, row in enumerate(events)}
    measured = []
    for r in found.found:
        mine = names if rule.combine == "mean" else [followed_angle(angles, names, 0, r.turn, rule.combine)]
        rows = (r.start, r.turn, r.end)
        depth = {row: _of_mean(of_row[row], mine) for row in rows}
        # Times are those of the mean of both kinds of angles, if there are two.
        signal = {
            row: math.hypot(depth[row], _of_mean(of_row[row], along)) / 2 if along else depth[row] for row in rows
        }
        left, right = (_of_mean(of_row[r.turn], [n for n in mine if n.startswith(side)]) for side in ("left", "right"))
        times_s = _time_errors(r, signal, sought, one.timestamps_s)
        measured.append(replace(r, uncertainty=_of_repetition(r, depth, times_s, (left, right), found.signal, one)))
    return replace(found, found=tuple(measured))


def _time_errors(
    r: Repetition, signal: Mapping[int, float], sought: np.ndarray, times: np.ndarray
) -> tuple[float, float, float]:
    """Return the standard deviations of the times of start, turning point and end, from those of the signal there."""
    of_frame, step = frame_uncertainty_s(times), float(np.median(np.diff(times)))
    changes = (
        (r.start, _speed(sought, times, r.start)),
        (r.turn, math.sqrt(2) * step * _bend(sought, times, r.turn)),
        (r.end, _speed(sought, times, r.end)),
    )
    start, turn, end = (math.hypot(of_frame, _shaky(signal[row], change)) for row, change in changes)
    return start, turn, end


def _of_repetition(
    r: Repetition,
    depth: Mapping[int, float],
    times_s: tuple[float, float, float],
    sides: tuple[float, float],
    signal: np.ndarray,
    one: PoseSequence,
) -> RepetitionUncertainty:
    start_s, turn_s, end_s = times_s
    # The turning point lies between frames; what the signal does there follows from its curvature.
    bend = _bend(signal, one.timestamps_s, r.turn)
    depth_deg = math.hypot(depth[r.turn], bend / 2 * frame_uncertainty_s(one.timestamps_s) ** 2)
    return RepetitionUncertainty(
        depth_deg=depth_deg,
        range_deg=math.hypot(depth_deg, math.hypot(depth[r.start], depth[r.end]) / 2),
        turn_s=turn_s,
        out_s=math.hypot(start_s, turn_s),
        back_s=math.hypot(turn_s, end_s),
        left_deg=sides[0],
        right_deg=sides[1],
    )


def _errors(one: PoseSequence, names: Sequence[str], noise: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the standard deviation of each angle in some rows, degrees."""
    scores, times = one.scores[:, 0], one.timestamps_s
    # A keypoint that was filled in has score 0 there and counts as the least certain.
    total = np.concatenate([np.zeros((1, scores.shape[1])), scores.cumsum(0)])
    first = np.searchsorted(times, times[rows] - _AROUND_S)
    last = np.searchsorted(times, times[rows] + _AROUND_S, side="right")
    around = (total[last] - total[first]) / (last - first)[:, None]
    part = replace(
        one, keypoints=one.keypoints[rows], scores=one.scores[rows], timestamps_s=times[rows], frames=one.frames[rows],
        original=None,
    )  # fmt: skip
    return angle_uncertainty_by_row(part, names, noise / score_doubt(seen_scores(one)[0]) * score_doubt(around))


def _of_mean(errors: Mapping[str, float], names: Sequence[str]) -> float:
    """Return the standard deviation of the mean of those angles that are known; NaN of none."""
    known = [errors[name] for name in names if errors[name] == errors[name]]
    return math.hypot(*known) / len(known) if known else float("nan")


def _speed(signal: np.ndarray, times: np.ndarray, row: int) -> float:
    """Return how fast the signal changes, a second."""
    a, b = max(row - 1, 0), min(row + 1, len(times) - 1)
    return float(abs(signal[b] - signal[a]) / (times[b] - times[a]))


def _bend(signal: np.ndarray, times: np.ndarray, row: int) -> float:
    """Return how strongly the signal bends down, a second squared; 0 where it does not, or is not known."""
    if not 0 < row < len(times) - 1:
        return 0.0
    bend = -2 * parabola(times, signal, row)[0]
    return max(0.0, bend) if np.isfinite(bend) else 0.0


def _shaky(error: float, speed: float) -> float:
    """Return the time that an error of the signal makes where it changes by so much a second."""
    if error != error:
        return 0.0
    return min(error / speed, _MOST_S) if speed > 0 else _MOST_S
