"""Gaussians around keypoints and masks of unknown regions: training targets that several methods share."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float32

from featherpose.jit import kernel

__all__ = ["SUPPRESSION_WIDTH", "draw_gaussians", "ignore_boxes", "labels_over_teacher", "shrink_mask"]

SUPPRESSION_WIDTH = 2.5
"""Width of the Gaussians in which a label suppresses the teacher's own peak, in widths of the label's Gaussian."""

_CUT = math.log(100.0)  # a Gaussian is zero where its exponent exceeds this: under 0.01


@kernel
def draw_gaussians(keypoints, heatmaps, background, stride, sigma):  # type: ignore[no-untyped-def]
    """Draw the highest Gaussian of all people into each channel; the last one is the background if there is one."""
    people, num_keypoints = keypoints.shape[:2]
    height, width = heatmaps.shape[1:]
    center = np.float32((stride - 1) / 2)
    reach = np.float32(sigma * np.sqrt(2 * _CUT))
    scale = np.float32(1 / (2 * sigma * sigma))
    cut = np.float32(_CUT)
    across = np.empty(width, np.float32)
    for p in range(people):
        for k in range(num_keypoints):
            x = keypoints[p, k, 0]
            y = keypoints[p, k, 1]
            if not (np.isfinite(x) and np.isfinite(y)):
                continue
            # Compared as floats: a coordinate far outside does not fit an integer.
            lowest_x = max(np.ceil((x - reach - center) / stride), np.float32(0))
            highest_x = min(np.floor((x + reach - center) / stride), np.float32(width - 1))
            lowest_y = max(np.ceil((y - reach - center) / stride), np.float32(0))
            highest_y = min(np.floor((y + reach - center) / stride), np.float32(height - 1))
            if lowest_x > highest_x or lowest_y > highest_y:
                continue
            x0, x1, y0, y1 = int(lowest_x), int(highest_x), int(lowest_y), int(highest_y)
            # exp(-(dx² + dy²)) = exp(-dx²) exp(-dy²): two short rows of exponentials instead of a square of them.
            for column in range(x0, x1 + 1):
                dx = np.float32(column * stride) + center - x
                across[column] = np.exp(-dx * dx * scale)
            for row in range(y0, y1 + 1):
                dy = np.float32(row * stride) + center - y
                down = np.exp(-dy * dy * scale)
                for column in range(x0, x1 + 1):
                    dx = np.float32(column * stride) + center - x
                    if (dx * dx + dy * dy) * scale <= cut:
                        value = across[column] * down
                        if value > heatmaps[k, row, column]:
                            heatmaps[k, row, column] = value
                            if background:
                                rest = np.float32(1) - value
                                if rest < heatmaps[num_keypoints, row, column]:
                                    heatmaps[num_keypoints, row, column] = rest


def labels_over_teacher(
    teacher: Float32[np.ndarray, "K h w"], labels: Float32[np.ndarray, "K h w"], wide: Float32[np.ndarray, "K h w"]
) -> Float32[np.ndarray, "K h w"]:
    """Merge a teacher's heatmaps with labels: the label where there is one, the teacher elsewhere.

    The teacher is suppressed around each label, so that its own peak a few pixels beside the labeled one does not
    survive as a second keypoint.

    Args:
        teacher: Heatmaps of the teacher.
        labels: Gaussians around the labeled keypoints.
        wide: The same Gaussians, `SUPPRESSION_WIDTH` times as wide.

    Example:
        >>> teacher = np.array([[[0.2, 0.9, 0.8]]], np.float32)
        >>> labels, wide = np.array([[[0, 0.5, 1]]], np.float32), np.array([[[0, 1, 1]]], np.float32)
        >>> labels_over_teacher(teacher, labels, wide).tolist()
        [[[0.20000000298023224, 0.5, 1.0]]]
    """
    return np.asarray(np.maximum(teacher * (1 - wide), labels), np.float32)


def shrink_mask(mask: Bool[np.ndarray, "H W"], stride: int) -> Float32[np.ndarray, "h w"]:
    """Convert a mask of pixels to weights of cells: the part of each cell's pixels that is True.

    Args:
        mask: bool[H, W] of the network input; True where the annotation is complete, False over people without
            keypoints, crowds and everything else that must not count as background.
        stride: Pixels per cell; H and W need not be multiples of it.

    Example:
        >>> shrink_mask(np.arange(16).reshape(2, 8) % 8 < 6, 4)
        array([[1. , 0.5]], dtype=float32)
    """
    height, width = mask.shape
    rows, columns = np.arange(0, height, stride), np.arange(0, width, stride)
    sums = np.add.reduceat(np.add.reduceat(mask.astype(np.float32), rows, axis=0), columns, axis=1)
    counts = np.diff(np.append(rows, height))[:, None] * np.diff(np.append(columns, width))[None]
    return np.asarray(sums / counts, np.float32)


def ignore_boxes(
    boxes: Float32[np.ndarray, "R 4"], size: tuple[int, int], stride: int = 8
) -> Float32[np.ndarray, "h w"]:
    """Return the ignore mask of boxes: 0 in them, 1 elsewhere, fractions at the border.

    Args:
        boxes: float32[R, 4] (left, top, right, bottom) in network pixels.
        size: (width, height) of the network input.
        stride: Network pixels per cell.

    Example:
        >>> ignore_boxes(np.array([[0, 0, 7, 15]], np.float32), (24, 16)).tolist()
        [[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """
    mask = np.ones((size[1], size[0]), np.bool_)
    for left, top, right, bottom in boxes.tolist():
        if left <= right and top <= bottom:
            mask[max(0, round(top)) : max(0, round(bottom) + 1), max(0, round(left)) : max(0, round(right) + 1)] = False
    return shrink_mask(mask, stride)
