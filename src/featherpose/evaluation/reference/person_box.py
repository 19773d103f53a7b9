"""The box of a person from the keypoints that were found, in plain numpy, to which the compiled kernel is held."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from featherpose.poses import Poses
from featherpose.rating.layers import Layers, run_layers
from featherpose.rating.shape import shape_features
from featherpose.skeleton import COCO_17

__all__ = ["person_boxes"]


def person_boxes(poses: Poses, layers: Layers) -> Float32[np.ndarray, "P 4"]:
    """Estimate the box around each person, as `featherpose.topdown.boxes.person_boxes` does.

    Args:
        poses: P people, each with at least one keypoint.
        layers: The box network.

    Returns:
        float32[P, 4], (left, top, right, bottom) in image pixels, inside the image.
    """
    features, hulls, sides = shape_features(poses.to_skeleton(COCO_17).keypoints, poses.image_size)
    boxes = hulls + run_layers(layers, features) * sides
    # Keypoints outside of COCO's, such as a neck alone, leave no feature: then the point itself.
    boxes = np.where(np.isfinite(boxes), boxes, poses.boxes())
    return np.asarray(np.clip(boxes, 0, np.tile(np.array(poses.image_size, np.float32), 2)), np.float32)
