"""Fusion of two poses of each person in plain numpy, to which the compiled kernel is held."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featherpose.oks import keypoint_variances
from featherpose.poses import Poses
from featherpose.topdown.fusion import person_scores
from featherpose.topdown.topdown_options import RefineOptions

__all__ = ["fuse"]


def fuse(first: Poses, refined: Poses, options: RefineOptions) -> Poses:
    """Fuse the poses of two networks, as `featherpose.topdown.fusion.fuse` does."""
    sure = refined.keypoint_scores >= options.min_keypoint_score
    weak = refined.keypoint_scores >= options.weak_keypoint_score
    take = sure | (weak & ~first.detected)
    keypoints = np.where(take[..., None], refined.keypoints, first.keypoints)
    fused = replace(
        first,
        keypoints=keypoints,
        keypoint_scores=np.where(take, refined.keypoint_scores, first.keypoint_scores),
        scores=person_scores(first, refined),
    )
    if not options.average:
        return fused
    both = take & first.detected & refined.detected
    offsets = np.where(both[..., None], first.keypoints - refined.keypoints, 0)
    exponents = np.square(offsets).sum(axis=2) / keypoint_variances(fused)
    unsure = np.clip(1 - refined.keypoint_scores, 0, 1)
    weights = first.keypoint_scores * unsure * np.exp(-exponents / 2)
    share = weights / np.maximum(weights + refined.keypoint_scores, np.float32(1e-6))
    moved = keypoints + np.where(both, share, 0)[..., None] * offsets
    return replace(fused, keypoints=np.asarray(moved, np.float32))
