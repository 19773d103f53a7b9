"""People of whom the annotations have only a box, labeled by a single-person network before training begins."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from featherpose.data.coco import AnnotatedImage
from featherpose.data.labeled_pixels import read_sample
from featherpose.errors import ConfigError
from featherpose.skeleton import Skeleton
from featherpose.topdown.person_estimator import PersonEstimator, open_person_estimator
from featherpose.training.config import TopDownTeacherConfig

__all__ = ["label_boxes"]

_log = logging.getLogger(__name__)


def label_boxes(
    config: TopDownTeacherConfig, images: Sequence[AnnotatedImage], skeleton: Skeleton
) -> list[AnnotatedImage]:
    """Give people without keypoints those that the teacher is sure of.

    Crowds stay as they are. The box of a labeled person stays unknown where no label lies, unless the teacher was sure
    of every keypoint: the loss then sees what is known and nothing else.

    Args:
        config: The teacher.
        images: Training images or regions.
        skeleton: Of the labels.

    Returns:
        The images in their order.

    Raises:
        ConfigError: If the teacher shares no keypoint with the skeleton.
        ModelError: If the teacher cannot be opened.
    """
    done: list[AnnotatedImage] = []
    labeled = 0
    with open_person_estimator(config.model) as teacher:
        if not any(teacher.spec.skeleton.mapping_to(skeleton)):
            raise ConfigError(
                f"[top_down_teacher] {config.model} has skeleton {teacher.spec.skeleton.name!r}",
                expected=f"keypoints of {skeleton.name!r}",
            )
        for image in images:
            done.append(_labeled(config, image, skeleton, teacher))
            labeled += len(done[-1].keypoints) - len(image.keypoints)
    _log.info("the top-down teacher labeled %d people", labeled)
    return done


def _labeled(
    config: TopDownTeacherConfig, image: AnnotatedImage, skeleton: Skeleton, teacher: PersonEstimator
) -> AnnotatedImage:
    sides = image.ignore_boxes[:, 2:] - image.ignore_boxes[:, :2]
    chosen = (sides >= config.min_box_px).all(axis=1)
    if image.crowds is not None:
        chosen &= ~image.crowds
    boxes = np.flatnonzero(chosen)
    if not len(boxes):
        return image
    poses = teacher(read_sample(image), image.ignore_boxes[boxes]).to_skeleton(skeleton)
    sure = poses.detected & (poses.keypoint_scores >= config.min_score)
    taken = sure.sum(axis=1) >= config.min_keypoints
    if not taken.any():
        return image
    people = np.where(sure[taken][..., None], poses.keypoints[taken], np.float32(np.nan)).astype(np.float32)
    known = np.zeros(len(image.ignore_boxes), np.bool_)
    known[boxes[taken & sure.all(axis=1)]] = True
    areas = image.areas
    if areas is not None:
        areas = np.concatenate([areas, 0.53 * sides[boxes[taken]].prod(axis=1)]).astype(areas.dtype)
    return dataclasses.replace(
        image, keypoints=np.concatenate([image.keypoints, people]), ignore_boxes=image.ignore_boxes[~known],
        areas=areas, crowds=None if image.crowds is None else image.crowds[~known],
        boxes=None if image.boxes is None else np.concatenate([image.boxes, image.ignore_boxes[boxes[taken]]]),
    )  # fmt: skip
