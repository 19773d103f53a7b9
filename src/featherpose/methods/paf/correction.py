"""Keypoints moved from the maximum of their heatmap to where the maps around it say that the joint is.

The maximum of a heatmap is a biased place: the map is coarse, the joint's surroundings skew it, and a second person
near by pulls it aside. A small fully connected network sees the heatmap around the maximum, all other heatmaps near it
and the size of the person, and says how far away the joint is. ``benchmarks/recipes/people/fit_correction.py`` fitted
it to the maps of the bundled networks; `featherpose.evaluation.reference.correction` has the plain form.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from featherpose.jit import kernel
from featherpose.rating.layers import Layers, read_layers
from featherpose.skeleton import OPENPOSE_18, Skeleton

__all__ = ["CORRECTION_FEATURES", "can_correct", "correct_keypoints", "correction_features", "read_correction"]

CORRECTION_UNIT_PX = 4.0
"""What the network says is in units of so many network pixels."""
OWN_REACH, OWN_STEP_PX = 4, 4.0
"""The keypoint's own heatmap is read at (2 x 4 + 1)² points, 4 network pixels apart."""
NEAR_REACH, NEAR_STEP_PX = 1, 8.0
"""Every keypoint's heatmap is read at (2 x 1 + 1)² points, 8 network pixels apart."""
_OWN = (2 * OWN_REACH + 1) ** 2
_NEAR = (2 * NEAR_REACH + 1) ** 2
_KINDS = OPENPOSE_18.num_keypoints
CORRECTION_FEATURES = _OWN + _KINDS * _NEAR + 2 + _KINDS
"""Numbers that describe a keypoint to the network."""
_FARTHEST = np.float32(2)  # units in x and in y; nothing was fitted beyond
_FAINT = np.float32(1e-3)


@kernel
def _value(heatmap, x, y):  # type: ignore[no-untyped-def]
    """Interpolate between four cells; beyond the border its cells go on."""
    one = np.float32(1)
    x = min(max(x, np.float32(0)), np.float32(heatmap.shape[1] - 1))
    y = min(max(y, np.float32(0)), np.float32(heatmap.shape[0] - 1))
    left = np.int64(x)
    top = np.int64(y)
    right = min(left + 1, heatmap.shape[1] - 1)
    bottom = min(top + 1, heatmap.shape[0] - 1)
    u = x - np.float32(left)
    v = y - np.float32(top)
    above = heatmap[top, left] * (one - u) + heatmap[top, right] * u
    below = heatmap[bottom, left] * (one - u) + heatmap[bottom, right] * u
    return above * (one - v) + below * v


@kernel
def _describe(heatmaps, stride, channels, x, y, kind, size, features):  # type: ignore[no-untyped-def]
    half = (stride - np.float32(1)) / np.float32(2)
    own_step = np.float32(OWN_STEP_PX) / stride
    near_step = np.float32(NEAR_STEP_PX) / stride
    x = (x - half) / stride
    y = (y - half) / stride
    own = heatmaps[channels[kind]]
    top = _FAINT
    at = 0
    for row in range(-OWN_REACH, OWN_REACH + 1):
        for column in range(-OWN_REACH, OWN_REACH + 1):
            value = _value(own, x + np.float32(column) * own_step, y + np.float32(row) * own_step)
            features[at] = value
            top = max(top, value)
            at += 1
    for i in range(at):
        features[i] /= top
    for k in range(channels.shape[0]):
        heatmap = heatmaps[channels[k]]
        for row in range(-NEAR_REACH, NEAR_REACH + 1):
            for column in range(-NEAR_REACH, NEAR_REACH + 1):
                features[at] = _value(heatmap, x + np.float32(column) * near_step, y + np.float32(row) * near_step)
                at += 1
    features[at] = top
    features[at + 1] = np.log(max(size, np.float32(2)))
    at += 2
    for k in range(channels.shape[0]):
        features[at + k] = np.float32(1) if kind == k else np.float32(0)


@kernel
def _size(points, found, person, channels):  # type: ignore[no-untyped-def]
    """Compute the root of the area of the box around a person's keypoints, each side at least one pixel."""
    left = np.float32(np.inf)
    top = np.float32(np.inf)
    right = np.float32(-np.inf)
    bottom = np.float32(-np.inf)
    for i in range(channels.shape[0]):
        k = channels[i]
        if found[person, k]:
            left = min(left, points[person, k, 0])
            right = max(right, points[person, k, 0])
            top = min(top, points[person, k, 1])
            bottom = max(bottom, points[person, k, 1])
    one = np.float32(1)
    return np.sqrt(max(right - left, one) * max(bottom - top, one))


@kernel
def _dense(weight, bias, x, out):  # type: ignore[no-untyped-def]
    """Add columns instead of multiplying rows: the compiler makes vectors of it without another order of sums."""
    for row in range(out.shape[0]):
        out[row] = bias[row]
    for column in range(weight.shape[0]):
        value = x[column]
        if value != 0:
            for row in range(out.shape[0]):
                out[row] += weight[column, row] * value


