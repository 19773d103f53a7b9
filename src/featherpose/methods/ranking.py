"""Ranks of people beyond their scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

__all__ = ["size_factors"]


def size_factors(
    points: Float32[np.ndarray, "P K 2"], found: Bool[np.ndarray, "P K"], half_px: float
) -> Float32[np.ndarray, " P"]:
    """Return a factor from 0 to 1 for the rank of each person: small people are more often wrong than their scores say.

    Args:
        points: Keypoints in network pixels.
        found: Which of them count.
        half_px: The factor is 0.5 for people whose box has the area of a square of this side; 0 makes all factors 1.

    Example:
        >>> square = np.array([[[0, 0], [8, 8], [99, 99]]], np.float32)
        >>> size_factors(square, np.array([[True, True, False]]), 8.0)
        array([0.5], dtype=float32)
    """
    if half_px == 0:
        return np.ones(len(points), np.float32)
    missing = ~found[..., None]
    low, high = np.where(missing, np.inf, points).min(axis=1), np.where(missing, -np.inf, points).max(axis=1)
    sides = np.sqrt(np.maximum(np.prod(high - low, axis=1), 0))
    return np.asarray(sides / (sides + half_px), np.float32)
