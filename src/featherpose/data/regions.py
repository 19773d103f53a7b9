"""Samples of single people: one region around each labeled person, for single-person methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from featherpose.data.coco import AnnotatedImage

__all__ = ["people_in_images", "person_regions"]

# People with fewer labeled keypoints give no sample: the region around one or two points does not show a person.
_MIN_KEYPOINTS = 4
_MIN_SIDE_PX = 16
_UNKNOWN_SIDE_PX = 2**20


def person_regions(
    images: Sequence[AnnotatedImage], size: float, *, aspect: float | None = None, alone: bool = False
) -> list[AnnotatedImage]:
    """Turn each labeled person into a sample of its own.

    Args:
        images: Images, of which those without labeled people give no sample.
        size: Sides of the region, in sides of the box around the keypoints; cut at the border of the image.
        aspect: Width over height that every region is widened to, so that its scale in a network's input follows from
            its height; the box's own unless given.
        alone: Whether the other people become boxes to be ignored, as validation of single people needs it.

    Returns:
        A sample for each person with at least four labeled keypoints, that person first. Keypoints and boxes are in
        pixels of the region.

    Example:
        >>> from pathlib import Path
        >>> person = np.array([[[40, 40], [60, 40], [40, 80], [60, 80]]], np.float32)
        >>> image = AnnotatedImage(Path("a.jpg"), 1, (100, 100), person, np.empty((0, 4), np.float32))
        >>> (sample,) = person_regions([image], 1.5)
        >>> sample.region, sample.keypoints[0, 0].tolist()
        ((35, 30, 66, 91), [5.0, 10.0])
    """
    samples = []
    for image in images:
        for number, person in enumerate(image.keypoints):
            seen = person[np.isfinite(person[:, 0])]
            if len(seen) < _MIN_KEYPOINTS:
                continue
            low, high = seen.min(axis=0), seen.max(axis=0)
            half = np.maximum((high - low) * size, _MIN_SIDE_PX) / 2
            if aspect is not None:
                half = np.maximum(half, (half[1] * aspect, half[0] / aspect))
            center = (low + high) / 2
            limit = image.size if min(image.size) > 0 else (np.inf, np.inf)
            left, top = (int(max(0, np.floor(v))) for v in center - half)
            right, bottom = (int(min(end, np.floor(v) + 1)) for v, end in zip(center + half, limit, strict=True))
            if right - left < _MIN_SIDE_PX or bottom - top < _MIN_SIDE_PX:
                continue
            samples.append(_cut(image, number, (left, top, right, bottom), alone=alone))
    return samples


def people_in_images(images: Sequence[AnnotatedImage], *, alone: bool = False) -> list[AnnotatedImage]:
    """Turn each labeled person into a sample that shows the whole image, for networks whose crops are cut later.

    Args:
        images: Images, of which those without labeled people give no sample.
        alone: Whether the other people become boxes to be ignored, as validation of single people needs it.

    Returns:
        A sample for each person with at least four labeled keypoints, that person first.
    """
    samples = []
    for image in images:
        width, height = (side or _UNKNOWN_SIDE_PX for side in image.size)
        for number, person in enumerate(image.keypoints):
            if np.isfinite(person[:, 0]).sum() >= _MIN_KEYPOINTS:
                samples.append(_cut(image, number, (0, 0, width, height), alone=alone))
    return samples


def _cut(image: AnnotatedImage, number: int, region: tuple[int, int, int, int], *, alone: bool) -> AnnotatedImage:
    left, top, right, bottom = region
    size = np.array([right - left, bottom - top], np.float32)
    people = image.keypoints - np.array([left, top], np.float32)
    boxes = image.ignore_boxes - np.array([left, top, left, top], np.float32)
    within = np.all((people >= 0) & (people < size), axis=2)  # False for NaN
    inside = np.asarray(np.any(within, axis=1))
    inside[number] = False
    others = np.flatnonzero(inside)
    near = np.logical_and(boxes[:, 2:] > 0, boxes[:, :2] < size).all(axis=1)
    boxes, crowds = boxes[near], None if image.crowds is None else image.crowds[near]
    order = [number] if alone else [number, *others.tolist()]
    if alone and len(others):
        extents = np.concatenate([np.nanmin(people[others], axis=1), np.nanmax(people[others], axis=1)], axis=1)
        boxes = np.concatenate([boxes, extents])
        crowds = None if crowds is None else np.concatenate([crowds, np.zeros(len(others), np.bool_)])
    return dataclasses.replace(
        image, size=(right - left, bottom - top), keypoints=people[order], ignore_boxes=boxes, region=region,
        boxes=None, areas=None if image.areas is None else image.areas[order], crowds=crowds,
    )  # fmt: skip
