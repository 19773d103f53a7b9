"""Similarity of poses: object keypoint similarity (OKS), and the boxes and areas it needs.

Source of the formula: the COCO keypoint challenge, https://cocodataset.org/#keypoints-eval.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = [
    "AREA_OF_BOX",
    "box_areas",
    "keypoint_variances",
    "mutual_oks",
    "oks_matrix",
    "relative_variances",
]

AREA_OF_BOX = np.float32(0.53)
"""Area of a person in areas of the box around the keypoints: the mean of COCO's segments."""


def box_areas(boxes: Float32[np.ndarray, "P 4"]) -> Float32[np.ndarray, " P"]:
    """Return float32[P]: areas in square pixels of boxes (left, top, right, bottom); NaN boxes have area 0.

    Example:
        >>> box_areas(np.array([[0, 0, 10, 20]], np.float32))
        array([200.], dtype=float32)
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(np.nan_to_num(areas), np.float32)


def keypoint_variances(poses: Poses, *, areas: Float32[np.ndarray, " P"] | None = None) -> Float32[np.ndarray, "P K"]:
    """Return what the squared distance of each keypoint is divided by in OKS: 2 · area · (2 sigma)².

    Args:
        poses: P people.
        areas: float32[P] areas of the people in square pixels; `AREA_OF_BOX` of their boxes unless given.

    Returns:
        float32[P, K], square pixels.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> pair = Skeleton.create("pair", ["a", "b"], [(0, 1)])
        >>> points = np.array([[[0, 0], [10, 10]]], np.float32)
        >>> poses = Poses(points, np.ones((1, 2), np.float32), np.ones(1, np.float32), pair, (99, 99))
        >>> keypoint_variances(poses, areas=np.ones(1, np.float32)).shape
        (1, 2)
    """
    if areas is None:
        areas = AREA_OF_BOX * box_areas(poses.boxes())
    return np.asarray(2 * np.maximum(areas, 1.0)[:, None] * relative_variances(poses.skeleton), np.float32)


@lru_cache(maxsize=64)
def relative_variances(skeleton: Skeleton) -> Float32[np.ndarray, " K"]:
    """Return float32[K]: (2 sigma)² of each keypoint, read only.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> round(float(relative_variances(COCO_17)[0]), 6)
        0.002704
    """
    variances = (2 * np.asarray(skeleton.sigmas, np.float32)) ** 2
    variances.flags.writeable = False
    return variances


def oks_matrix(a: Poses, b: Poses, *, areas: Float32[np.ndarray, " P"] | None = None) -> Float32[np.ndarray, "P Q"]:
    """Return the object keypoint similarity of every person of ``a`` with every person of ``b``.

    ``OKS = mean over keypoints both have of exp(-d² / (2 · area · (2 sigma)²))``, 0 where they share none.

    Args:
        a: P people; their size scales the distance.
        b: Q people of the same skeleton.
        areas: float32[P] areas of the people of ``a`` in square pixels, see `keypoint_variances`.

    Returns:
        float32[P, Q] in 0..1.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (2, 17, 2)).astype(np.float32)
        >>> poses = Poses(points, np.ones((2, 17), np.float32), np.ones(2, np.float32), COCO_17, (100, 100))
        >>> bool(np.allclose(np.diag(oks_matrix(poses, poses)), 1))
        True
    """
    offsets = a.keypoints[:, None] - b.keypoints[None]
    distances = np.einsum("pqkc,pqkc->pqk", offsets, offsets)
    shared = ~np.isnan(distances)
    scale = keypoint_variances(a, areas=areas)[:, None]
    terms = np.where(shared, np.exp(-np.nan_to_num(distances) / scale), 0)
    return np.asarray(terms.sum(-1) / np.maximum(shared.sum(-1), 1), np.float32)


def mutual_oks(a: Poses, b: Poses) -> Float32[np.ndarray, "P Q"]:
    """Return the higher of both directions of `oks_matrix`: a fragment is compared at the size of the person.

    Args:
        a: P people.
        b: Q people of the same skeleton.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (2, 17, 2)).astype(np.float32)
        >>> poses = Poses(points, np.ones((2, 17), np.float32), np.ones(2, np.float32), COCO_17, (100, 100))
        >>> mutual_oks(poses, poses[:1]).shape
        (2, 1)
    """
    there = oks_matrix(a, b)
    return np.asarray(np.maximum(there, there.T if a is b else oks_matrix(b, a).T), np.float32)
