"""The shape of a pose in numbers that depend neither on the person's place nor on its size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int64

from featherpose.jit import kernel
from featherpose.oks import AREA_OF_BOX
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["FAR", "SHAPE_FEATURES", "area_of", "coco_columns", "describe_shape", "find_hull", "shape_features"]

SHAPE_FEATURES = 3 * COCO_17.num_keypoints + 4
"""Two coordinates and one flag for each of COCO's keypoints, and the distances to four borders."""
FAR = 3.0
"""Distances to the borders of the image beyond this many person sizes are all the same."""


_FAR = np.float32(FAR)


@lru_cache(maxsize=64)
def coco_columns(skeleton: Skeleton) -> Int64[np.ndarray, " 17"]:
    """Return where a skeleton has COCO's keypoints, -1 for those that it lacks; none of them is a midpoint of others.

    Example:
        >>> from featherpose.skeleton import OPENPOSE_18
        >>> coco_columns(OPENPOSE_18)[:3].tolist()
        [0, 15, 14]
    """
    return np.array([sources[0] if len(sources) == 1 else -1 for sources in skeleton.mapping_to(COCO_17)])


@kernel
def find_hull(points, hull):  # type: ignore[no-untyped-def]
    """Write the box (left, top, right, bottom) around float32[K, 2] points, NaN where missing.

    Returns:
        Whether a point is there; without one the box is infinite.
    """
    hull[:2] = np.float32(np.inf)
    hull[2:] = np.float32(-np.inf)
    for k in range(points.shape[0]):
        for c in range(2):
            if points[k, c] == points[k, c]:
                hull[c] = min(hull[c], points[k, c])
                hull[2 + c] = max(hull[2 + c], points[k, c])
    return hull[0] <= hull[2]


@kernel
def area_of(hull):  # type: ignore[no-untyped-def]
    """Compute the area of a person in the box around the keypoints, at least one square pixel."""
    return max(AREA_OF_BOX * (hull[2] - hull[0]) * (hull[3] - hull[1]), np.float32(1))


@kernel
def describe_shape(keypoints, box, size, features):  # type: ignore[no-untyped-def]
    """Write what `shape_features` returns for one person of whom a keypoint was found, and return the longer side.

    Args:
        keypoints: float32[17, 2] in image pixels, NaN where missing.
        box: float32[4] around them.
        size: float32[2], width and height of the image.
        features: float32[55], written.
    """
    zero = np.float32(0)
    one = np.float32(1)
    count = keypoints.shape[0]
    middle_x = (box[0] + box[2]) / np.float32(2)
    middle_y = (box[1] + box[3]) / np.float32(2)
    side = max(max(box[2] - box[0], box[3] - box[1]), one)
    for k in range(count):
        here = keypoints[k, 0] == keypoints[k, 0]
        features[2 * k] = (keypoints[k, 0] - middle_x) / side if here else zero
        features[2 * k + 1] = (keypoints[k, 1] - middle_y) / side if here else zero
        features[2 * count + k] = one if here else zero
    border = 3 * count
    features[border] = min(max(middle_x / side, zero), _FAR)
    features[border + 1] = min(max(middle_y / side, zero), _FAR)
    features[border + 2] = min(max((size[0] - middle_x) / side, zero), _FAR)
    features[border + 3] = min(max((size[1] - middle_y) / side, zero), _FAR)
    return side


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
