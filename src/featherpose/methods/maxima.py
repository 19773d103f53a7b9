"""The highest cell of each heatmap of a single person, smoothed on request, and a shift below the cell.

The sub-cell shift is the maximum of the second-order Taylor expansion of the log of the heatmap (Zhang et al. 2020,
"Distribution-Aware Coordinate Representation for Human Pose Estimation", arXiv 1910.06278, section 3.2). The mixed
derivative is left out: it is 0 for the isotropic Gaussians that networks are trained on, and noise elsewhere. The cells
around the highest one may be smoothed before (section 3.3): the place of a maximum is then that of its whole hill.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from featherpose.jit import kernel

__all__ = ["find_maxima"]

# Heights are raised to this before the logarithm.
_LOWEST = 1e-6
# Cells in x and in y that a smoothed maximum may be away.
_NEAR = 2


@kernel
def _log(height):  # type: ignore[no-untyped-def]
    """Return the log of a height, of the lowest one for NaN."""
    return np.log(height if height > np.float32(_LOWEST) else np.float32(_LOWEST))  # noqa: FURB136 - NaN


@kernel
def _shift(heatmap, row, column, in_y, in_x, position):  # type: ignore[no-untyped-def]
    """Move a position from its cell to the maximum of the expansion, along axes in which there are two neighbors."""
    half = np.float32(0.5)
    top = np.log(heatmap[row, column])
    if in_x:
        left = _log(heatmap[row, column - 1])
        right = _log(heatmap[row, column + 1])
        bend = left - 2 * top + right
        if bend < 0:
            position[0] += min(max(half * (left - right) / bend, -half), half)
    if in_y:
        above = _log(heatmap[row - 1, column])
        below = _log(heatmap[row + 1, column])
        bend = above - 2 * top + below
        if bend < 0:
            position[1] += min(max(half * (above - below) / bend, -half), half)


@kernel
def _smooth(heatmap, row, column, taps, across, smooth):  # type: ignore[no-untyped-def]
    """Smooth the cells at most three from one, first along rows; there is nothing beyond the border."""
    height, width = heatmap.shape
    side = smooth.shape[0]
    reach = len(taps) - 1
    for i in range(side + 2 * reach):
        y = row - side // 2 - reach + i
        for j in range(side):
            total = np.float32(0)
            if 0 <= y < height:
                middle = column - side // 2 + j
                for x in range(max(middle - reach, 0), min(middle + reach + 1, width)):
                    total += taps[abs(x - middle)] * heatmap[y, x]
            across[i, j] = total
    for i in range(side):
        for j in range(side):
            total = taps[0] * across[i + reach, j]
            for n in range(1, reach + 1):
                total += taps[n] * (across[i + reach - n, j] + across[i + reach + n, j])
            smooth[i, j] = total


@kernel
def _find_maxima(heatmaps, num_keypoints, subcell, taps):  # type: ignore[no-untyped-def]
    """Find the highest cell of each heatmap and its shift; a heatmap of NaN has score 0."""
    height, width = heatmaps.shape[1:]
    around = np.int64(_NEAR + 1)  # the shift reads one cell more
    across = np.empty((2 * around + 2 * len(taps) - 1, 2 * around + 1), np.float32)
    smooth = np.empty((2 * around + 1, 2 * around + 1), np.float32)
    positions = np.zeros((num_keypoints, 2), np.float32)
    scores = np.zeros(num_keypoints, np.float32)
    for k in range(num_keypoints):
        heatmap = heatmaps[k]
        best = np.float32(-np.inf)
        row = 0
        column = 0
        for y in range(height):
            for x in range(width):
                if heatmap[y, x] > best:  # False for NaN
                    best = heatmap[y, x]
                    row = y
                    column = x
        if best == np.float32(-np.inf):
            continue
        scores[k] = best
        positions[k, 0] = column
        positions[k, 1] = row
        if len(taps) > 1:
            _smooth(heatmap, row, column, taps, across, smooth)
            top = row - around
            left = column - around
            best = np.float32(-np.inf)
            for y in range(max(row - _NEAR, 0), min(row + _NEAR + 1, height)):
                for x in range(max(column - _NEAR, 0), min(column + _NEAR + 1, width)):
                    if smooth[y - top, x - left] > best:  # False for NaN
                        best = smooth[y - top, x - left]
                        positions[k, 0] = x
                        positions[k, 1] = y
            if subcell and best > np.float32(_LOWEST):
                column = int(positions[k, 0])
                row = int(positions[k, 1])
                in_y, in_x = 0 < row < height - 1, 0 < column < width - 1
                _shift(smooth, row - top, column - left, in_y, in_x, positions[k])
        elif subcell and best > np.float32(_LOWEST):
            _shift(heatmap, row, column, 0 < row < height - 1, 0 < column < width - 1, positions[k])
    return positions, scores


def find_maxima(
    heatmaps: Float32[np.ndarray, "C h w"], num_keypoints: int, *, subcell: bool = True, smoothing: float = 0.0
) -> tuple[Float32[np.ndarray, "K 2"], Float32[np.ndarray, " K"]]:
    """Find the highest cell of each of the first K heatmaps, or the smoothed maximum near it, refined below the cell.

    Args:
        heatmaps: float32[C, h, w], C ≥ K; not modified.
        num_keypoints: K.
        subcell: Whether to refine.
        smoothing: As of `featherpose.methods.heatmap.HeatmapOptions`.

    Returns:
        (x, y) in cells, and the height of the highest cell before any smoothing.

    Example:
        >>> x, y = np.meshgrid(np.arange(9), np.arange(7))
        >>> heatmap = np.exp(-((x - 4.3) ** 2 + (y - 2.8) ** 2) / 8).astype(np.float32)
        >>> find_maxima(heatmap[None], 1)[0].round(2)
        array([[4.3, 2.8]], dtype=float32)
    """
    plain = np.ascontiguousarray(heatmaps, np.float32).view()
    plain.flags.writeable = False
    positions, scores = _find_maxima(plain, num_keypoints, subcell, _taps(float(smoothing)))
    return positions, scores


@lru_cache(maxsize=16)
def _taps(smoothing: float) -> Float32[np.ndarray, " n"]:
    """Return the weights of a Gaussian at its center and at cells up to three standard deviations from it."""
    if smoothing == 0:
        return np.ones(1, np.float32)
    heights = np.exp(-0.5 * np.square(np.arange(math.ceil(3 * smoothing) + 1) / smoothing))
    return np.asarray(heights / (2 * heights.sum() - 1), np.float32)
