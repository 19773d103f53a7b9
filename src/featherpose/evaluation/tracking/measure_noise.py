"""Measures the error statistics of a network on annotated photographs and real videos: `DetectorErrors`.

The statistics that come with the package (``detector_noise.json``) were made by this module, as
``featherpose evaluate-tracking --measure-noise``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.dataset import CocoDataset, check_images
from featherpose.evaluation.tracking.detector_noise import (
    DetectedImage,
    DetectorErrors,
    measure_errors,
    measure_persistence,
)
from featherpose.media.images import read_image
from featherpose.media.sources.find import open_source
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["annotated_images", "detections_in", "measure_detector"]

# COCO's visibility flags: 0 not annotated, 1 hidden but placed, 2 visible.
_IN_SIGHT = 2


def measure_detector(estimator: PoseEstimator, dataset: CocoDataset, videos: Sequence[Path]) -> DetectorErrors:
    """Measure the error statistics of a network at its estimator's input height.

    Args:
        estimator: The network, with its decoding rules.
        dataset: Annotated photographs; training images, never those that results are reported on.
        videos: Real videos of people, for how long an error lasts.

    Raises:
        DatasetError: If images are missing, no person is annotated, or a video shows none in three frames in a row.
        SourceError: If an image or video cannot be read.
    """
    seen = [list(detections_in(video, estimator)) for video in videos]
    info = estimator.info
    frames = sum(map(len, seen))
    provenance = (
        f"{estimator.spec.name}, {info.precision.upper()}, {info.engine.split()[0]}, input height {estimator.height}, "
        f"the model's own decoding rules; {len(dataset.images):,} photographs of {dataset.name}; persistence: "
        f"{', '.join(video.stem for video in videos)}, {frames:,} frames"
    )
    errors = measure_errors(
        annotated_images(dataset, estimator),
        network_height_px=estimator.height,
        provenance=provenance,
        skeleton=estimator.skeleton,
    )
    return measure_persistence(seen, errors)


def detections_in(video: Path, estimator: PoseEstimator) -> Iterator[tuple[float, Poses]]:
    """Return time in seconds and people of every frame."""
    with open_source(video) as source:
        for frame in source:
            yield frame.timestamp_s, estimator(frame.image)


def annotated_images(dataset: CocoDataset, estimator: PoseEstimator) -> Iterator[DetectedImage]:
    """Yield the annotations of each photograph and the network's detections, both in the network's skeleton.

    Raises:
        DatasetError: If images are missing.
        SourceError: If one cannot be read.
    """
    check_images(dataset)
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in dataset.annotations["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for sample in dataset.images:
        image = read_image(sample.path)
        size = image.shape[1], image.shape[0]
        some = by_image.get(sample.image_id, [])
        counted = [a for a in some if not a["iscrowd"] and a["num_keypoints"]]
        truth, seen = _truth(counted, estimator.skeleton, size)
        others = [a["bbox"] for a in some if a["iscrowd"] or not a["num_keypoints"]]
        boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in others], np.float32).reshape(-1, 4)
        yield DetectedImage(truth, seen, boxes, estimator(image))


def _truth(
    annotations: Sequence[Mapping[str, Any]], skeleton: Skeleton, size: tuple[int, int]
) -> tuple[Poses, np.ndarray]:
    """Return annotated people in a skeleton, and which joints are visible: all source joints of a joint must be."""
    people = np.array([a["keypoints"] for a in annotations], np.float32).reshape(-1, COCO_17.num_keypoints, 3)
    there = people[..., 2] > 0
    points = np.where(there[..., None], people[..., :2], np.float32(np.nan))
    poses = Poses(points, there.astype(np.float32), np.ones(len(people), np.float32), COCO_17, size)
    in_sight = people[..., 2] == _IN_SIGHT
    sources = COCO_17.mapping_to(skeleton)
    seen = np.zeros((len(people), skeleton.num_keypoints), np.bool_)
    for joint, parts in enumerate(sources):
        if parts:
            seen[:, joint] = in_sight[:, list(parts)].all(1)
    return poses.to_skeleton(skeleton), seen
