"""Mosaics: four views in one, crowds from images of single people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

__all__ = ["make_mosaic"]


def make_mosaic(
    views: Sequence[UInt8[np.ndarray, "H W 3"]],
    people: Sequence[Float32[np.ndarray, "P K 2"]],
    ignored: Sequence[Float32[np.ndarray, "R 4"]],
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "Q K 2"], Float32[np.ndarray, "S 4"]]:
    """Put the four quarters of four views into one scene.

    Each view contributes the part around its own center; keypoints outside their quarter become missing.

    Args:
        views: Four images of one size.
        people: Keypoints of each, in its pixels.
        ignored: Ignore boxes of each.
        rng: Draws where the quarters meet, 35 to 65 % of the way.

    Returns:
        The scene, its people and its ignore boxes.

    Example:
        >>> views = [np.full((8, 8, 3), i, np.uint8) for i in range(4)]
        >>> nobody, none = [np.empty((0, 1, 2), np.float32)] * 4, [np.empty((0, 4), np.float32)] * 4
        >>> scene, _, _ = make_mosaic(views, nobody, none, np.random.default_rng(0))
        >>> scene[0, 0, 0], scene[0, 7, 0], scene[7, 0, 0], scene[7, 7, 0]
        (np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3))
    """
    height, width = views[0].shape[:2]
    x = round(width * rng.uniform(0.35, 0.65))
    y = round(height * rng.uniform(0.35, 0.65))
    scene = np.empty_like(views[0])
    keypoints, boxes = [], []
    quarters = ((0, y, 0, x), (0, y, x, width), (y, height, 0, x), (y, height, x, width))
    for view, persons, ignore, (top, bottom, left, right) in zip(views, people, ignored, quarters, strict=True):
        # The source window has the quarter's size and lies around the view's center.
        from_x, from_y = (width - (right - left)) // 2, (height - (bottom - top)) // 2
        scene[top:bottom, left:right] = view[from_y : from_y + bottom - top, from_x : from_x + right - left]
        shift = np.array([left - from_x, top - from_y], np.float32)
        moved = persons + shift
        with np.errstate(invalid="ignore"):
            inside = (
                (moved[..., 0] > left - 0.5)
                & (moved[..., 0] < right - 0.5)
                & (moved[..., 1] > top - 0.5)
                & (moved[..., 1] < bottom - 0.5)
            )
        moved = np.where(inside[..., None], moved, np.float32(np.nan))
        keypoints.append(moved[inside.any(axis=1)] if moved.size else moved)
        cut = ignore + np.tile(shift, 2)
        cut[:, [0, 2]] = cut[:, [0, 2]].clip(left, right - 1)
        cut[:, [1, 3]] = cut[:, [1, 3]].clip(top, bottom - 1)
        boxes.append(cut[(cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])])
    return scene, np.concatenate(keypoints).astype(np.float32), np.concatenate(boxes).astype(np.float32)
