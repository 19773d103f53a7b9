"""What is missing, before any filter: doubtful keypoints become gaps, short gaps are filled, frames are resampled.

Each function takes a `PoseSequence` and returns another with one more `Step`. Gaps longer than the stated maximum stay
gaps, and a filled keypoint has score 0.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from featherpose.errors import OptionError
from featherpose.motion.cleaning.runs import true_runs
from featherpose.motion.sequence import PoseSequence, Step

__all__ = [
    "GapMethod",
    "drop_doubtful",
    "fill_gaps",
    "resample",
]

GapMethod = Literal["linear", "pchip", "cubic"]

# A stretch of keypoints is trusted if one of them has so many times the least score.
_SURE = 2.0


def drop_doubtful(sequence: PoseSequence, min_score: float = 0.1) -> PoseSequence:
    """Mark keypoints below a score as missing, and stretches that never reach twice the score.

    A hand that has left the image is put somewhere for seconds with scores about the limit; a hand that is hard to see
    is seen well now and then (hysteresis as in Canny 1986, A computational approach to edge detection).

    Args:
        sequence: Poses over time.
        min_score: Least score, 0..1.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> scores = np.array([[0.12, 0.3, 0.12, 0.0, 0.13, 0.12, 0.05]]).T
        >>> sequence = PoseSequence.from_arrays(
        ...     np.zeros((7, 1, 2)), np.arange(7.0), Skeleton.create("dot", ["tip"], []), scores=scores
        ... )
        >>> drop_doubtful(sequence, 0.1).found[:, 0, 0].tolist()
        [True, True, True, False, False, False, False]

    Raises:
        OptionError: If the score is outside 0..1.
    """
    if not 0 <= min_score <= 1:
        raise OptionError(f"min_score {min_score}", expected="a number from 0 to 1")
    low = sequence.found & _doubtful(sequence.scores, min_score)
    count = int(low.sum())
    text = f"dropped {count:,} keypoints with a score under {min_score:g}, or about that for all of a stretch"
    return sequence.without(low, Step("drop_doubtful", {"min_score": min_score}, count, text))


def _doubtful(scores: np.ndarray, min_score: float) -> np.ndarray:
    flat = scores.reshape(len(scores), -1)
    out = flat < min_score
    for column in np.flatnonzero(out.any(0) | (flat.max(0, initial=0.0) < _SURE * min_score)).tolist():
        for first, end in true_runs(~out[:, column]):
            out[first:end, column] = flat[first:end, column].max() < _SURE * min_score
    return np.asarray(out.reshape(scores.shape))


def fill_gaps(sequence: PoseSequence, max_gap_s: float = 0.25, method: GapMethod = "pchip") -> PoseSequence:
    """Fill gaps of keypoints between two frames in which they were found.

    Args:
        sequence: Poses over time.
        max_gap_s: Longest time from the last frame before the gap to the first one after it; longer gaps stay. Gaps
            at the beginning and end are never filled.
        method: ``linear``; ``pchip``, smooth without overshoot (Fritsch & Carlson 1980); ``cubic``, a spline.

    Returns:
        The sequence with the gaps filled; filled keypoints have score 0.

    Raises:
        OptionError: If the method is unknown or the time negative.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> x = np.array([0.0, np.nan, 2.0, np.nan, np.nan, 5.0])
        >>> sequence = PoseSequence.from_arrays(
        ...     np.stack([x, x], -1)[:, None], np.arange(6) / 10, Skeleton.create("dot", ["tip"], [])
        ... )
        >>> fill_gaps(sequence, max_gap_s=0.2, method="linear").keypoints[:, 0, 0, 0]
        array([ 0.,  1.,  2., nan, nan,  5.])
    """
    if method not in get_args(GapMethod):
        raise OptionError(f"gap method {method!r}", expected=" or ".join(get_args(GapMethod)))
    if not max_gap_s >= 0:
        raise OptionError(f"max_gap_s is {max_gap_s}", expected="seconds, 0 or more")
    t, p, k, _ = sequence.keypoints.shape
    columns = sequence.keypoints.reshape(t, p * k, 2).copy()
    times = sequence.timestamps_s
    found = np.isfinite(columns[..., 0])
    filled = 0
    for column in np.flatnonzero(~found.all(0) & (found.sum(0) >= 2)).tolist():
        there = np.flatnonzero(found[:, column])
        lasts = np.diff(times[there])
        gaps = np.flatnonzero((np.diff(there) > 1) & (lasts <= max_gap_s + 1e-9))
        if not len(gaps):
            continue
        begins, lengths = there[gaps] + 1, np.diff(there)[gaps] - 1
        missing = np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        near = there
        if method == "pchip":
            # Its slope at a point depends on the two neighbors alone: the rest of the recording is not needed.
            near = there[np.unique(np.clip(gaps[:, None] + np.arange(-1, 3), 0, len(there) - 1))]
        columns[missing, column] = _between(times, near, columns[near, column], times[missing], method)
        filled += len(missing)
    step = Step(
        "fill_gaps",
        {"max_gap_s": max_gap_s, "method": method},
        filled,
        f"filled {filled:,} missing keypoints in gaps of up to {max_gap_s:g} s ({method})",
    )
    return sequence.changed(columns.reshape(t, p, k, 2), step)


def _between(times: np.ndarray, there: np.ndarray, values: np.ndarray, wanted: np.ndarray, method: str) -> np.ndarray:
    known = times[there]
    if method == "linear" or len(there) < 3:
        return np.stack([np.interp(wanted, known, values[:, axis]) for axis in range(2)], -1)
    curve = PchipInterpolator(known, values) if method == "pchip" else CubicSpline(known, values)
    return np.asarray(curve(wanted))


def resample(
    sequence: PoseSequence, rate_hz: float | None = None, *, max_gap_s: float = 0.25, method: GapMethod = "pchip"
) -> PoseSequence:
    """Resample a sequence to evenly spaced times, for videos of a variable frame rate.

    Args:
        sequence: Poses over time.
        rate_hz: Frames per second; the median rate of the sequence unless given.
        max_gap_s: Times between two frames that lie further apart than this become gaps.
        method: How values between frames are found, as in `fill_gaps`.

    Returns:
        The sequence at the new times; ``frames`` names the nearest frame of the source.

    Raises:
        OptionError: If the rate is not positive, or the sequence has a single frame.
    """
    rate = sequence.rate_hz if rate_hz is None else rate_hz
    if not 0 < rate <= 10_000:
        raise OptionError(f"a rate of {rate} frames a second", expected="a positive number and two frames or more")
    times = sequence.timestamps_s
    count = int(np.floor((times[-1] - times[0]) * rate + 1e-6)) + 1
    wanted = times[0] + np.arange(count) / rate
    t, p, k, _ = sequence.keypoints.shape
    columns = sequence.keypoints.reshape(t, p * k, 2)
    scores = sequence.scores.reshape(t, p * k)
    out, out_scores = np.full((count, p * k, 2), np.nan), np.zeros((count, p * k))
    found = np.isfinite(columns[..., 0])
    for column in np.flatnonzero(found.any(0)).tolist():
        there = np.flatnonzero(found[:, column])
        known = times[there]
        inside = (wanted >= known[0] - 1e-9) & (wanted <= known[-1] + 1e-9)
        after = np.clip(np.searchsorted(known, wanted), 0, len(known) - 1)
        before = np.maximum(after - 1, 0)
        near = known[after] - known[before] <= max_gap_s + 1e-9
        on_frame = np.minimum(np.abs(known[after] - wanted), np.abs(known[before] - wanted)) <= 1e-6
        use = inside & (near | on_frame)
        if len(there) == 1:
            out[use, column] = columns[there[0], column]
        else:
            out[use, column] = _between(times, there, columns[there, column], wanted[use], method)
        out_scores[use, column] = np.minimum(scores[there[before]][:, column], scores[there[after]][:, column])[use]
    nearest = np.clip(np.searchsorted(times, wanted), 1, max(1, t - 1))
    left = np.clip(nearest - 1, 0, t - 1)
    nearest = np.where(
        np.abs(times[left] - wanted) <= np.abs(times[np.minimum(nearest, t - 1)] - wanted), left, nearest
    )
    step = Step(
        "resample", {"rate_hz": rate, "max_gap_s": max_gap_s, "method": method}, count,
        f"resampled {t:,} frames to {count:,} at {rate:g} Hz ({method})",
    )  # fmt: skip
    return sequence.changed(
        out.reshape(count, p, k, 2),
        step,
        scores=out_scores.reshape(count, p, k),
        timestamps_s=wanted,
        frames=sequence.frames[np.minimum(nearest, t - 1)],
    )
