"""The rating of people in plain numpy, to which the compiled kernel is held."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from featherpose.oks import mutual_oks
from featherpose.poses import Poses
from featherpose.rating.layers import Layers, run_layers
from featherpose.rating.shape import shape_features
from featherpose.skeleton import COCO_17

__all__ = ["rate", "rating_features"]


def rating_features(poses: Poses, scale: float) -> Float32[np.ndarray, "P F"]:
    """Describe people of whom at least one keypoint is COCO's.

    Args:
        poses: P people.
        scale: Network pixels an image pixel.

    Returns:
        For each person, in this order: mean score of the keypoints that were found, their share, the lowest score;
        logarithms of the root of the box's area and of its longer side, in network pixels; the highest OKS with
        somebody of a higher score whose box meets this one, and with anybody; the 17 scores; `shape_features`.
    """
    people = poses.to_skeleton(COCO_17)
    scores, found = people.keypoint_scores, ~np.isnan(people.keypoints[..., 0])
    shapes, boxes, sides = shape_features(people.keypoints, people.image_size)
    count = found.sum(axis=1)
    extent = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    meets = (boxes[:, None, :2] <= boxes[None, :, 2:]).all(axis=2)
    alike = np.where(meets & meets.T & ~np.eye(len(people), dtype=bool), mutual_oks(people, people), 0)
    place = np.argsort(np.argsort(-people.scores, kind="stable"))
    before = place[None] < place[:, None]
    columns = (
        (scores * found).sum(axis=1) / count,
        count / found.shape[1],
        np.where(found, scores, 1).min(axis=1),
        np.log(np.maximum(np.sqrt(extent.prod(axis=1)) * scale, 2)),
        np.log(np.maximum(sides[:, 0] * scale, 2)),
        np.where(before, alike, 0).max(axis=1),
        alike.max(axis=1),
    )
    return np.concatenate((np.stack(columns, axis=1), scores, shapes), axis=1).astype(np.float32)


def rate(poses: Poses, layers: Layers, scale: float) -> Float32[np.ndarray, " P"]:
    """Return the expected accuracy of each person, as `featherpose.rating.rate.rate_people` does."""
    logits = run_layers(layers, rating_features(poses, scale))[:, 0]
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
