"""Hough voting: every cell of a disk votes, by its offset, for where the keypoint is.

Papandreou et al. 2017 (arXiv 1701.01779), section 3.2, equation 1: the activation at x is the sum over cells j of
``G(x_j + F(x_j) - x) h(x_j) / (pi R²)``, with the disk probability h, the offset F and the bilinear kernel G.
`featherpose.evaluation.reference.disks` has the plain form.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32

from featherpose.jit import kernel

__all__ = ["find_voted", "values_at", "vote"]

# Cells of lower probability do not vote: together they would only blur.
_LOWEST = 0.01


@kernel
def _vote(disks, offsets, radius, votes):  # type: ignore[no-untyped-def]
    """Add every cell's vote; ``radius`` in cells."""
    keypoints, height, width = votes.shape
    scale = np.float32(1 / (math.pi * radius * radius))
    for k in range(keypoints):
        for y in range(height):
            for x in range(width):
                p = disks[k, y, x]
                if not p > np.float32(_LOWEST):  # False for NaN
                    continue
                at_x = x + offsets[2 * k, y, x] * radius
                at_y = y + offsets[2 * k + 1, y, x] * radius
                if not (at_x > -1 and at_x < width and at_y > -1 and at_y < height):
                    continue
                x0 = int(np.floor(at_x))
                y0 = int(np.floor(at_y))
                right = np.float32(at_x - x0)
                below = np.float32(at_y - y0)
                weight = p * scale
                for step in range(2):
                    row = y0 + step
                    part = below if step else 1 - below
                    if 0 <= row < height:
                        if x0 >= 0:
                            votes[k, row, x0] += weight * part * (1 - right)
                        if x0 + 1 < width:
                            votes[k, row, x0 + 1] += weight * part * right


@kernel
def _find_peaks(maps, reach, positions, scores):  # type: ignore[no-untyped-def]
    """Find the highest cell of each map, and the center of mass of the cells around it."""
    keypoints, height, width = maps.shape
    for k in range(keypoints):
        best = np.float32(0)
        row = 0
        column = 0
        for y in range(height):
            for x in range(width):
                if maps[k, y, x] > best:
                    best = maps[k, y, x]
                    row = y
                    column = x
        scores[k] = best
        total = np.float32(0)
        at_x = np.float32(0)
        at_y = np.float32(0)
        for y in range(max(row - reach, 0), min(row + reach + 1, height)):
            for x in range(max(column - reach, 0), min(column + reach + 1, width)):
                total += maps[k, y, x]
                at_x += maps[k, y, x] * x
                at_y += maps[k, y, x] * y
        if total > 0:
            positions[k, 0] = at_x / total
            positions[k, 1] = at_y / total


def vote(
    disks: Float32[np.ndarray, "K h w"], offsets: Float32[np.ndarray, "D h w"], radius: float
) -> Float32[np.ndarray, "K h w"]:
    """Compute the activation maps.

    Args:
        disks: Probability that a cell is in the disk around keypoint k.
        offsets: float32[2K, h, w], x and y from the cell to the keypoint, in units of the radius.
        radius: Of the disks, in cells.

    Example:
        >>> disks = np.zeros((1, 5, 5), np.float32)
        >>> disks[0, 2, 2] = 1
        >>> offsets = np.full((2, 5, 5), 0.5, np.float32)
        >>> votes = vote(disks, offsets, 2.0)
        >>> int(votes[0].argmax()) == 3 * 5 + 3, round(float(votes.sum()) * np.pi * 4, 3)
        (True, 1.0)
    """
    votes = np.zeros(disks.shape, np.float32)
    _vote(
        np.ascontiguousarray(disks, np.float32), np.ascontiguousarray(offsets, np.float32), np.float32(radius), votes
    )  # fmt: skip
    return votes


def find_voted(
    maps: Float32[np.ndarray, "K h w"], *, reach: int = 1
) -> tuple[Float32[np.ndarray, "K 2"], Float32[np.ndarray, " K"]]:
    """Find (x, y) in cells and the height of the highest cell of each map.

    Bilinear votes for one point lie in the four cells around it, and their center of mass is that point.

    Args:
        maps: Activation maps.
        reach: Cells to each side that count into the center of mass.
    """
    positions, scores = np.zeros((len(maps), 2), np.float32), np.zeros(len(maps), np.float32)
    _find_peaks(np.ascontiguousarray(maps, np.float32), reach, positions, scores)
    return positions, scores


def values_at(maps: Float32[np.ndarray, "K h w"], cells: Float32[np.ndarray, "K 2"]) -> Float32[np.ndarray, " K"]:
    """Interpolate map k bilinearly at point k, (x, y) in cells; points outside take the nearest place inside.

    Example:
        >>> maps = np.array([[[0, 1], [2, 3]]], np.float32)
        >>> values_at(maps, np.array([[0.5, 0.5]], np.float32)), values_at(maps, np.array([[9, 0]], np.float32))
        (array([1.5], dtype=float32), array([1.], dtype=float32))
    """
    last = np.array(maps.shape[:0:-1]) - 1
    cells = np.clip(cells, 0, last)
    low = np.minimum(cells.astype(np.int64), np.maximum(last - 1, 0))
    x, y = (cells - low).T
    high = np.minimum(low + 1, last)
    k = np.arange(len(maps))
    upper = maps[k, low[:, 1], low[:, 0]] * (1 - x) + maps[k, low[:, 1], high[:, 0]] * x
    lower = maps[k, high[:, 1], low[:, 0]] * (1 - x) + maps[k, high[:, 1], high[:, 0]] * x
    return np.asarray(upper * (1 - y) + lower * y, np.float32)
