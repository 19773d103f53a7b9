"""The shape of a pose in numbers that depend neither on the person's place nor on its size."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from featherpose.skeleton import COCO_17

__all__ = ["FAR", "SHAPE_FEATURES", "shape_features"]

SHAPE_FEATURES = 3 * COCO_17.num_keypoints + 4
"""Two coordinates and one flag for each of COCO's keypoints, and the distances to four borders."""
FAR = 3.0
"""Distances to the borders of the image beyond this many person sizes are all the same."""


def shape_features(
    keypoints: Float32[np.ndarray, "P 17 2"], image_size: tuple[int, int]
) -> tuple[Float32[np.ndarray, "P 55"], Float32[np.ndarray, "P 4"], Float32[np.ndarray, "P 1"]]:
    """Describe people independently of their place and size.

    Args:
        keypoints: In image pixels, NaN where missing.
        image_size: (width, height).

    Returns:
        Features (keypoints relative to the center of their box and to its longer side, which of them were found,
        distances to the borders of the image), the boxes around the keypoints, and their longer sides.
    """
    found = ~np.isnan(keypoints[..., 0])
    low = np.where(found[..., None], keypoints, np.inf).min(axis=1)
    high = np.where(found[..., None], keypoints, -np.inf).max(axis=1)
    none = ~found.any(axis=1)
    low[none] = high[none] = np.nan
    centers, sides = (low + high) / 2, np.maximum((high - low).max(axis=1, keepdims=True), 1)
    relative = np.where(found[..., None], (keypoints - centers[:, None]) / sides[:, :, None], 0)
    borders = np.concatenate((centers, np.asarray(image_size, np.float32) - centers), axis=1) / sides
    features = np.concatenate((relative.reshape(len(found), -1), found, np.clip(borders, 0, FAR)), axis=1)
    return features.astype(np.float32), np.concatenate((low, high), axis=1), sides
