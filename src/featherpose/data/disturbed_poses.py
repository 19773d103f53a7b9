"""Poses as another network might have found them: what a network that corrects poses learns from.

Moon et al. 2019, "PoseFix", section 4, draw such errors around annotated keypoints: jitter, exchanged sides and missing
keypoints.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from featherpose.skeleton import Skeleton

__all__ = ["NO_POSE", "disturb_pose"]

NO_POSE = 0.15
"""How often a network that corrects poses is shown none."""

_OFTEN = 0.5  # chance of missing keypoints, and of moved ones
_MISSED, _MOVED, _EXCHANGED = 0.4, 0.03, 0.07  # most of the keypoints; of the longer side; chance


def disturb_pose(
    pose: Float32[np.ndarray, "K C"], side_px: float, skeleton: Skeleton, rng: np.random.Generator
) -> Float32[np.ndarray, "K C"]:
    """Return a pose with errors.

    Up to 0.4 of the keypoints are missing, all move by a normal deviate of up to 0.03 of the person's size, or left and
    right are exchanged, each now and then.

    Args:
        pose: x and y in pixels, NaN where missing, and whatever else belongs to a keypoint.
        side_px: Longer side of the person's box.
        skeleton: K keypoints.
        rng: Random generator; equal states give equal errors.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> pose = np.full((17, 2), 50, np.float32)
        >>> errors = [disturb_pose(pose, 100, COCO_17, np.random.default_rng(seed)) - pose for seed in range(20)]
        >>> bool(np.isnan(errors).mean() < 0.4), bool(0 < np.nanstd(errors) < 3)
        (True, True)
    """
    disturbed = pose.copy()
    if rng.random() < _OFTEN:
        disturbed[rng.random(len(pose)) < rng.uniform(0, _MISSED)] = np.nan
    if rng.random() < _OFTEN:
        distance = _MOVED * side_px * rng.random()
        disturbed[:, :2] += rng.normal(0, distance, (len(pose), 2)).astype(np.float32)
    if rng.random() < _EXCHANGED:
        # Of a pair one or both: both keypoints then lie on one side.
        some = [k for pair in skeleton.flip_pairs for k in pair if rng.random() < _OFTEN]
        disturbed[some] = disturbed[[skeleton.flip_order[k] for k in some]]
    return disturbed
