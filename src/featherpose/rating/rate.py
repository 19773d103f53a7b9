"""Score people by the accuracy that a small network expects of them.

A network's own scores rank people poorly: ranked by their true accuracy the same poses would have 0.02 more AP. The
rating sees what the scores miss: the shape of the pose, its size, how it lies in the image, and who covers whom. It is
the share of COCO's ten OKS thresholds (0.5 to 0.95) that the pose is expected to pass, so 0.5 means the same for every
network. ``benchmarks/recipes/people/fit_rating.py`` fitted it; `featherpose.evaluation.reference.rating` has the
plain form.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from featherpose.jit import kernel
from featherpose.oks import relative_variances
from featherpose.poses import Poses
from featherpose.rating.layers import Layers, read_layers, run_layer
from featherpose.rating.shape import SHAPE_FEATURES, area_of, coco_columns, describe_shape, find_hull
from featherpose.rating.similarity import mutual_oks_of
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["RATING_FEATURES", "RatedBy", "can_rate", "load_rating", "rate_people", "read_rating"]

RatedBy = Literal["found", "refined"]
"""Whose people: those of a network for whole images, or those that a single-person network looked at again."""
# Mean, share and lowest of the scores, two sizes, two overlaps.
_OWN = 7
RATING_FEATURES = _OWN + COCO_17.num_keypoints + SHAPE_FEATURES
"""Numbers that describe a person to the network; `featherpose.evaluation.reference.rating` lists them."""


@kernel
def _rate(  # type: ignore[no-untyped-def]
    points, point_scores, columns, ranks, size, scale, variances, w0, b0, w1, b1, w2, b2, ratings
):
    people, count = len(ranks), len(columns)
    one = np.float32(1)
    keypoints = np.empty((people, count, 2), np.float32)
    scores = np.empty((people, count), np.float32)
    for p in range(people):
        for k in range(count):
            keypoints[p, k] = points[p, columns[k]]
            scores[p, k] = point_scores[p, columns[k]]
    boxes = np.empty((people, 4), np.float32)
    areas = np.empty(people, np.float32)
    for p in range(people):
        find_hull(keypoints[p], boxes[p])
        areas[p] = area_of(boxes[p])
    near = np.zeros(people, np.float32)
    covered = np.zeros(people, np.float32)
    for p in range(people):
        for q in range(p):
            if (
                boxes[p, 0] <= boxes[q, 2] and boxes[q, 0] <= boxes[p, 2]
                and boxes[p, 1] <= boxes[q, 3] and boxes[q, 1] <= boxes[p, 3]
            ):  # fmt: skip
                alike = mutual_oks_of(p, q, areas, keypoints, variances)
                near[p] = max(near[p], alike)
                near[q] = max(near[q], alike)
                behind = q if ranks[p] > ranks[q] else p
                covered[behind] = max(covered[behind], alike)
    x = np.empty(w0.shape[1], np.float32)
    first = np.empty(w0.shape[0], np.float32)
    second = np.empty(w1.shape[0], np.float32)
    answer = np.empty(1, np.float32)
    for p in range(people):
        if not boxes[p, 0] <= boxes[p, 2]:
            ratings[p] = 0
            continue
        found = 0
        total = np.float32(0)
        lowest = one
        width = boxes[p, 2] - boxes[p, 0]
        height = boxes[p, 3] - boxes[p, 1]
        side = describe_shape(keypoints[p], boxes[p], size, x[_OWN + count :])
        for k in range(count):
            here = keypoints[p, k, 0] == keypoints[p, k, 0]
            x[_OWN + k] = scores[p, k]
            if here:
                found += 1
                total += scores[p, k]
                lowest = min(lowest, scores[p, k])
        x[0] = total / np.float32(found)
        x[1] = np.float32(found) / np.float32(count)
        x[2] = lowest
        x[3] = np.log(max(np.sqrt(max(width, one) * max(height, one)) * scale, np.float32(2)))
        x[4] = np.log(max(side * scale, np.float32(2)))
        x[5] = covered[p]
        x[6] = near[p]
        run_layer(w0, b0, x, first, True)
        run_layer(w1, b1, first, second, True)
        run_layer(w2, b2, second, answer, False)
        ratings[p] = one / (one + np.exp(-answer[0]))


def rate_people(poses: Poses, by: RatedBy, *, scale: float = 1.0) -> Float32[np.ndarray, " P"]:
    """Return the accuracy that is expected of each person, 0 to 1.

    Args:
        poses: P people of a skeleton that `can_rate`; their scores say who is in front where two are alike.
        by: Whose people they are.
        scale: Network pixels an image pixel: small people are found less exactly.

    Example:
        >>> points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
        >>> chaos = Poses(points, np.full((1, 17), 0.2, np.float32), np.ones(1, np.float32), COCO_17, (100, 100))
        >>> bool(rate_people(chaos, "found")[0] < 0.3)
        True
    """
    ratings = np.empty(len(poses), np.float32)
    if len(poses) and can_rate(poses.skeleton):
        _rate(
            np.ascontiguousarray(poses.keypoints), np.ascontiguousarray(poses.keypoint_scores),
            coco_columns(poses.skeleton), np.ascontiguousarray(poses.scores), np.array(poses.image_size, np.float32),
            np.float32(scale), relative_variances(COCO_17), *_layers(by), ratings,
        )  # fmt: skip
    return ratings


def can_rate(skeleton: Skeleton) -> bool:
    """Return whether a skeleton has all of COCO's keypoints, from which people are rated.

    Example:
        >>> from featherpose.skeleton import OPENPOSE_18
        >>> can_rate(OPENPOSE_18), can_rate(Skeleton.create("dot", ["tip"], []))
        (True, False)
    """
    return bool((coco_columns(skeleton) >= 0).all())


def read_rating(path: Path) -> Layers:
    """Read a rating network, as ``benchmarks/recipes/people/fit_rating.py`` writes it.

    Raises:
        CheckpointError: If the file is damaged, or has other layers than three.
    """
    return read_layers(path, inputs=RATING_FEATURES, outputs=1, count=3, what="rating network")


def load_rating(by: RatedBy) -> None:
    """Compile the kernel, or load it from disk, and read the network."""
    pose = Poses(
        np.zeros((1, 17, 2), np.float32), np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (8, 8)
    )
    rate_people(pose, by)


@cache
def _layers(by: RatedBy) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    (w0, b0), (w1, b1), (w2, b2) = read_rating(Path(__file__).with_name(f"{by}.npz"))
    return w0, b0, w1, b1, w2, b2
