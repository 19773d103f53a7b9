"""From the keypoints that a bottom-up network found to the box of the whole person.

The box around the found keypoints is a poor one: half of a person may be missing, and nobody marks the top of the head
or the toes. A small fully connected network, fitted to annotated boxes by ``benchmarks/recipes/people/fit_box.py``,
estimates how far the person reaches beyond them; it knows that legs follow below hips unless the image ends there.
`featherpose.evaluation.reference.person_box` has the plain form.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from featherpose.jit import kernel
from featherpose.poses import Poses
from featherpose.rating.layers import Layers, read_layers, run_layer
from featherpose.rating.shape import SHAPE_FEATURES, coco_columns, describe_shape, find_hull

__all__ = ["person_boxes", "read_box_layers"]

_WEIGHTS = Path(__file__).with_name("person_box.npz")


@kernel
def _estimate(points, columns, size, w0, b0, w1, b1, w2, b2, boxes):  # type: ignore[no-untyped-def]
    zero = np.float32(0)
    keypoints = np.empty((len(columns), 2), np.float32)
    hull = np.empty(4, np.float32)
    x = np.empty(w0.shape[1], np.float32)
    first = np.empty(w0.shape[0], np.float32)
    second = np.empty(w1.shape[0], np.float32)
    beyond = np.empty(4, np.float32)
    for p in range(points.shape[0]):
        for k in range(len(columns)):
            for c in range(2):
                keypoints[k, c] = points[p, columns[k], c] if columns[k] >= 0 else np.float32(np.nan)
        beyond[:] = zero
        side = zero
        if find_hull(keypoints, hull):
            side = describe_shape(keypoints, hull, size, x)
            run_layer(w0, b0, x, first, True)
            run_layer(w1, b1, first, second, True)
            run_layer(w2, b2, second, beyond, False)
        else:  # a neck alone, which COCO does not have
            find_hull(points[p], hull)
        for c in range(4):
            boxes[p, c] = min(max(hull[c] + beyond[c] * side, zero), size[c % 2])


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
    boxes = np.empty((len(poses), 4), np.float32)
    size = np.array(poses.image_size, np.float32)
    _estimate(np.ascontiguousarray(poses.keypoints), coco_columns(poses.skeleton), size, *_weights(), boxes)
    return boxes


def read_box_layers(path: Path) -> Layers:
    """Read the weights and biases of a box network, as ``benchmarks/recipes/people/fit_box.py`` writes them.

    Args:
        path: ``.npz``, as `read_layers` reads it.

    Returns:
        Three layers, of 55 inputs at the first and 4 outputs at the last: how far each side lies beyond that of the
        keypoints' box, in longer sides.

    Raises:
        CheckpointError: If the file is damaged, or has other layers than three.
    """
    return read_layers(path, inputs=SHAPE_FEATURES, outputs=4, count=3, what="box network")


@cache
def _weights() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    (w0, b0), (w1, b1), (w2, b2) = read_box_layers(_WEIGHTS)
    return w0, b0, w1, b1, w2, b2
