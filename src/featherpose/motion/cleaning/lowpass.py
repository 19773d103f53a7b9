"""The Butterworth low pass over rows of values, forth and back, so that nothing is delayed.

Coefficients and initial states are scipy's, and so is every result (`scipy.signal.sosfiltfilt`, to which a test holds
it). A kernel of its own filters each row where it lies and keeps the coefficients between calls: recordings have many
short stretches, for which designing the filter takes a hundred times as long as running it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from scipy.signal import butter, sosfilt_zi

from featherpose.jit import kernel
from featherpose.motion.cleaning.cutoffs import pass_cutoff

__all__ = ["low_pass"]


def low_pass(
    rows: Float64[np.ndarray, "C T"], rate_hz: float, cutoffs_hz: Float64[np.ndarray, " C"], order: int
) -> Float64[np.ndarray, "C T"]:
    """Filter each row with a cut-off of its own.

    Args:
        rows: Evenly spaced values without gaps, two or more in a row.
        rate_hz: Values a second.
        cutoffs_hz: Where half of the power remains after both passes; rows whose cut-off is near the highest frequency
            that they can hold stay as they are.
        order: Order of both passes together, even.

    Example:
        >>> times = np.arange(200) / 100
        >>> slow, fast = np.sin(2 * np.pi * times), np.sin(2 * np.pi * 40 * times)
        >>> smooth = low_pass((slow + fast)[None], 100, np.array([6.0]), 4)
        >>> bool(np.abs(smooth[0] - slow)[20:-20].max() < 0.01)
        True
    """
    out = np.array(rows, np.float64, order="C")
    for cutoff in np.unique(cutoffs_hz).tolist():
        adjusted = pass_cutoff(cutoff, order)
        if adjusted >= 0.499 * rate_hz:
            continue  # nothing is above the cut-off
        sections, states = _design(order // 2, adjusted, rate_hz)
        # Odd extension over one period of the cut-off keeps the ends in place.
        pad = min(out.shape[1] - 1, max(3 * (order // 2 + 1), int(np.ceil(rate_hz / cutoff))))
        _forth_and_back(out, np.flatnonzero(cutoffs_hz == cutoff), sections, states, pad)
    return out


@lru_cache(256)
def _design(order: int, cutoff_hz: float, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the sections of one pass, float64[S, 6], and their states for a constant 1, float64[S, 2]."""
    sections = butter(order, cutoff_hz, fs=rate_hz, output="sos")
    return sections, sosfilt_zi(sections)


@kernel
def _forth_and_back(rows: np.ndarray, chosen: np.ndarray, sections: np.ndarray, states: np.ndarray, pad: int) -> None:
    length = rows.shape[1]
    values = np.empty(length + 2 * pad)
    for r in chosen:
        row = rows[r]
        values[pad : pad + length] = row
        for i in range(pad):
            values[i] = 2 * row[0] - row[pad - i]
            values[pad + length + i] = 2 * row[length - 1] - row[length - 2 - i]
        for _ in range(2):
            first = values[0]
            for s in range(len(sections)):
                b0, b1, b2, _, a1, a2 = sections[s]
                z0, z1 = states[s, 0] * first, states[s, 1] * first
                for i in range(len(values)):
                    value = values[i]
                    result = b0 * value + z0
                    z0 = b1 * value - a1 * result + z1
                    z1 = b2 * value - a2 * result
                    values[i] = result
            values = values[::-1]
        row[:] = values[pad : pad + length]
