"""The correction of keypoints in plain numpy, to which the compiled kernel is held."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from featherpose.rating.layers import Layers, run_layers
from featherpose.skeleton import OPENPOSE_18, Skeleton

__all__ = ["correct", "describe"]


def _read(heatmap: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate at points in cells; beyond the border its cells go on."""
    rows, columns = heatmap.shape
    x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    u, v = x - left, y - top
    above = heatmap[top, left] * (1 - u) + heatmap[top, right] * u
    below = heatmap[bottom, left] * (1 - u) + heatmap[bottom, right] * u
    return np.asarray(above * (1 - v) + below * v)


def describe(
    heatmaps: Float32[np.ndarray, "C h w"],
    stride: int,
    skeleton: Skeleton,
    person: Float32[np.ndarray, "K 2"],
    kind: int,
) -> Float32[np.ndarray, " F"]:
    """Describe one keypoint of a person as `featherpose.methods.paf.correction.correction_features` does.

    Args:
        heatmaps: float32[C, h, w].
        stride: Network pixels a cell.
        skeleton: Of the person and the heatmaps.
        person: float32[K, 2] in network pixels, NaN where a keypoint is missing.
        kind: Which keypoint of OPENPOSE_18.
    """
    channels = [skeleton.keypoints.index(name) for name in OPENPOSE_18.keypoints]
    x, y = (person[channels[kind]] - (stride - 1) / 2) / stride
    own = np.arange(-4, 5) * 4 / stride
    near = np.arange(-1, 2) * 8 / stride
    patch = _read(heatmaps[channels[kind]], *np.meshgrid(x + own, y + own)).ravel()
    around = [_read(heatmaps[k], *np.meshgrid(x + near, y + near)).ravel() for k in channels]
    top = max(patch.max(), 1e-3)
    sides = np.nanmax(person[channels], axis=0) - np.nanmin(person[channels], axis=0)
    size = np.sqrt(np.maximum(sides, 1).prod())
    parts = [patch / top, *around, [top, np.log(max(size, 2))], np.eye(len(channels))[kind]]
    return np.concatenate(parts).astype(np.float32)


def correct(
    heatmaps: Float32[np.ndarray, "C h w"],
    stride: int,
    skeleton: Skeleton,
    people: Float32[np.ndarray, "P K 2"],
    layers: Layers,
) -> Float32[np.ndarray, "P K 2"]:
    """Return people with their keypoints moved, as `featherpose.methods.paf.correction.correct_keypoints` does.

    Args:
        heatmaps: float32[C, h, w].
        stride: Network pixels a cell.
        skeleton: Of the people and the heatmaps; it has all keypoints of OPENPOSE_18.
        people: float32[P, K, 2] in network pixels, NaN where a keypoint is missing.
        layers: The network.
    """
    moved = people.copy()
    for p, person in enumerate(people):
        for kind, name in enumerate(OPENPOSE_18.keypoints):
            k = skeleton.keypoints.index(name)
            if not np.isnan(person[k, 0]):
                features = describe(heatmaps, stride, skeleton, person, kind)
                moved[p, k] += 4 * np.clip(run_layers(layers, features[None])[0], -2, 2)
    return moved
