"""From the keypoints that a bottom-up network found to the box of the whole person.

The box around the found keypoints is a poor one: half of a person may be missing, and nobody marks the top of the head
or the toes. A small fully connected network, fitted to annotated boxes by ``benchmarks/recipes/people/fit_box.py``,
estimates how far the person reaches beyond them; it knows that legs follow below hips unless the image ends there.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from featherpose.poses import Poses
from featherpose.rating.layers import Layers, read_layers, run_layers
from featherpose.rating.shape import SHAPE_FEATURES, shape_features
from featherpose.skeleton import COCO_17

__all__ = ["person_boxes", "read_box_layers"]

_WEIGHTS = Path(__file__).with_name("person_box.npz")


def person_boxes(poses: Poses) -> Float32[np.ndarray, "P 4"]:
    """Estimate the box around each person from the keypoints that were found.

    Args:
        poses: P people with keypoints that COCO's 17 can be told from; each has at least one.

    Returns:
        float32[P, 4], (left, top, right, bottom) in image pixels, inside the image.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.full((1, 17, 2), np.nan, np.float32)
        >>> points[0, 5:7] = [[120, 80], [80, 80]]  # shoulders
        >>> poses = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (200, 400))
        >>> left, top, right, bottom = person_boxes(poses)[0]
        >>> bool(left < 80 < 120 < right and top < 60 and bottom > 120)
        True
    """
    found = poses.to_skeleton(COCO_17)
    features, hulls, sides = shape_features(found.keypoints, poses.image_size)
    boxes = hulls + run_layers(_weights(), features) * sides
    width, height = poses.image_size
    known = np.isfinite(boxes)
    if not known.all():
        # Keypoints outside of COCO's, such as a neck alone, leave no feature: then the point itself.
        boxes = np.where(known, boxes, poses.boxes())
    return np.asarray(np.clip(boxes, 0, np.array([width, height, width, height], np.float32)), np.float32)


def read_box_layers(path: Path) -> Layers:
    """Read the weights and biases of a box network, as ``benchmarks/recipes/people/fit_box.py`` writes them.

    Args:
        path: ``.npz``, as `read_layers` reads it.

    Returns:
        Layers of 55 inputs at the first and 4 outputs at the last: how far each side lies beyond that of the keypoints'
        box, in longer sides.

    Raises:
        CheckpointError: If the file is damaged or its layers do not fit together.
    """
    return read_layers(path, inputs=SHAPE_FEATURES, outputs=4, what="box network")


@cache
def _weights() -> Layers:
    return read_box_layers(_WEIGHTS)
