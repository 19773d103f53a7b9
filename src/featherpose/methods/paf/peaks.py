"""Heatmaps to peaks: local maxima of the coarse map, each refined below the cell without resizing the map.

A full resize evaluates a cubic interpolation at every pixel of the image; only the few values around each maximum
matter, so only these are evaluated, with the same kernel (a = -0.75, half-pixel centers, replicated border) that
``cv2.resize(..., interpolation=cv2.INTER_CUBIC)`` uses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from featherpose.jit import kernel

__all__ = ["Peaks", "find_peaks"]

# The interpolated maximum between cells is higher than the cells around it: a Gaussian of sigma 7 px on cells of 8 px,
# centered on a corner of four, leaves 0.77 of its interpolated height in each. Cells under this part are passed over.
_CELL_PART = np.float32(0.6)
_STEP = 0.25  # cells between the points at which the interpolation is evaluated
_REACH = 3  # steps to each side of the coarse maximum
_TAPS = 5  # cells that the evaluated points depend on, to both sides of the maximum


class Peaks(NamedTuple):
    """N candidate keypoints, those of keypoint k at ``starts[k]:starts[k + 1]``, best first.

    Attributes:
        positions: float32[N, 2], (x, y) in heatmap cells.
        scores: float32[N], interpolated height.
        starts: int32[K + 1].
    """

    positions: Float32[np.ndarray, "N 2"]
    scores: Float32[np.ndarray, " N"]
    starts: Int32[np.ndarray, " K1"]


def _cubic_weights() -> Float32[np.ndarray, "7 5"]:
    """Return the weights of the cells -2 … 2 for an evaluation at each of the offsets -0.75 … 0.75 cells."""
    a = -0.75  # OpenCV's value
    offsets = np.arange(-_REACH, _REACH + 1) * _STEP
    distance = np.abs(offsets[:, None] - np.arange(-(_TAPS // 2), _TAPS // 2 + 1)[None])
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0)).astype(np.float32)


_WEIGHTS = _cubic_weights()


@kernel
def _refine(heatmap, row, column, weights):  # type: ignore[no-untyped-def]
    """Return (x, y, height) of the maximum of the interpolated map around a cell."""
    height, width = heatmap.shape
    across = np.empty((_TAPS, 2 * _REACH + 1), np.float32)
    for i in range(_TAPS):
        y = min(max(row + i - _TAPS // 2, 0), height - 1)
        v0 = heatmap[y, max(column - 2, 0)]
        v1 = heatmap[y, max(column - 1, 0)]
        v2 = heatmap[y, column]
        v3 = heatmap[y, min(column + 1, width - 1)]
        v4 = heatmap[y, min(column + 2, width - 1)]
        for s in range(2 * _REACH + 1):
            across[i, s] = (
                weights[s, 0] * v0 + weights[s, 1] * v1 + weights[s, 2] * v2 + weights[s, 3] * v3 + weights[s, 4] * v4
            )
    fine = np.empty((2 * _REACH + 1, 2 * _REACH + 1), np.float32)
    best_r = _REACH
    best_c = _REACH
    for r in range(2 * _REACH + 1):
        for c in range(2 * _REACH + 1):
            value = np.float32(0)
            for i in range(_TAPS):
                value += weights[r, i] * across[i, c]
            fine[r, c] = value
    for r in range(2 * _REACH + 1):
        for c in range(2 * _REACH + 1):
            if fine[r, c] > fine[best_r, best_c]:
                best_r = r
                best_c = c
    top = fine[best_r, best_c]
    # A parabola through three points of each axis leads from the grid of evaluations to the maximum itself.
    x = np.float32(best_c - _REACH)
    y = np.float32(best_r - _REACH)
    peak = top
    if 0 < best_c < 2 * _REACH:
        left, right = fine[best_r, best_c - 1], fine[best_r, best_c + 1]
        bend = left - 2 * top + right
        if bend < 0:
            shift = np.float32(0.5) * (left - right) / bend
            x += shift
            peak -= np.float32(0.25) * (left - right) * shift
    if 0 < best_r < 2 * _REACH:
        above, below = fine[best_r - 1, best_c], fine[best_r + 1, best_c]
        bend = above - 2 * top + below
        if bend < 0:
            shift = np.float32(0.5) * (above - below) / bend
            y += shift
            peak -= np.float32(0.25) * (above - below) * shift
    return column + x * np.float32(_STEP), row + y * np.float32(_STEP), peak


@kernel
def _plateau(heatmap, row, column, seen, stack):  # type: ignore[no-untyped-def]
    """Return (is a maximum, x, y) of the cells of equal height around a cell, taken as one; mark them in ``seen``."""
    height, width = heatmap.shape
    level = heatmap[row, column]
    stack[0] = row * width + column
    seen[row, column] = True
    filled = 1
    highest = True
    sum_x = 0.0
    sum_y = 0.0
    done = 0
    while done < filled:
        y = stack[done] // width
        x = stack[done] % width
        done += 1
        sum_x += x
        sum_y += y
        for step in range(4):
            v = y + (1 if step == 0 else -1 if step == 1 else 0)
            u = x + (1 if step == 2 else -1 if step == 3 else 0)
            if 0 <= v < height and 0 <= u < width:
                if heatmap[v, u] > level:
                    highest = False
                elif heatmap[v, u] == level and not seen[v, u]:
                    seen[v, u] = True
                    stack[filled] = v * width + u
                    filled += 1
    return highest, sum_x / filled, sum_y / filled, filled


@kernel
def _collect(heatmaps, num_keypoints, threshold, radius, weights):  # type: ignore[no-untyped-def]
    height = heatmaps.shape[1]
    width = heatmaps.shape[2]
    floor = threshold * _CELL_PART
    positions = np.empty((256, 2), np.float32)
    scores = np.empty(256, np.float32)
    starts = np.zeros(num_keypoints + 1, np.int32)
    total = 0
    seen = np.zeros((1, 1), np.bool_)
    stack = np.empty(1, np.int64)
    for k in range(num_keypoints):
        heatmap = heatmaps[k]
        begin = total
        flat = False
        for row in range(height):
            for column in range(width):
                value = heatmap[row, column]
                if not value > floor:  # NaN is passed over too
                    continue
                tied = False
                cells = 1
                center_x = 0.0
                center_y = 0.0
                if column > 0:
                    other = heatmap[row, column - 1]
                    if other > value:
                        continue
                    tied |= other == value
                if column < width - 1:
                    other = heatmap[row, column + 1]
                    if other > value:
                        continue
                    tied |= other == value
                if row > 0:
                    other = heatmap[row - 1, column]
                    if other > value:
                        continue
                    tied |= other == value
                if row < height - 1:
                    other = heatmap[row + 1, column]
                    if other > value:
                        continue
                    tied |= other == value
                if tied:
                    if not flat:
                        if seen.shape[0] == 1:
                            stack = np.empty(height * width, np.int64)
                        seen = np.zeros((height, width), np.bool_)
                        flat = True
                    if seen[row, column]:
                        continue
                    highest, center_x, center_y, cells = _plateau(heatmap, row, column, seen, stack)
                    if not highest:
                        continue
                if cells > 2:
                    x = np.float32(center_x)
                    y = np.float32(center_y)
                    score = value
                else:
                    x, y, score = _refine(heatmap, row, column, weights)
                if not score > threshold:
                    continue
                if total == scores.shape[0]:
                    wider = np.empty((2 * total, 2), np.float32)
                    longer = np.empty(2 * total, np.float32)
                    for i in range(total):  # loops compile in a tenth of the time that slices take
                        wider[i, 0] = positions[i, 0]
                        wider[i, 1] = positions[i, 1]
                        longer[i] = scores[i]
                    positions = wider
                    scores = longer
                # Insertion keeps the peaks of one keypoint in order of score, best first.
                at = total
                while at > begin and scores[at - 1] < score:
                    scores[at] = scores[at - 1]
                    positions[at, 0] = positions[at - 1, 0]
                    positions[at, 1] = positions[at - 1, 1]
                    at -= 1
                scores[at] = score
                positions[at, 0] = x
                positions[at, 1] = y
                total += 1
        # Suppression by score: a peak stays when no stronger one that stays is near.
        kept = begin
        for i in range(begin, total):
            free = True
            for j in range(begin, kept):
                dx = positions[i, 0] - positions[j, 0]
                dy = positions[i, 1] - positions[j, 1]
                if dx * dx + dy * dy < radius * radius:
                    free = False
                    break
            if free:
                positions[kept, 0] = positions[i, 0]
                positions[kept, 1] = positions[i, 1]
                scores[kept] = scores[i]
                kept += 1
        total = kept
        starts[k + 1] = total
    return positions, scores, starts


def find_peaks(
    heatmaps: Float32[np.ndarray, "C h w"], num_keypoints: int, *, threshold: float, suppression_radius: float
) -> Peaks:
    """Find the local maxima of the first K heatmaps, refined below the cell, suppressed by score.

    A maximum is a cell, or a plateau of equal cells, with no higher cell beside it.

    Args:
        heatmaps: float32[C, h, w], C ≥ K; not modified.
        num_keypoints: K.
        threshold: Interpolated height that a peak must exceed.
        suppression_radius: In heatmap cells: of two nearer peaks of one keypoint the stronger stays.

    Example:
        >>> heatmap = np.zeros((1, 5, 7), np.float32)
        >>> heatmap[0, 2, 3:5] = 0.8  # a plateau of two cells is one peak between them
        >>> find_peaks(heatmap, 1, threshold=0.1, suppression_radius=1).positions.round(2)
        array([[3.5, 2. ]], dtype=float32)
    """
    positions, scores, starts = _collect(
        heatmaps, num_keypoints, np.float32(threshold), np.float32(suppression_radius), _WEIGHTS
    )
    total = starts[-1]
    return Peaks(positions[:total], scores[:total], starts)