@kernel
def _run(features, w0, b0, w1, b1, w2, b2, moves):  # type: ignore[no-untyped-def]
    zero = np.float32(0)
    first = np.empty(w0.shape[1], np.float32)
    second = np.empty(w1.shape[1], np.float32)
    for n in range(features.shape[0]):
        _dense(w0, b0, features[n], first)
        for i in range(first.shape[0]):
            first[i] = max(first[i], zero)
        _dense(w1, b1, first, second)
        for i in range(second.shape[0]):
            second[i] = max(second[i], zero)
        _dense(w2, b2, second, moves[n])
        for c in range(2):
            moves[n, c] = np.float32(CORRECTION_UNIT_PX) * min(max(moves[n, c], -_FARTHEST), _FARTHEST)


@kernel
def _describe_all(heatmaps, stride, channels, points, found, features):  # type: ignore[no-untyped-def]
    row = 0
    for p in range(points.shape[0]):
        size = _size(points, found, p, channels)
        for kind in range(channels.shape[0]):
            k = channels[kind]
            if found[p, k]:
                _describe(heatmaps, stride, channels, points[p, k, 0], points[p, k, 1], kind, size, features[row])
                row += 1


def correct_keypoints(
    heatmaps: Float32[np.ndarray, "C h w"],
    stride: int,
    skeleton: Skeleton,
    points: Float32[np.ndarray, "P K 2"],
    found: Bool[np.ndarray, "P K"],
) -> Float32[np.ndarray, "P K 2"]:
    """Return keypoints where their joints are, at most 8 network pixels in x and in y from where they were.

    Args:
        heatmaps: float32[C, h, w], read only.
        stride: Network pixels a cell.
        skeleton: One that `can_correct`; keypoints that OPENPOSE_18 lacks stay where they are.
        points: float32[P, K, 2] maxima, in network pixels.
        found: bool[P, K].

    Example:
        >>> maps = np.zeros((18, 20, 20), np.float32)
        >>> maps[4, 8:12, 8:12] = 0.6  # a wrist that the map shows to the right of where it is thought to be
        >>> points = np.full((1, 18, 2), 70.0, np.float32)
        >>> found = np.arange(18)[None] == 4
        >>> moved = correct_keypoints(maps, 8, OPENPOSE_18, points, found) - points
        >>> bool(moved[0, 4, 0] > 0), float(abs(moved[~found]).max())
        (True, 0.0)
    """
    features = correction_features(heatmaps, stride, skeleton, points, found)
    moves = np.empty((len(features), 2), np.float32)
    _run(features, *_layers(), moves)
    channels = _channels(skeleton)
    people, kinds = np.nonzero(found[:, channels])
    corrected = points.copy()
    corrected[people, channels[kinds]] += moves
    return corrected


def correction_features(
    heatmaps: Float32[np.ndarray, "C h w"],
    stride: int,
    skeleton: Skeleton,
    points: Float32[np.ndarray, "P K 2"],
    found: Bool[np.ndarray, "P K"],
) -> Float32[np.ndarray, "N F"]:
    """Describe the N keypoints of OPENPOSE_18 that were found, people in order; arguments as of `correct_keypoints`.

    Returns:
        For each keypoint, in this order: its own heatmap around it, row by row, in parts of the highest of these
        values; all heatmaps of OPENPOSE_18 near it; the highest value; the logarithm of the person's size in network
        pixels; and 1 at its kind.
    """
    channels = _channels(skeleton)
    features = np.empty((int(found[:, channels].sum()), CORRECTION_FEATURES), np.float32)
    _describe_all(heatmaps, np.float32(stride), channels, points, found, features)
    return features


def can_correct(skeleton: Skeleton) -> bool:
    """Return whether a skeleton has all keypoints of OPENPOSE_18.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> can_correct(OPENPOSE_18), can_correct(COCO_17)
        (True, False)
    """
    return set(OPENPOSE_18.keypoints) <= set(skeleton.keypoints)


def read_correction(path: Path) -> Layers:
    """Read a correcting network, as ``benchmarks/recipes/people/fit_correction.py`` writes it.

    Raises:
        CheckpointError: If the file is damaged, or has other layers than three.
    """
    return read_layers(path, inputs=CORRECTION_FEATURES, outputs=2, count=3, what="correcting network")


@lru_cache(maxsize=64)
def _channels(skeleton: Skeleton) -> Int64[np.ndarray, " K"]:
    return np.array([skeleton.keypoints.index(name) for name in OPENPOSE_18.keypoints])


@cache
def _layers() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    (w0, b0), (w1, b1), (w2, b2) = read_correction(Path(__file__).with_name("correction.npz"))
    return tuple(np.ascontiguousarray(part) for part in (w0.T, b0, w1.T, b1, w2.T, b2))  # type: ignore[return-value]
