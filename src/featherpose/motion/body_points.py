"""Points of the body by name, those that follow from two others, and the boxes around them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from featherpose.motion.cleaning.medians import known_median

if TYPE_CHECKING:
    from featherpose.motion.sequence import PoseSequence

__all__ = ["body_boxes", "body_points", "body_size"]

# Points that a skeleton may lack and that follow from two others.
_DERIVED = {
    "neck": ("left_shoulder", "right_shoulder"),
    "mid_hip": ("left_hip", "right_hip"),
    "mid_ear": ("left_ear", "right_ear"),
}


def body_points(sequence: PoseSequence, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return keypoints by name, float64[T, P, 2] each; names that the skeleton cannot give are left out.

    ``neck``, ``mid_hip`` and ``mid_ear`` are the middle of their two sides where the skeleton lacks them. In memory all
    x of a keypoint come before all y, so that arithmetic on each of them runs over neighbors.
    """
    index = {name: i for i, name in enumerate(sequence.skeleton.keypoints)}
    points: dict[str, np.ndarray] = {}

    def read(name: str) -> np.ndarray:
        axes = np.moveaxis(sequence.keypoints[:, :, index[name]], -1, 0)
        return np.moveaxis(np.ascontiguousarray(axes), 0, -1)

    for name in names:
        if name in index:
            points[name] = read(name)
        elif name in _DERIVED and all(side in index for side in _DERIVED[name]):
            a, b = (read(side) for side in _DERIVED[name])
            middle = (a + b) / 2
            if name == "mid_ear":  # in a side view the far ear is hidden behind the near one
                middle = np.where(np.isfinite(middle), middle, np.where(np.isfinite(a), a, b))
            points[name] = middle
    return points


def body_size(sequence: PoseSequence) -> np.ndarray:
    """Return float64[P]: each person's size, the median over time of the diagonal of the box around the keypoints.

    Example:
        >>> from featherpose.motion.sequence import PoseSequence
        >>> from featherpose.skeleton import LSP_14
        >>> points = np.zeros((2, 14, 2))
        >>> points[:, 0] = (30, 40)
        >>> body_size(PoseSequence.from_arrays(points, np.arange(2.0), LSP_14))
        array([50.])
    """
    boxes = body_boxes(sequence)
    diagonals = np.hypot(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])
    return np.array([known_median(of_one) for of_one in diagonals.T])


def body_boxes(sequence: PoseSequence) -> Float64[np.ndarray, "T P 4"]:
    """Return (left, top, right, bottom) of everyone's keypoints in each frame; NaN where nobody is seen.

    Example:
        >>> from featherpose.motion.sequence import PoseSequence
        >>> from featherpose.skeleton import Skeleton
        >>> stick = Skeleton.create("stick", ["a", "b"], [])
        >>> body_boxes(PoseSequence.from_arrays(np.array([[[3.0, 8.0], [5.0, 2.0]]]), np.zeros(1), stick))
        array([[[3., 2., 5., 8.]]])
    """
    # Keypoint after keypoint: a reduction over the last axes but one takes ten times as long.
    each = np.ascontiguousarray(np.moveaxis(sequence.keypoints, 2, 0))
    return np.concatenate([np.fmin.reduce(each), np.fmax.reduce(each)], -1)
