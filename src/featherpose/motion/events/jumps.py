"""Vertical jumps: flight time, height by flight time and by the hips' rise.

A person is in the air while both feet are higher above the ground than a stretched foot reaches. Without toe keypoints
the ankle's height decides (``ankle``): it rises by about 5 % of the stature before the toes leave the ground (heel
rise), so that much is allowed; with them the toes decide (``toe``).

In the air the hips fall freely: the curvature of their path, which is gravity, tells how long the legs would be in
meters. Where no human has such legs nothing flew; the person stood on a box, or kicked the feet up with the hands on
the ground.

Height by flight time is g t^2 / 8 (Bosco, Luhtanen & Komi 1983), in meters whatever the scale of the image, and too
large if the legs are drawn up for the landing. Height by displacement is how far the hips rise above their height at
takeoff, in the unit of the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from featherpose.motion.body_points import body_points
from featherpose.motion.measures import Measure, coordinate_uncertainty, frame_uncertainty_s
from featherpose.motion.sequence import PoseSequence

__all__ = ["GRAVITY_M_S2", "Jump", "JumpMethod", "find_jumps"]

GRAVITY_M_S2 = 9.80665
JumpMethod = Literal["toe", "ankle"]

# Shares of the leg's length (half of the stature).
_CLEAR_ANKLE, _CLEAR_TOE = 0.11, 0.03
_MIN_RISE = 0.08
_MIN_FLIGHT_S, _MAX_FLIGHT_S = 0.12, 1.2
_GROUND_S = 3.0
# Meters: the legs of a child of a meter and of a man of 2.2 m, and a third more, since hips are not the center of mass.
_LEGS_M = (0.35, 1.45)


@dataclass(frozen=True, slots=True)
class Jump:
    """One jump.

    Attributes:
        takeoff: Row of the last frame on the ground.
        peak: Row of the highest hips.
        landing: Row of the first frame on the ground again.
        takeoff_s: Time at which the feet leave the ground, between frames.
        landing_s: Time at which they are back.
        flight: Seconds in the air.
        height: Meters, by flight time.
        rise: How far the hips rise after takeoff, in the unit of the sequence.
        method: ``toe`` or ``ankle``.
    """

    takeoff: int
    peak: int
    landing: int
    takeoff_s: float
    landing_s: float
    flight: Measure
    height: Measure
    rise: Measure
    method: JumpMethod


def find_jumps(sequence: PoseSequence, person: int = 0, *, noise: np.ndarray | None = None) -> tuple[Jump, ...]:
    """Find the jumps of one person, from any view in which the ground is at one height.

    Args:
        sequence: Filtered poses, in pixels or meters.
        person: Place of the person, 0 .. P-1.
        noise: float64[K], the person's `coordinate_uncertainty`, if it is known already.

    Returns:
        The jumps in order; none if the feet or hips are missing.
    """
    one = sequence.select([person])
    names = [f"{s}_{part}" for s in ("left", "right") for part in ("knee", "ankle", "big_toe")]
    points = {name: value[:, 0] for name, value in body_points(one, ["mid_hip", *names]).items()}
    method: JumpMethod = "toe" if "left_big_toe" in points and "right_big_toe" in points else "ankle"
    foot = "big_toe" if method == "toe" else "ankle"
    if not all(n in points for n in ("mid_hip", "left_ankle", "right_ankle", "left_knee", f"left_{foot}")):
        return ()
    up = -1.0 if one.unit == "px" else 1.0
    times = one.timestamps_s
    hips = up * points["mid_hip"][:, 1]
    # The lower foot decides; if one is missing, the other one.
    feet = up * np.stack([points[f"{side}_{foot}"][:, 1] for side in ("left", "right")])
    lower = np.where(np.isfinite(feet).all(0), feet.min(0), np.where(np.isfinite(feet[0]), feet[0], feet[1]))
    leg = _reach(points)
    known = np.isfinite(lower) & np.isfinite(hips)
    if not np.isfinite(leg) or known.sum() < 5:
        return ()
    above = lower - _ground(lower, times)
    clear = (_CLEAR_TOE if method == "toe" else _CLEAR_ANKLE) * leg
    noise = coordinate_uncertainty(one)[0] if noise is None else noise
    sigma = float(noise[one.skeleton.index(f"left_{foot}")])
    out = []
    air = known & (above > clear)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], air, [False])).astype(np.int8))).reshape(-1, 2)
    for first, last in edges.tolist():
        if first == 0 or last >= len(times) or not (known[first - 1] and known[last]):
            continue  # it begins or ends outside of the recording
        takeoff_s = _crossing(times, above, first - 1, first, clear)
        landing_s = _crossing(times, above, last - 1, last, clear)
        flight_s = landing_s - takeoff_s
        peak = first + int(np.argmax(hips[first:last]))
        base = float(np.interp(takeoff_s, times[first - 1 : first + 1], hips[first - 1 : first + 1]))
        rise = float(hips[peak] - base)
        if not _MIN_FLIGHT_S <= flight_s <= _MAX_FLIGHT_S or rise < _MIN_RISE * leg:
            continue
        if not _falls_freely(times, hips, first, last, leg):
            continue
        # The speed of the feet at the threshold converts their jitter into time.
        speed = abs(above[first] - above[first - 1]) / (times[first] - times[first - 1])
        one_end = float(np.hypot(frame_uncertainty_s(times), sigma / speed if speed > 0 and sigma == sigma else 0.0))
        error = one_end * np.sqrt(2)
        height = GRAVITY_M_S2 * flight_s**2 / 8
        hip_noise = float(np.nanmean([noise[one.skeleton.index(f"{s}_hip")] for s in ("left", "right")]))
        out.append(
            Jump(
                first - 1,
                peak,
                last,
                takeoff_s,
                landing_s,
                Measure(flight_s, "s", error),
                Measure(height, "m", GRAVITY_M_S2 * flight_s / 4 * error),
                Measure(rise, one.unit, hip_noise * np.sqrt(2)),
                method,
            )
        )
    return tuple(out)


def _falls_freely(times: np.ndarray, hips: np.ndarray, first: int, last: int, leg: float) -> bool:
    rows = np.arange(first, last)
    rows = rows[np.isfinite(hips[rows])]
    if len(rows) < 4:
        return True  # too short to tell
    curvature = 2 * float(np.polyfit(times[rows] - times[first], hips[rows], 2)[0])
    return curvature < 0 and _LEGS_M[0] <= leg * GRAVITY_M_S2 / -curvature <= _LEGS_M[1]


def _reach(points: dict[str, np.ndarray]) -> float:
    """Return the length of a leg: twice the shank, because thighs are foreshortened in a squat seen from the front."""
    shank = np.hypot(*(points["left_ankle"] - points["left_knee"]).T)
    shank = shank[np.isfinite(shank)]
    return float(2 * np.median(shank)) if len(shank) else float("nan")


def _ground(lower: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the height of the ground under the feet, a low percentile over some seconds: it may change."""
    out = np.full(len(lower), np.nan)
    known = np.flatnonzero(np.isfinite(lower))
    if not len(known):
        return out
    centers = np.arange(times[0], times[-1] + 0.5, 0.5)
    levels = []
    low, high = (np.searchsorted(times[known], centers + end) for end in (-_GROUND_S / 2, _GROUND_S / 2))
    for first, last in zip(low.tolist(), high.tolist(), strict=True):
        if last - first < 3:
            levels.append(float("nan"))
            continue
        rank = (last - first) // 5
        levels.append(float(np.partition(lower[known[first:last]], rank)[rank]))
    levels_array = np.array(levels)
    there = np.isfinite(levels_array)
    if not there.any():
        return out
    return np.asarray(np.interp(times, centers[there], levels_array[there]))


def _crossing(times: np.ndarray, values: np.ndarray, a: int, b: int, level: float) -> float:
    rise = values[b] - values[a]
    share = 0.5 if rise == 0 else float(np.clip((level - values[a]) / rise, 0, 1))
    return float(times[a] + share * (times[b] - times[a]))
