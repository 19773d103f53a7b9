"""Of several poses of one person the best stays: suppression by object keypoint similarity."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int64

from featherpose.errors import OptionError
from featherpose.jit import kernel
from featherpose.oks import relative_variances
from featherpose.poses import Poses
from featherpose.rating.shape import area_of, find_hull
from featherpose.rating.similarity import mutual_oks_of

__all__ = ["keep_best", "suppress_duplicates"]


@kernel
def _keep_best(order, keypoints, variances, least, kept):  # type: ignore[no-untyped-def]
    """Mark, in their order, who is alike nobody that was kept before."""
    hull = np.empty(4, np.float32)
    areas = np.empty(len(order), np.float32)
    for p in range(len(order)):
        find_hull(keypoints[p], hull)
        areas[p] = area_of(hull)
    for i in range(len(order)):
        kept[i] = True
        for j in range(i):
            if kept[j] and mutual_oks_of(order[i], order[j], areas, keypoints, variances) >= least:
                kept[i] = False
                break


def suppress_duplicates(poses: Poses, *, same_person_oks: float = 0.7) -> Int64[np.ndarray, " n"]:
    """Choose the people that stay, best first: greedy suppression by OKS (Papandreou et al. 2017, section 3.3).

    Args:
        poses: P people.
        same_person_oks: Who is at least this similar to somebody of a higher score is dropped. Lower merges people who
            stand close, higher leaves doubles.

    Returns:
        int64[n], indices by falling score; people of equal score in their order.

    Raises:
        OptionError: If the similarity is outside 0 to 1.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
        >>> twice = np.concatenate((points, points + 1))
        >>> scores = np.array([0.3, 0.8], np.float32)
        >>> suppress_duplicates(Poses(twice, np.ones((2, 17), np.float32), scores, COCO_17, (100, 100)))
        array([1])
    """
    if not 0 < same_person_oks <= 1:
        raise OptionError(f"similarity {same_person_oks}", expected="over 0, at most 1")
    order = np.argsort(-poses.scores, kind="stable")
    kept = np.empty(len(order), np.bool_)
    keypoints, variances = np.ascontiguousarray(poses.keypoints), relative_variances(poses.skeleton)
    _keep_best(order, keypoints, variances, np.float32(same_person_oks), kept)
    return np.asarray(order[kept], np.int64)


def keep_best(scores: Float32[np.ndarray, " P"], similar: Bool[np.ndarray, "P P"]) -> Int64[np.ndarray, " n"]:
    """Choose greedily who stays: of several who are similar the one of the highest score.

    Args:
        scores: Of P people.
        similar: Row i marks who is dropped if person i stays.

    Returns:
        int64[n], indices by falling score; people of equal score in their order.

    Example:
        >>> similar = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
        >>> keep_best(np.array([0.2, 0.9, 0.5], np.float32), similar)
        array([1, 2])
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    dropped = np.zeros(len(order), bool)
    for i in order:
        if not dropped[i]:
            kept.append(int(i))
            dropped |= similar[i]
    return np.array(kept, np.int64)
