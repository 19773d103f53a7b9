"""Fuse two poses of each person: those of the first network and of the single-person network behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from featherpose.oks import keypoint_variances
from featherpose.poses import Poses
from featherpose.topdown.topdown_options import RefineOptions

__all__ = ["fuse", "mean_scores", "person_scores"]

_SEEN = 0.05
# Chosen on held-out images of coco-train (benchmarks/recipes/refiner).
_TOLERANCE = 2.0


def fuse(first: Poses, refined: Poses, options: RefineOptions) -> Poses:
    """Fuse the poses of a bottom-up network and of a single-person network for the same people.

    Refined keypoints count from ``options.min_keypoint_score`` on. Below it the first network's keypoint stays if there
    is one; the refined one fills in where there is none and it is not entirely weak. Under ``options.average`` a
    refined keypoint that both networks found moves to a mean of both places: the refined one counts by its score s, the
    other one by its own times ``(1 - s) exp(-e / 2)``, the less the surer the refined one is and the farther the two
    are apart (e is the exponent of OKS, see `featherpose.oks`).

    Args:
        first: P people.
        refined: The same P people in the same order and skeleton.
        options: The thresholds, and whether places are averaged.

    Returns:
        P people in this order, scored by `person_scores`.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> pair = Skeleton.create("pair", ["a", "b"], [(0, 1)])
        >>> first = Poses(
        ...     np.array([[[1, 1], [5, 5]]], np.float32),
        ...     np.array([[0.5, 0.4]], np.float32),
        ...     np.ones(1, np.float32),
        ...     pair,
        ...     (9, 9),
        ... )
        >>> refined = Poses(
        ...     np.array([[[2, 2], [7, 7]]], np.float32),
        ...     np.array([[0.9, 0.05]], np.float32),
        ...     first.scores,
        ...     pair,
        ...     (9, 9),
        ... )
        >>> fuse(first, refined, RefineOptions()).keypoints.tolist()
        [[[2.0, 2.0], [5.0, 5.0]]]
    """
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
    weights = first.keypoint_scores * unsure * np.exp(-exponents / np.float32(_TOLERANCE))
    share = weights / np.maximum(weights + refined.keypoint_scores, np.float32(1e-6))
    moved = keypoints + np.where(both, share, 0)[..., None] * offsets
    return replace(fused, keypoints=np.asarray(moved, np.float32))


def person_scores(first: Poses, refined: Poses) -> Float32[np.ndarray, " P"]:
    """Rank people whom two networks saw: the mean refined keypoint score times the fourth root of the first rank.

    The exponent was chosen on held-out images of coco-train.
    """
    return np.asarray(mean_scores(refined) * np.maximum(first.scores, 0) ** np.float32(0.25), np.float32)


def mean_scores(refined: Poses) -> Float32[np.ndarray, " P"]:
    """Return the mean score of each person's keypoints of 0.05 and more; 0 where there are none.

    Weaker keypoints are left out so that a person whose legs are outside the image is not ranked behind a ghost whose
    every keypoint is half sure.
    """
    scores = refined.keypoint_scores
    seen = scores >= np.float32(_SEEN)
    return np.asarray((scores * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1), np.float32)
