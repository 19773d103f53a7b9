"""Fuse two poses of each person: those of the first network and of the single-person network behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from featherpose.jit import kernel
from featherpose.oks import relative_variances
from featherpose.poses import Poses
from featherpose.rating.shape import area_of, find_hull
from featherpose.topdown.topdown_options import RefineOptions

__all__ = ["fuse", "mean_scores", "person_scores"]

_SEEN = 0.05
# Chosen on held-out images of coco-train (benchmarks/recipes/refiner).
_TOLERANCE = 2.0
# Exponent of the first network's rank. Chosen there as well.
_RANK = 0.25


@kernel
def _fuse(  # type: ignore[no-untyped-def]
    places, place_scores, ranks, others, other_scores, sure, weak, average, variances,
    keypoints, keypoint_scores, scores,
):  # fmt: skip
    zero = np.float32(0)
    one = np.float32(1)
    hull = np.empty(4, np.float32)
    for p in range(places.shape[0]):
        total = zero
        seen = 0
        for k in range(places.shape[1]):
            score = other_scores[p, k]
            found = places[p, k, 0] == places[p, k, 0]
            taken = score >= sure or (score >= weak and not found)
            keypoint_scores[p, k] = score if taken else place_scores[p, k]
            for c in range(2):
                keypoints[p, k, c] = others[p, k, c] if taken else places[p, k, c]
            if score >= np.float32(_SEEN):
                total += score
                seen += 1
        scores[p] = total / np.float32(max(seen, 1)) * max(ranks[p], zero) ** np.float32(_RANK)
        if not average:
            continue
        find_hull(keypoints[p], hull)
        area = area_of(hull)
        for k in range(places.shape[1]):
            score = other_scores[p, k]
            x = places[p, k, 0] - others[p, k, 0]
            y = places[p, k, 1] - others[p, k, 1]
            distance = x * x + y * y
            if distance == distance and score >= sure:  # both have it
                exponent = distance / (np.float32(2) * area * variances[k] * np.float32(_TOLERANCE))
                weight = place_scores[p, k] * min(max(one - score, zero), one) * np.exp(-exponent)
                share = weight / max(weight + score, np.float32(1e-6))
                keypoints[p, k, 0] += share * x
                keypoints[p, k, 1] += share * y


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
    keypoints = np.empty_like(first.keypoints)
    keypoint_scores = np.empty_like(first.keypoint_scores)
    scores = np.empty_like(first.scores)
    _fuse(
        np.ascontiguousarray(first.keypoints), np.ascontiguousarray(first.keypoint_scores),
        np.ascontiguousarray(first.scores), np.ascontiguousarray(refined.keypoints),
        np.ascontiguousarray(refined.keypoint_scores), np.float32(options.min_keypoint_score),
        np.float32(options.weak_keypoint_score), bool(options.average), relative_variances(first.skeleton),
        keypoints, keypoint_scores, scores,
    )  # fmt: skip
    return replace(first, keypoints=keypoints, keypoint_scores=keypoint_scores, scores=scores)


def person_scores(first: Poses, refined: Poses) -> Float32[np.ndarray, " P"]:
    """Rank people whom two networks saw: the mean refined keypoint score times the fourth root of the first rank.

    The exponent was chosen on held-out images of coco-train.
    """
    return np.asarray(mean_scores(refined) * np.maximum(first.scores, 0) ** np.float32(_RANK), np.float32)


def mean_scores(refined: Poses) -> Float32[np.ndarray, " P"]:
    """Return the mean score of each person's keypoints of 0.05 and more; 0 where there are none.

    Weaker keypoints are left out so that a person whose legs are outside the image is not ranked behind a ghost whose
    every keypoint is half sure.
    """
    scores = refined.keypoint_scores
    seen = scores >= np.float32(_SEEN)
    return np.asarray((scores * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1), np.float32)
