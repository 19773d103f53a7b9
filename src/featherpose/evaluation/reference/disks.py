"""Hough voting of disks and offsets in plain numpy, to which the compiled kernel is held."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Float64

__all__ = ["vote"]


def vote(
    disks: Float32[np.ndarray, "K h w"], offsets: Float32[np.ndarray, "D h w"], radius: float
) -> Float64[np.ndarray, "K h w"]:
    """Evaluate equation 1 of Papandreou et al. 2017, section 3.2, cell by cell with the whole bilinear kernel.

    Args:
        disks: Probabilities; those of at most 0.01 do not vote.
        offsets: float32[2K, h, w] in units of the radius.
        radius: In cells.
    """
    keypoints, height, width = disks.shape
    votes = np.zeros(disks.shape)
    rows, columns = np.mgrid[:height, :width]
    for k in range(keypoints):
        for y, x in np.argwhere(disks[k] > np.float32(0.01)):
            to_x = x + float(offsets[2 * k, y, x]) * radius
            to_y = y + float(offsets[2 * k + 1, y, x]) * radius
            weight = np.maximum(0, 1 - np.abs(columns - to_x)) * np.maximum(0, 1 - np.abs(rows - to_y))
            votes[k] += np.nan_to_num(weight) * float(disks[k, y, x]) / (math.pi * radius**2)
    return votes
