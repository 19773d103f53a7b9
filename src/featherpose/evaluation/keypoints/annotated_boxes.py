"""People in their annotated boxes: what a single-person network can do when nobody is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import DatasetError
from featherpose.evaluation.keypoints.coco_ap import poses_as_results
from featherpose.evaluation.keypoints.dataset import CocoDataset, check_images
from featherpose.media.images import read_image
from featherpose.topdown.person_estimator import PersonEstimator

__all__ = ["annotated_boxes", "disturbed_boxes", "estimate_in_boxes"]


def estimate_in_boxes(
    estimator: PersonEstimator,
    dataset: CocoDataset,
    *,
    noise: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Estimate the pose in the annotated box of everyone who counts, as COCO results.

    AP with true boxes is how papers compare single-person networks (Xiao et al. 2018, section 4.1).

    Args:
        estimator: Whose skeleton is that of the dataset.
        dataset: The images, with boxes.
        noise: How far off the boxes are made to be, see `disturbed_boxes`; each image's are the same in every run.
        progress: Called with (images done, people estimated so far).

    Raises:
        DatasetError: If the skeletons differ, or an image is missing.
        SourceError: If an image cannot be read.
        ModelError: If the engine fails.
    """
    if estimator.spec.skeleton != dataset.skeleton:
        raise DatasetError(
            f"model {estimator.spec.name} has skeleton {estimator.spec.skeleton.name}",
            expected=f"{dataset.skeleton.name}, that of the annotations",
        )
    check_images(dataset)
    boxes = annotated_boxes(dataset)
    results: list[dict[str, Any]] = []
    for done, image in enumerate(dataset.images, 1):
        seen = boxes.get(image.image_id)
        if seen is not None:
            if noise:
                seen = disturbed_boxes(seen, noise, np.random.default_rng(image.image_id))
            poses = estimator(read_image(image.path), seen)
            results += poses_as_results(poses, image.image_id)
        if progress is not None:
            progress(done, len(results))
    return results


def annotated_boxes(dataset: CocoDataset) -> dict[int, Float32[np.ndarray, "P 4"]]:
    """Return the boxes (left, top, right, bottom) of everyone who counts, by the id of the image."""
    boxes: dict[int, list[list[float]]] = {}
    for annotation in dataset.annotations["annotations"]:
        if annotation["num_keypoints"] > 0 and not annotation["iscrowd"]:
            x, y, width, height = annotation["bbox"]
            boxes.setdefault(annotation["image_id"], []).append([x, y, x + width, y + height])
    return {image: np.array(people, np.float32) for image, people in boxes.items()}


def disturbed_boxes(
    boxes: Float32[np.ndarray, "P 4"], noise: float, rng: np.random.Generator
) -> Float32[np.ndarray, "P 4"]:
    """Move and scale boxes as a careless detector would.

    Args:
        boxes: (left, top, right, bottom).
        noise: Standard deviation of the center along each axis, in longer sides of the box, and of the logarithm of its
            size.
        rng: Random generator.

    Example:
        >>> boxes = np.array([[0, 0, 10, 20]], np.float32)
        >>> disturbed_boxes(boxes, 0.0, np.random.default_rng(0)).tolist()
        [[0.0, 0.0, 10.0, 20.0]]
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=0)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 + rng.normal(0, noise, sides.shape) * longer
    half = sides / 2 * np.exp(rng.normal(0, noise, (len(boxes), 1)))
    return np.concatenate([centers - half, centers + half], axis=1).astype(np.float32)
