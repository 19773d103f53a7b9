"""Vertical jumps: flight time, height by flight time and by the hips' rise.

A person is in the air while both feet are higher above the ground than a stretched foot reaches. Without toe keypoints
the ankle's height decides (``ankle``): it rises by about 5 % of the stature before the toes leave the ground (heel
rise), so that much is allowed; with them the toes decide (``toe``).

Jumps onto a box or down from one take off and land on two levels: those are found where both feet leave a place of rest
together and come to rest elsewhere (`featherpose.motion.events.supports`).

In the air the hips fall freely: the curvature of their path, which is gravity, tells how long the legs would be in
meters, and so does the rise of the hips in the time of the flight. Where no human has such legs nothing flew; the
person stood on a box, or kicked the feet up with the hands on the ground.

Height by flight time is g t^2 / 8 (Bosco, Luhtanen & Komi 1983), in meters whatever the scale of the image, and too
large if the legs are drawn up for the landing. It holds for a landing at the level of the takeoff only, so it is
unknown for the others. Height by displacement is how far the hips rise above their height at
takeoff, in the unit of the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.runs import true_runs
from featherpose.motion.events.supports import Off, crossing, feet_off
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
# A landing that is higher or lower than the takeoff by more than this, in leg lengths, is one on another level.
_OTHER_LEVEL = 0.2
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
        height: Meters, by flight time; unknown if the landing is on another level.
        rise: How far the hips rise after takeoff, in the unit of the sequence.
        level: How much higher the landing is than the takeoff, in the unit of the sequence; 0 for one level.
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
    level: Measure
    method: JumpMethod

    @property
    def same_level(self) -> bool:
        """Return whether takeoff and landing are on one level."""
        return self.level.value == 0


def find_jumps(sequence: PoseSequence, person: int = 0, *, noise: np.ndarray | None = None) -> tuple[Jump, ...]:
    """Find the jumps of one person, from any view in which the ground is at one height, boxes excepted.

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
    clear = (_CLEAR_TOE if method == "toe" else _CLEAR_ANKLE) * leg
    above = lower - _ground(lower, times)
    flights = [
        Off(a, b, crossing(times, above, a - 1, a, clear), crossing(times, above, b - 1, b, clear), 0.0, 0.0)
        for a, b in true_runs(known & (above > clear))
        # Those that begin or end outside of the recording are left out.
        if a > 0 and b < len(times) and known[a - 1] and known[b]
    ]
    flights = [off for off in flights if _is_jump(off, times, hips, leg)]
    for off in feet_off(feet, times, leg, clear):
        if not _is_jump(off, times, hips, leg):
            continue
        overlapping = [other for other in flights if other.first < off.last and off.first < other.last]
        if abs(off.after - off.before) <= _OTHER_LEVEL * leg:
            if not overlapping:
                flights.append(replace(off, before=0.0, after=0.0))
            continue
        flights = [other for other in flights if other not in overlapping] + [off]
    noise = coordinate_uncertainty(one)[0] if noise is None else noise
    sigma = float(noise[one.skeleton.index(f"left_{foot}")])
    hip_noise = float(np.nanmean([noise[one.skeleton.index(f"{s}_hip")] for s in ("left", "right")]))
    return tuple(
        _jump(off, times, lower, hips, (sigma, hip_noise), one.unit, method)
        for off in sorted(flights, key=lambda off: off.begins_s)
    )


def _is_jump(off: Off, times: np.ndarray, hips: np.ndarray, leg: float) -> bool:
    if not _MIN_FLIGHT_S <= off.ends_s - off.begins_s <= _MAX_FLIGHT_S:
        return False
    known = hips[off.first : off.last]
    if not np.isfinite(known).any():
        return False
    takeoff = _hips_at(off, times, hips)
    # Whoever jumps rises, and whoever jumps down falls with the feet; feet drawn under rising hips do not jump.
    if off.before - off.after > _OTHER_LEVEL * leg:
        moves = float(known[np.isfinite(known)][-1]) < takeoff
    else:
        rise = float(np.nanmax(known)) - takeoff
        moves = rise >= _MIN_RISE * leg
        if abs(off.before - off.after) <= _OTHER_LEVEL * leg:
            # Who lands where they took off rises by g t^2 / 8, or less if the legs are drawn up.
            moves = moves and leg * GRAVITY_M_S2 * (off.ends_s - off.begins_s) ** 2 / 8 >= _LEGS_M[0] * rise
    return moves and _falls_freely(times, hips, off.first, off.last, leg)


def _hips_at(off: Off, times: np.ndarray, hips: np.ndarray) -> float:
    """Return the hips' height at takeoff."""
    before = slice(off.first - 1, off.first + 1)
    return float(np.interp(off.begins_s, times[before], hips[before]))


def _jump(
    off: Off,
    times: np.ndarray,
    lower: np.ndarray,
    hips: np.ndarray,
    noise: tuple[float, float],
    unit: str,
    method: JumpMethod,
) -> Jump:
    sigma, hip_noise = noise
    first, flight_s = off.first, off.ends_s - off.begins_s
    peak = first + int(np.nanargmax(hips[first : off.last]))
    # The speed of the feet at the threshold converts their jitter into time.
    speed = abs(lower[first] - lower[first - 1]) / (times[first] - times[first - 1])
    one_end = float(np.hypot(frame_uncertainty_s(times), sigma / speed if speed > 0 and sigma == sigma else 0.0))
    error = one_end * np.sqrt(2)
    height = Measure(GRAVITY_M_S2 * flight_s**2 / 8, "m", GRAVITY_M_S2 * flight_s / 4 * error)
    level = off.after - off.before
    return Jump(
        first - 1,
        peak,
        off.last,
        off.begins_s,
        off.ends_s,
        Measure(flight_s, "s", error),
        height if level == 0 else Measure(float("nan"), "m"),
        Measure(float(hips[peak]) - _hips_at(off, times, hips), unit, hip_noise * np.sqrt(2)),
        Measure(level, unit, sigma * np.sqrt(2) if level else float("nan")),
        method,
    )


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
