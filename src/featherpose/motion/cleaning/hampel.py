"""Outliers of a moving window: values too far from its median (Hampel's identifier).

Davies & Gather 1993, The identification of multiple outliers. A window is sorted only where a value may be farther from
its median than is always allowed, which few are.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from featherpose.errors import OptionError
from featherpose.jit import kernel
from featherpose.motion.body_points import body_size
from featherpose.motion.cleaning.medians import MAD_TO_SIGMA
from featherpose.motion.sequence import PoseSequence, Step

__all__ = ["hampel_outliers", "reject_outliers"]

_LEAST_VALUES = 3


def reject_outliers(
    sequence: PoseSequence, *, window: int = 7, sigmas: float = 3.0, floor: float = 0.01
) -> PoseSequence:
    """Mark keypoints that jump away for one or a few frames as missing: the Hampel identifier, per coordinate.

    A value is an outlier if it lies further than ``sigmas`` robust standard deviations from the median of the
    ``window`` frames around it. Hampel (1974), The influence curve and its role in robust estimation; Pearson (2002),
    Outliers in process modeling and identification.

    Args:
        sequence: Poses over time.
        window: Frames in the window, odd.
        sigmas: Robust standard deviations that are allowed.
        floor: Deviations under this share of the person's size are never outliers; without it the smallest
            irregularity of a joint at rest would be one.

    Raises:
        OptionError: If the window is not an odd number from 3 to 101 or ``sigmas`` is not positive.
    """
    if window % 2 == 0 or not 3 <= window <= 101:
        raise OptionError(f"a window of {window} frames", expected="an odd number from 3 to 101")
    if not sigmas > 0:
        raise OptionError(f"sigmas is {sigmas}", expected="a positive number")
    t, p, k, _ = sequence.keypoints.shape
    least = np.repeat(np.nan_to_num(body_size(sequence)) * floor, 2 * k)
    outliers = hampel_outliers(sequence.keypoints.reshape(t, -1), window, sigmas, least)
    out = np.asarray(outliers.reshape(t, p, k, 2).any(-1))
    count = int(out.sum())
    step = Step(
        "reject_outliers",
        {"window": window, "sigmas": sigmas, "floor": floor},
        count,
        f"rejected {count:,} keypoints as outliers (Hampel, {window} frames, {sigmas:g} sigma)",
    )
    return sequence.without(out, step)


def hampel_outliers(
    values: Float64[np.ndarray, "T C"], window: int, sigmas: float, least: Float64[np.ndarray, " C"]
) -> Bool[np.ndarray, "T C"]:
    """Return which values of C columns are outliers of their moving window.

    Windows are cut off at the ends of the recording and skip missing values; a window with fewer than three values has
    no outliers.

    Args:
        values: NaN where missing.
        window: Odd number of rows.
        sigmas: Robust standard deviations allowed.
        least: Deviation that is always allowed.

    Example:
        >>> hampel_outliers(np.array([[0.0, 0.1, 5.0, 0.2, 0.1]]).T, 5, 3.0, np.array([0.5])).ravel().tolist()
        [False, False, True, False, False]
    """
    out = np.zeros(values.shape, np.bool_)
    _mark(np.ascontiguousarray(values), window // 2, sigmas, least, out)
    return out


@kernel
def _mark(values: np.ndarray, half: int, sigmas: float, least: np.ndarray, out: np.ndarray) -> None:
    rows, columns = values.shape
    ordered, apart = np.empty(2 * half + 1), np.empty(2 * half + 1)
    for row in range(rows):
        first, last = max(0, row - half), min(rows, row + half + 1)
        for column in range(columns):
            value = values[row, column]
            if value != value:
                continue
            count, under, over = 0, 0, 0
            for other in range(first, last):
                near = values[other, column]
                count += near == near
                under += near <= value + least[column]
                over += near >= value - least[column]
            if min(under, over) > count // 2:
                continue  # the median is as near as is always allowed: nothing need be sorted, as mostly
            count = 0
            for other in range(first, last):
                _insert(ordered, count, values[other, column])
                if values[other, column] == values[other, column]:
                    count += 1
            if count < _LEAST_VALUES:
                continue
            middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
            deviation = abs(value - middle)
            if not deviation > least[column]:
                continue
            for i in range(count):
                _insert(apart, i, abs(ordered[i] - middle))
            spread = MAD_TO_SIGMA * ((apart[(count - 1) // 2] + apart[count // 2]) / 2)
            out[row, column] = deviation > sigmas * spread


@kernel
def _insert(ordered: np.ndarray, count: int, value: float) -> None:
    """Put a value into its place among the first ``count``; NaN goes to the end."""
    at = count
    while at > 0 and ordered[at - 1] > value:
        ordered[at] = ordered[at - 1]
        at -= 1
    ordered[at] = value
