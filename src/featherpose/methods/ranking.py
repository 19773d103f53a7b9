"""Ranks of people beyond their scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32

from featherpose.poses import Poses
from featherpose.rating.rate import can_rate, rate_people

__all__ = ["blended_with_rating", "size_factors"]


def blended_with_rating(poses: Poses, weight: float, scale: float) -> Poses:
    """Score people by their own score and the accuracy that is expected of their poses, best first.

    The rating was fitted to part affinity fields. It sees what scores of other methods do not, but not what those see,
    such as how sure a detector is of a box; so neither replaces the other.

    Args:
        poses: People with scores of 0 to 1. Skeletons that cannot be rated stay as they are.
        weight: Of the rating in the weighted geometric mean, 0 to 1.
        scale: Network pixels an image pixel.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
        >>> chaos = Poses(points, np.full((1, 17), 0.2, np.float32), np.ones(1, np.float32), COCO_17, (100, 100))
        >>> (
        ...     blended_with_rating(chaos, 0.0, 1.0).scores.tolist(),
        ...     bool(blended_with_rating(chaos, 0.5, 1.0).scores < 0.5),
        ... )
        ([1.0], True)
    """
    if weight == 0 or not len(poses) or not can_rate(poses.skeleton):
        return poses
    ratings = rate_people(poses, "found", scale=scale)
    scores = np.asarray(ratings**weight * np.maximum(poses.scores, 0) ** (1 - weight), np.float32)
    return replace(poses, scores=scores)[np.argsort(-scores, kind="stable")]


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
