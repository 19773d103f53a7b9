"""From the keypoints that a bottom-up network found to the box of the whole person.

The box around the found keypoints is a poor one: half of a person may be missing, and nobody marks the top of the head
or the toes. A small fully connected network, fitted to annotated boxes by ``benchmarks/recipes/person-box/fit.py``,
estimates how far the person reaches beyond them; it knows that legs follow below hips unless the image ends there.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from featherpose.errors import CheckpointError
from featherpose.parsing import ParseError, read_arrays
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17

__all__ = ["box_features", "person_boxes", "read_box_layers"]

_WEIGHTS = Path(__file__).with_name("person_box.npz")
# Distances to the borders of the image beyond this many person sizes are all the same.
_FAR = 3.0
# Two coordinates and one flag a keypoint of COCO's, and the distances to four borders.
_FEATURES = 3 * COCO_17.num_keypoints + 4


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
    features, hulls, sides = box_features(found.keypoints, poses.image_size)
    boxes = hulls + _network(features) * sides
    width, height = poses.image_size
    # Keypoints outside of COCO's, such as a neck alone, leave no feature: then the point itself.
    own = poses.boxes()
    boxes = np.where(np.isfinite(boxes), boxes, own)
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)


def box_features(
    keypoints: Float32[np.ndarray, "P 17 2"], image_size: tuple[int, int]
) -> tuple[Float32[np.ndarray, "P 55"], Float32[np.ndarray, "P 4"], Float32[np.ndarray, "P 1"]]:
    """Describe people independently of their place and size.

    Args:
        keypoints: In image pixels, NaN where missing.
        image_size: (width, height).

    Returns:
        Features (keypoints relative to the center of their box and to its longer side, which of them were found,
        distances to the borders of the image), the boxes around the keypoints, and their longer sides.
    """
    found = ~np.isnan(keypoints[..., 0])
    low = np.where(found[..., None], keypoints, np.inf).min(axis=1)
    high = np.where(found[..., None], keypoints, -np.inf).max(axis=1)
    none = ~found.any(axis=1)
    low[none] = high[none] = np.nan
    centers, sides = (low + high) / 2, np.maximum((high - low).max(axis=1, keepdims=True), 1)
    relative = np.where(found[..., None], (keypoints - centers[:, None]) / sides[:, :, None], 0)
    borders = np.concatenate((centers, np.asarray(image_size, np.float32) - centers), axis=1) / sides
    features = np.concatenate((relative.reshape(len(found), -1), found, np.clip(borders, 0, _FAR)), axis=1)
    return features.astype(np.float32), np.concatenate((low, high), axis=1), sides


def read_box_layers(path: Path) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Read the weights and biases of a box network, as ``benchmarks/recipes/person-box/fit.py`` writes them.

    Args:
        path: ``.npz`` with ``weight0``, ``bias0``, ``weight1`` ... in the order of the layers.

    Returns:
        For each layer float32[outputs, inputs] and float32[outputs]; 55 inputs at the first, 4 outputs at the last.

    Raises:
        CheckpointError: If the file is damaged or its layers do not fit together.
    """
    try:
        arrays = read_arrays(path, max_ratio=100)
        found = [(arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(len(arrays) // 2)]
    except (ParseError, KeyError) as error:
        raise CheckpointError(f"{path} holds no box network: {error}") from error
    if any(array.dtype.kind != "f" for layer in found for array in layer):
        raise CheckpointError(f"{path} holds no box network: its arrays are no floating-point numbers")
    with np.errstate(over="ignore"):
        layers = tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in found)
    inputs = _FEATURES
    for weight, bias in layers:
        if weight.ndim != 2 or weight.shape[1] != inputs or bias.shape != weight.shape[:1]:
            raise CheckpointError(
                f"{path} holds no box network: layers of {weight.shape} and {bias.shape}",
                expected=f"a matrix with {inputs} columns, and a number for each of its rows",
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise CheckpointError(f"{path} holds no box network: it has numbers that are not finite")
        inputs = len(bias)
    if not layers or inputs != 4:
        raise CheckpointError(f"{path} holds no box network: it ends with {inputs} numbers", expected="4")
    return layers


@cache
def _weights() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return read_box_layers(_WEIGHTS)


def _network(features: Float32[np.ndarray, "P F"]) -> Float32[np.ndarray, "P 4"]:
    """Layers with ReLU between them: how far each side lies beyond that of the keypoints' box, in longer sides."""
    x = features
    layers = _weights()
    for number, (weight, bias) in enumerate(layers):
        # Row by row: a product of matrices may round differently for one person and for many.
        x = np.stack([weight @ row + bias for row in x]) if len(x) else np.empty((0, len(bias)), np.float32)
        if number < len(layers) - 1:
            x = np.maximum(x, 0)
    return x
