"""From the keypoints of the one person in a crop to `Poses`, the same way for every single-person method."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from featherpose.geometry import Letterbox
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["one_person"]


def one_person(
    pixels: Float32[np.ndarray, "K 2"],
    scores: Float32[np.ndarray, " K"],
    found: Bool[np.ndarray, " K"],
    skeleton: Skeleton,
    letterbox: Letterbox,
    *,
    min_keypoints: int,
    rank: float | None = None,
) -> Poses:
    """Return the person, or nobody if too few keypoints were found.

    Args:
        pixels: Positions in network pixels.
        scores: Scores of the keypoints; those over 1 count as 1.
        found: Which keypoints count.
        skeleton: K keypoints.
        letterbox: The way to pixels of the image.
        min_keypoints: Fewer are nobody.
        rank: Score of the person; the mean over the keypoints that were found unless given.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> letterbox = Letterbox.fit((32, 32), height=32, multiple=8)
        >>> points, scores = np.zeros((17, 2), np.float32), np.linspace(0, 1.6, 17, dtype=np.float32)
        >>> one_person(points, scores, scores > 0.5, COCO_17, letterbox, min_keypoints=3)[0]
        Person(11 of 17 keypoints, coco_17, score 0.91)
    """
    if found.sum() < min_keypoints:
        return Poses.empty(skeleton, letterbox.source_size)
    keypoints = letterbox.inverse(pixels)
    keypoints[~found] = np.nan
    scores = np.where(found, np.minimum(scores, np.float32(1)), np.float32(0)).astype(np.float32)
    ranks = np.array([scores[found].mean() if rank is None else rank], np.float32)
    return Poses(keypoints[None], scores[None], ranks, skeleton, letterbox.source_size)
