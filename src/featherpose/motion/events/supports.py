"""Where the feet rest, and when both are off the places where they rest before and after.

A foot rests while it does not move up or down for a while, longer than at the top of a jump. One that trembles, because
the network is unsure of it, is fast at moments and stays in its place all the same: stretches between which it is never
off are one rest, if that lasts longer than anybody in the air is in such a place. Between two rests it is off from
where it leaves the level of the first to where it reaches that of the second, which may be another one: a box, a step.
A foot that rises while the heel does is not off yet, one that sinks below its support is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from featherpose.jit import kernel
from featherpose.motion.cleaning.filters import derivative
from featherpose.motion.cleaning.runs import true_runs

__all__ = ["Off", "crossing", "feet_off"]

# Leg lengths a second: somebody in the air, with legs of 1.4 m or less, is slower for less than 0.15 s.
_STILL = 0.5
_REST_S = 0.15
# Such legs are within the share s of their length from the top of a jump for 2 sqrt(2 s 1.4 m / g) = 1.07 sqrt(s) s.
_AT_THE_TOP_S = 1.07
# Below its support by this share of a leg's length a foot is off.
_BELOW = 0.03
# Two feet jump together if they are off together for this share of the time in which either is; walking is not.
_TOGETHER = 0.5


@dataclass(frozen=True, slots=True)
class Off:
    """A time in which one foot, or both, are off.

    Attributes:
        first: First row.
        last: First row after it.
        begins_s: Time at which it begins, between frames.
        ends_s: Time at which it ends.
        before: Height of the support before.
        after: Height of the support after.
    """

    first: int
    last: int
    begins_s: float
    ends_s: float
    before: float
    after: float


def feet_off(heights: np.ndarray, times: np.ndarray, leg: float, clear: float) -> list[Off]:
    """Return when both feet are off together.

    Args:
        heights: float64[2, T], of both feet, up; NaN where missing.
        times: float64[T], seconds.
        leg: Length of a leg.
        clear: A foot is off that is higher than its support by more than this.

    Example:
        >>> times = np.arange(90) / 30
        >>> flight = np.clip(4.0 * (times - 1) - 5 * (times - 1) ** 2, 0, None)
        >>> onto_a_box = np.where(times < 1.65, flight, 0.5)
        >>> (off,) = feet_off(np.stack([onto_a_box, onto_a_box]), times, 0.9, 0.08)
        >>> off.first, off.last, round(off.before, 2), round(off.after, 2)
        (31, 49, 0.0, 0.5)
    """
    left, right = (_off(height, times, leg, clear) for height in heights)
    out = []
    for a in left:
        for b in right:
            begins, ends = max(a.begins_s, b.begins_s), min(a.ends_s, b.ends_s)
            if ends - begins >= _TOGETHER * (max(a.ends_s, b.ends_s) - min(a.begins_s, b.begins_s)):
                before, after = (a.before + b.before) / 2, (a.after + b.after) / 2
                out.append(Off(max(a.first, b.first), min(a.last, b.last), begins, ends, before, after))
    return out


def _off(height: np.ndarray, times: np.ndarray, leg: float, clear: float) -> list[Off]:
    out = []
    for (_, left, before), (reached, _, after) in pairwise(_rests(height, times, leg, clear)):
        between = np.arange(left, reached)
        gone = between[(height[between] > before + clear) | (height[between] < before - _BELOW * leg)]
        # On the way up to a box a foot passes the height of the box.
        not_yet = between[np.abs(height[between] - after) > clear]
        if not len(gone) or not len(not_yet) or not gone[0] <= not_yet[-1] or not np.isfinite(height[between]).all():
            continue
        first, last = int(gone[0]), int(not_yet[-1]) + 1
        leaves = before + clear if height[first] > before else before - _BELOW * leg
        reaches = after + clear if height[last - 1] > after else after - clear
        begins, ends = (
            crossing(times, height, first - 1, first, leaves),
            crossing(times, height, last - 1, last, reaches),
        )
        out.append(Off(first, last, begins, ends, before, after))
    return out


def _rests(height: np.ndarray, times: np.ndarray, leg: float, clear: float) -> list[tuple[int, int, float]]:
    """Return (first row, first row after it, height) of each rest."""
    with np.errstate(invalid="ignore"):
        still = np.abs(derivative(height, times)) < _STILL * leg
    runs = np.asarray(true_runs(still), np.int64).reshape(-1, 2)
    bounds, levels = np.empty_like(runs), np.empty(len(runs))
    count = _join(height, times, runs, leg, clear, bounds, levels)
    found = zip(bounds[:count].tolist(), levels[:count].tolist(), strict=True)
    return [(first, last, level) for (first, last), level in found]


@kernel
def _join(
    height: np.ndarray,
    times: np.ndarray,
    runs: np.ndarray,
    leg: float,
    clear: float,
    bounds: np.ndarray,
    levels: np.ndarray,
) -> int:
    """Write rows and median height of each rest, made of still runs that stay within ``clear``; return their number."""
    count, i = 0, 0
    while i < len(runs):
        first, last, next_run, rests = runs[i, 0], runs[i, 0], i, False
        low, high = np.inf, -np.inf
        while next_run < len(runs):
            lowest, highest = low, high
            for row in range(last, runs[next_run, 1]):
                known = height[row] == height[row]  # nothing is joined over a gap
                lowest = min(lowest, height[row] if known else -np.inf)
                highest = max(highest, height[row] if known else np.inf)
            if next_run > i and highest - lowest > clear:
                break
            low, high, last = lowest, highest, runs[next_run, 1]
            rests = rests or times[last - 1] - times[runs[next_run, 0]] >= _REST_S
            next_run += 1
        i = next_run
        lasts_s = times[last - 1] - times[first]
        if rests or lasts_s >= max(_REST_S, _AT_THE_TOP_S * np.sqrt((high - low) / leg)):
            bounds[count, 0], bounds[count, 1] = first, last
            levels[count] = np.median(height[first:last])
            count += 1
    return count


def crossing(times: np.ndarray, values: np.ndarray, a: int, b: int, level: float) -> float:
    """Return when a line from the value in row ``a`` to that in row ``b`` crosses a level."""
    rise = values[b] - values[a]
    share = 0.5 if rise == 0 else float(np.clip((level - values[a]) / rise, 0, 1))
    return float(times[a] + share * (times[b] - times[a]))
