"""RoIAlign point by point in plain Python, to which the sampling of all boxes at once is held."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Float64

__all__ = ["roi_align"]


def roi_align(
    features: Float32[np.ndarray, "C h w"],
    box: tuple[float, float, float, float],
    stride: int,
    cells: tuple[int, int],
    samples: int,
) -> Float64[np.ndarray, "C rows columns"]:
    """Average regularly spaced points in each cell of a box (He et al. 2017, section 3, figure 3).

    Args:
        features: Of a whole image; cell (i, j) is centered at pixels ((j + 0.5) · stride, (i + 0.5) · stride).
        box: (left, top, right, bottom) in pixels from the edge of the first one.
        stride: Pixels per cell of the features.
        cells: (rows, columns) of the result.
        samples: Points along each side of a cell.
    """
    left, top, right, bottom = box
    rows, columns = cells
    result = np.zeros((len(features), rows, columns))
    for row in range(rows):
        for column in range(columns):
            for i in range(samples):
                for j in range(samples):
                    y = top + (row + (i + 0.5) / samples) * (bottom - top) / rows
                    x = left + (column + (j + 0.5) / samples) * (right - left) / columns
                    result[:, row, column] += _between(features, y / stride - 0.5, x / stride - 0.5)
    return result / samples**2


def _between(features: Float32[np.ndarray, "C h w"], y: float, x: float) -> Float64[np.ndarray, " C"]:
    """Interpolate between four cells; beyond the border the cells at the border continue."""
    height, width = features.shape[1:]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = (1 - u) * features[:, top, left].astype(np.float64) + u * features[:, top, right]
    lower = (1 - u) * features[:, below, left].astype(np.float64) + u * features[:, below, right]
    return np.asarray((1 - v) * upper + v * lower, np.float64)
