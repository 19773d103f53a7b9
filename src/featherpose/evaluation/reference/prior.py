"""Gaussians of a pose under a crop in plain numpy, to which the compiled kernel is held."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from featherpose.crops import PRIOR_STRIDE, CropShape

__all__ = ["draw_prior"]


def draw_prior(
    keypoints: Float32[np.ndarray, "K 2"],
    scores: Float32[np.ndarray, " K"],
    matrix: Float64[np.ndarray, "2 3"],
    shape: CropShape,
    crop: UInt8[np.ndarray, "R W 3"],
) -> None:
    """Draw a pose into the rows under a crop, as `featherpose.crop_prior.draw_prior` does."""
    across, down = shape.width // PRIOR_STRIDE, shape.height // PRIOR_STRIDE
    rows, columns = np.mgrid[:down, :across]
    maps = np.zeros((len(keypoints), down, across), np.uint8)
    cells = (keypoints - matrix[:, 2]) / np.diag(matrix) / PRIOR_STRIDE
    for k, (x, y) in enumerate(cells):
        if not (-1 <= x <= across and -1 <= y <= down):
            continue
        # A Gaussian of one cell, as far as two cells from the nearest one.
        near = (abs(columns - np.floor(x + 0.5)) <= 2) & (abs(rows - np.floor(y + 0.5)) <= 2)
        height = 255 * (0.3 + 0.7 * np.clip(scores[k], 0, 1))
        values = height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)
        maps[k] = np.where(near, values + 0.5, 0).astype(np.uint8)
    under = np.zeros((3, shape.rows - shape.height, shape.width), np.uint8)
    under.reshape(-1)[: maps.size] = maps.reshape(-1)
    crop[shape.height :] = under.transpose(1, 2, 0)
