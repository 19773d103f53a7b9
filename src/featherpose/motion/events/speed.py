"""Speed of a person through the image, and sprints: top speed, time to it, and times at distances.

The middle of the hips is followed along x. In meters (with a scale) these are speeds over ground for a person who moves
across the view of a static camera; in pixels they only compare moments of one video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featherpose.motion.cleaning.filters import FilterOptions, derivative, filter_values
from featherpose.motion.cleaning.medians import MAD_TO_SIGMA
from featherpose.motion.measures import Measure
from featherpose.motion.sequence import PoseSequence

__all__ = ["Travel", "find_travel"]

_SPLITS_M = (5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 100.0)


@dataclass(frozen=True, slots=True, eq=False)
class Travel:
    """Motion of a person along x.

    Attributes:
        speeds: float64[T], absolute speed, unit of the sequence a second.
        measures: ``distance``, ``mean_speed``, ``top_speed``, ``time_to_top_speed``, ``top_acceleration``.
        splits: Distance in meters -> seconds since the start of movement; only in meters.
    """

    speeds: np.ndarray
    measures: dict[str, Measure]
    splits: dict[float, Measure]


def find_travel(sequence: PoseSequence, person: int = 0, *, cutoff_hz: float = 1.5) -> Travel:
    """Compute the speed of one person.

    Args:
        sequence: Poses, cleaned and filled, in pixels or meters.
        person: Place of the person.
        cutoff_hz: Butterworth cut-off of the hips' path; the sway of steps lies above it.

    Returns:
        The speeds; no measures if the hips are seen in fewer than five frames.
    """
    unit = sequence.unit
    times = sequence.timestamps_s
    nothing = Travel(np.full(len(times), np.nan), {}, {})
    try:
        hips = sequence.point("mid_hip")[:, person]
    except ValueError:
        return nothing
    known = np.flatnonzero(np.isfinite(hips[:, 0]))
    if len(known) < 5:
        return nothing
    path = filter_values(hips, times, FilterOptions(cutoff_hz=cutoff_hz))
    velocity = derivative(path, times)[:, 0]
    rows = np.flatnonzero(np.isfinite(velocity))
    if len(rows) < 5:
        return nothing
    noise = hips[:, 0] - path[:, 0]
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(noise[known])))
    step = float(np.median(np.diff(times)))
    left = sigma * np.sqrt(min(1.0, 2 * cutoff_hz * step))
    speed_error = left * 2 * np.pi * cutoff_hz / np.sqrt(3)
    speeds = np.abs(velocity)
    moved = float(np.nansum(np.where(np.diff(known) == 1, np.abs(np.diff(path[known, 0])), 0)))
    lasts = float(times[rows[-1]] - times[rows[0]])
    top = rows[int(np.argmax(speeds[rows]))]
    acceleration = derivative(speeds, times)
    usable = acceleration[np.isfinite(acceleration)]
    start_row = _start(speeds, rows, float(speeds[top]))
    measures = {
        "distance": Measure(moved, unit, left * np.sqrt(2)),
        "mean_speed": Measure(
            moved / lasts if lasts else float("nan"), f"{unit}/s", left * np.sqrt(2) / lasts if lasts else float("nan")
        ),
        "top_speed": Measure(float(speeds[top]), f"{unit}/s", speed_error),
        "time_to_top_speed": Measure(float(times[top] - times[start_row]), "s", 0.5 / (2 * np.pi * cutoff_hz)),
    }
    if len(usable):
        measures["top_acceleration"] = Measure(float(usable.max()), f"{unit}/s^2", speed_error * 2 * np.pi * cutoff_hz)
    splits = {}
    if unit == "m":
        way = np.abs(path[:, 0] - path[start_row, 0])
        for distance in _SPLITS_M:
            beyond = rows[(rows > start_row) & (way[rows] >= distance)]
            if len(beyond):
                row = beyond[0]
                share = (distance - way[row - 1]) / (way[row] - way[row - 1]) if way[row] > way[row - 1] else 1.0
                at = times[row - 1] + share * (times[row] - times[row - 1])
                splits[distance] = Measure(
                    float(at - times[start_row]), "s", float(left / max(speeds[row], 1e-9)) + step / np.sqrt(12)
                )
    return Travel(speeds, measures, splits)


def _start(speeds: np.ndarray, rows: np.ndarray, top: float) -> int:
    """Return the last row before the top speed at which the person was still slower than a tenth of it."""
    peak = int(np.argmax(np.where(np.isfinite(speeds), speeds, -1)))
    slow = rows[(rows <= peak) & (speeds[rows] < 0.1 * top)]
    return int(slow[-1]) if len(slow) else int(rows[0])
