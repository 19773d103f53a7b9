"""Boxes of annotated people as they are found in use, for networks that take crops."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from featherpose.data.crops import CropOptions, CropViews
from featherpose.nn.outputs import PoseNetwork
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton
from featherpose.topdown.boxes import person_boxes

__all__ = ["crop_views", "person_box"]


def person_box(
    person: Float32[np.ndarray, "K 2"], image_size: tuple[int, int], skeleton: Skeleton
) -> Float32[np.ndarray, " 4"]:
    """Return the box of a person as refinement estimates it from the keypoints that were found.

    Args:
        person: Keypoints in image pixels, NaN where missing, at least one found.
        image_size: (width, height).
        skeleton: K keypoints.

    Returns:
        (left, top, right, bottom) in image pixels.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> person = np.full((17, 2), np.nan, np.float32)
        >>> person[5:7] = [[120, 80], [80, 80]]  # shoulders
        >>> box = person_box(person, (200, 400), COCO_17)
        >>> bool(box[1] < 60 and box[3] > 120)
        True
    """
    scores = np.isfinite(person[None, :, 0]).astype(np.float32)
    poses = Poses(np.asarray(person[None], np.float32), scores, np.ones(1, np.float32), skeleton, image_size)
    box: Float32[np.ndarray, " 4"] = person_boxes(poses)[0]
    return box


def crop_views(network: PoseNetwork, options: CropOptions | None) -> CropViews | None:
    """Return how a network's training crops are drawn; None without options, or for a network of whole images."""
    if network.crop is None or options is None:
        return None
    skeleton = network.skeleton
    return CropViews(
        shape=network.crop, box_of=lambda person, size: person_box(person, size, skeleton),
        pad_value=network.pad_value, options=options,
    )  # fmt: skip
