"""Points of the body by name, and those that follow from two others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from featherpose.motion.sequence import PoseSequence

__all__ = ["body_points"]

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
