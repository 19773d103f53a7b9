"""Single-person heatmap decoding in plain numpy, the reference of the compiled kernel."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

__all__ = ["find_maxima"]


def find_maxima(
    heatmaps: Float32[np.ndarray, "C h w"], num_keypoints: int, *, subcell: bool = True, smoothing: float = 0.0
) -> tuple[Float64[np.ndarray, "K 2"], Float64[np.ndarray, " K"]]:
    """Find the highest cell of each heatmap and the maximum of the log's Taylor expansion around it.

    Zhang et al. 2020, section 3.2: with D the gradient and H the Hessian of the log at the highest cell, the maximum
    is at ``m - D / H``, here for each axis alone and at most half a cell away. With ``smoothing`` all of this is done
    on the smoothed heatmap (section 3.3), from its highest cell within two cells of the highest one before.

    Args:
        heatmaps: float32[C, h, w], C ≥ K.
        num_keypoints: K.
        subcell: Whether to refine.
        smoothing: Standard deviation of a Gaussian in cells, cut three of them from its center.

    Returns:
        (x, y) in cells, and the heights of the highest cells; (0, 0) and 0 for a heatmap of NaN.

    Example:
        >>> heatmap = np.float32([[[0.0, 0.1, 0.0], [0.1, 0.8, 0.4], [0.0, 0.1, 0.0]]])
        >>> find_maxima(heatmap, 1)[0].round(3)
        array([[1.25, 1.  ]])
    """
    positions, scores = np.zeros((num_keypoints, 2)), np.zeros(num_keypoints)
    for k in range(num_keypoints):
        heatmap = heatmaps[k].astype(np.float64)
        if np.isnan(heatmap).all():
            continue
        cell = np.array(np.unravel_index(int(np.nanargmax(heatmap)), heatmap.shape))
        scores[k] = heatmap[tuple(cell)]
        if smoothing:
            heatmap = _smoothed(heatmap, smoothing)
            rows, columns = np.indices(heatmap.shape)
            near = (abs(rows - cell[0]) <= 2) & (abs(columns - cell[1]) <= 2) & ~np.isnan(heatmap)
            if near.any():
                cell = np.array(np.unravel_index(int(np.argmax(np.where(near, heatmap, -np.inf))), heatmap.shape))
        positions[k] = cell[::-1]
        if not subcell or not heatmap[tuple(cell)] > 1e-6:
            continue
        logs = np.log(np.where(heatmap > 1e-6, heatmap, 1e-6))
        for axis in (0, 1):
            if not 0 < cell[axis] < heatmap.shape[axis] - 1:
                continue
            step = np.eye(2, dtype=int)[axis]
            before, here, after = (logs[tuple(cell + n * step)] for n in (-1, 0, 1))
            gradient, curvature = (after - before) / 2, before - 2 * here + after
            if curvature < 0:
                positions[k, 1 - axis] += np.clip(-gradient / curvature, -0.5, 0.5)
    return positions, scores


def _smoothed(heatmap: Float64[np.ndarray, "h w"], sigma: float) -> Float64[np.ndarray, "h w"]:
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    taps /= taps.sum()
    padded = np.pad(heatmap, reach)
    along_rows = np.stack([np.convolve(row, taps, "valid") for row in padded])
    return np.stack([np.convolve(column, taps, "valid") for column in along_rows.T], axis=1)
