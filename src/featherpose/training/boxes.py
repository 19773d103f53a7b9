"""Boxes of annotated people as they are found in use, for networks that take crops."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from featherpose.data.coco import AnnotatedImage
from featherpose.data.crops import CropOptions, CropViews
from featherpose.data.labeled_pixels import read_sample
from featherpose.data.proposals import Proposals
from featherpose.estimator import PoseEstimator
from featherpose.nn.outputs import PoseNetwork
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton
from featherpose.topdown.boxes import person_boxes

__all__ = ["crop_views", "person_box"]

_log = logging.getLogger(__name__)


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


def crop_views(
    network: PoseNetwork, options: CropOptions | None, people: Sequence[AnnotatedImage], folder: Path
) -> CropViews | None:
    """Return how a network's training crops are drawn; None without options, or for a network of whole images.

    Args:
        network: Its crop and skeleton.
        options: Ranges.
        people: The training samples, from which the errors of a detector are learned if the options name one.
        folder: Of the run; what was learned is kept there, so that a resumed run draws the same boxes.

    Raises:
        ConfigError: If the detector finds too few people.
        ModelError: If it cannot be opened.
    """
    if network.crop is None or options is None:
        return None
    skeleton = network.skeleton
    proposals = _proposals(options.detector, people, skeleton, folder / "proposals.npz") if options.detector else None
    return CropViews(
        shape=network.crop, box_of=lambda person, size: person_box(person, size, skeleton),
        pad_value=network.pad_value, options=options, proposals=proposals,
    )  # fmt: skip


def _proposals(detector: str, people: Sequence[AnnotatedImage], skeleton: Skeleton, kept: Path) -> Proposals:
    """Learn what a detector gets wrong in the training images, or read what was learned before."""
    if kept.is_file():
        return Proposals.read(kept)
    images = {sample.path: sample for sample in people}
    with PoseEstimator(detector, refine="off") as estimator:
        found = dict(zip(images, estimator.map(read_sample(sample) for sample in images.values()), strict=True))
    persons = np.array([s.keypoints[0] for s in people], np.float32).reshape(-1, skeleton.num_keypoints, 2)
    boxes = [person_box(s.keypoints[0], found[s.path].image_size, skeleton) for s in people]
    proposals = Proposals.learn(
        persons, np.array(boxes, np.float32).reshape(-1, 4), [found[sample.path].boxes() for sample in people]
    )
    _log.info("%s found %d of %d people", detector, len(proposals.offsets), len(people))
    proposals.save(kept)
    return proposals
