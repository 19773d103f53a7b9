"""Annotated images to train on, in any skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64

from featherpose.data.coco_file import CocoFile, CocoPerson, read_coco_file
from featherpose.errors import DatasetError
from featherpose.skeleton import Skeleton

__all__ = [
    "AnnotatedImage",
    "ImageFolder",
    "hold_out",
    "keypoints_alone",
    "labeled_images",
    "map_keypoints",
    "read_coco",
    "read_folder",
]


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """One image on disk and its annotations.

    Attributes:
        path: The image file.
        image_id: COCO's id, or the position in the folder.
        size: (width, height) in pixels as annotated; (0, 0) where unknown.
        keypoints: float32[P, K, 2] (x, y) in pixels, NaN where missing: people with keypoints.
        ignore_boxes: float32[R, 4] (left, top, right, bottom): people without keypoints and crowds.
        labeled: False if the image has no annotations, so that only a teacher gives targets.
        areas: float32[P]: segment areas in square pixels, as OKS takes them; None where unknown.
        crowds: bool[R]: which of the ignored boxes are crowds; None where unknown.
        region: (left, top, right, bottom) of the part of the file that is the image, None for all of it; ``size`` and
            all coordinates are then of that part.
        boxes: float32[P, 4] (left, top, right, bottom): the annotated boxes of the people; None where unknown.
        complete: Whether everyone is annotated; if not, there may be people outside of the boxes.
    """

    path: Path
    image_id: int
    size: tuple[int, int]
    keypoints: Float32[np.ndarray, "P K 2"]
    ignore_boxes: Float32[np.ndarray, "R 4"]
    labeled: bool = True
    areas: Float32[np.ndarray, "P"] | None = None
    crowds: Bool[np.ndarray, "R"] | None = None
    region: tuple[int, int, int, int] | None = None
    boxes: Float32[np.ndarray, "P 4"] | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """A folder of images and how to use it.

    Attributes:
        images: Folder of images.
        annotations: COCO keypoint file; None for images without labels.
        hold_out_every: Images whose id is a multiple of this are kept for validation; 0 keeps none.
        complete: Whether everyone in the images is annotated. If not, methods that learn boxes take nothing outside of
            them for background.
    """

    images: Path
    annotations: Path | None = None
    hold_out_every: int = 0
    complete: bool = True


def hold_out(samples: Sequence[AnnotatedImage], every: int) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Split into (train, validation) by id: multiples of ``every`` are held out; 0 holds none out.

    Example:
        >>> empty = np.empty((0, 17, 2), np.float32), np.empty((0, 4), np.float32)
        >>> images = [AnnotatedImage(Path(f"{i}.jpg"), i, (1, 1), *empty) for i in (9, 10, 11)]
        >>> [p.image_id for p in hold_out(images, 10)[1]]
        [10]
    """
    if every <= 0:
        return list(samples), []
    train = [p for p in samples if p.image_id % every != 0]
    return train, [p for p in samples if p.image_id % every == 0]


def read_folder(images: Path, skeleton: Skeleton) -> list[AnnotatedImage]:
    """Every image of a folder, without labels.

    Raises:
        DatasetError: If the folder is missing or holds no image.
    """
    if not images.is_dir():
        raise DatasetError(f"{images} is not a folder", expected="a folder of images")
    kinds = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
    paths = sorted(p for p in images.iterdir() if p.suffix.lower() in kinds)
    if not paths:
        raise DatasetError(f"{images} holds no images", expected="JPEG, PNG, BMP, WebP or TIFF files")
    nobody = np.empty((0, skeleton.num_keypoints, 2), np.float32), np.empty((0, 4), np.float32)
    return [
        AnnotatedImage(p, int(p.stem) if p.stem.isdigit() else i, (0, 0), *nobody, labeled=False)
        for i, p in enumerate(paths)
    ]


def read_coco(
    annotations: Path, images: Path, skeleton: Skeleton, *, everyone: bool = False, complete: bool = True
) -> list[AnnotatedImage]:
    """Read a COCO keypoint file and bring its people to a skeleton, in the order of the images' ids.

    Keypoints are matched by name; a keypoint between two others (a neck) is their midpoint if both are labeled.
    `featherpose.data.coco_file` has the rules of what is refused.

    Args:
        annotations: The JSON file, also gzipped.
        images: Folder of the images that it names.
        skeleton: K keypoints wanted.
        everyone: Whether those of whom only a box is known are people too, without a keypoint, instead of boxes to be
            ignored; crowds stay such boxes.
        complete: Whether everyone in the images is annotated.

    Raises:
        DatasetError: If the file is not COCO keypoints, contradicts itself, annotates no people, or shares no keypoint
            with the skeleton.
    """
    return labeled_images(read_coco_file(annotations, skeleton), images, skeleton, everyone=everyone, complete=complete)


def labeled_images(
    file: CocoFile, images: Path, skeleton: Skeleton, *, everyone: bool = False, complete: bool = True
) -> list[AnnotatedImage]:
    """Convert the images of a file, with people in another skeleton, in the order of their ids.

    Args:
        file: The annotations.
        images: Folder of the images.
        skeleton: K keypoints wanted.
        everyone: As for `read_coco`.
        complete: As for `read_coco`.
    """
    sources = file.skeleton.mapping_to(skeleton)
    people: dict[int, list[CocoPerson]] = {}
    for person in file.people:
        people.setdefault(person.image_id, []).append(person)
    result = []
    for image in sorted(file.images, key=lambda image: image.image_id):
        here = people.get(image.image_id, [])
        known = [person for person in here if person.is_labeled]
        others = [person for person in here if not person.is_labeled]
        keypoints = [map_keypoints(person.keypoints, sources) for person in known]
        # People count if the skeleton has some of their keypoints; of others only the position is known.
        seen = [bool((points[:, 2] > 0).any()) for points in keypoints]
        others += [person for person, has_some in zip(known, seen, strict=True) if not has_some]
        known = [person for person, has_some in zip(known, seen, strict=True) if has_some]
        points = np.array([k for k, has_some in zip(keypoints, seen, strict=True) if has_some], np.float32)
        points = points.reshape(-1, skeleton.num_keypoints, 3)
        if everyone:
            alone = [person for person in others if not person.is_crowd]
            others = [person for person in others if person.is_crowd]
            known += alone
            points = np.concatenate([points, np.zeros((len(alone), *points.shape[1:]), np.float32)])
        result.append(
            AnnotatedImage(
                images / image.file_name, image.image_id, image.size,
                np.where(points[..., 2:] > 0, points[..., :2], np.float32(np.nan)), _corners(others),
                areas=np.array([person.area for person in known], np.float32),
                crowds=np.array([person.is_crowd for person in others], np.bool_), boxes=_corners(known),
                complete=complete,
            )
        )  # fmt: skip
    return result


def _corners(people: Sequence[CocoPerson]) -> Float32[np.ndarray, "P 4"]:
    return np.array([(x, y, x + w, y + h) for x, y, w, h in (p.box for p in people)], np.float32).reshape(-1, 4)


def keypoints_alone(image: AnnotatedImage) -> AnnotatedImage:
    """Return an image in which those of whom only a box is known are boxes to be ignored.

    Example:
        >>> people = np.full((2, 1, 2), np.nan, np.float32)
        >>> people[0] = 5
        >>> boxes = np.array([[0, 0, 9, 9], [20, 0, 30, 9]], np.float32)
        >>> found = AnnotatedImage(Path("a.jpg"), 1, (40, 40), people, np.empty((0, 4), np.float32), boxes=boxes)
        >>> len(keypoints_alone(found).keypoints), keypoints_alone(found).ignore_boxes.tolist()
        (1, [[20.0, 0.0, 30.0, 9.0]])
    """
    seen = np.isfinite(image.keypoints[:, :, 0]).any(axis=1)
    if seen.all() or image.boxes is None:
        return image
    without = image.boxes[~seen]
    crowds = None if image.crowds is None else np.concatenate([image.crowds, np.zeros(len(without), np.bool_)])
    return replace(
        image, keypoints=image.keypoints[seen], ignore_boxes=np.concatenate([image.ignore_boxes, without]),
        areas=None if image.areas is None else image.areas[seen], crowds=crowds, boxes=image.boxes[seen],
    )  # fmt: skip


def map_keypoints(keypoints: Float64[np.ndarray, "N 3"], sources: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Bring (x, y, visibility) to another skeleton: float64[K, 3], a midpoint as visible as the worse of both.

    Args:
        keypoints: Of one person.
        sources: Of `Skeleton.mapping_to`.
    """
    out = np.zeros((len(sources), 3))
    for k, indices in enumerate(sources):
        if indices and (keypoints[list(indices), 2] > 0).all():
            out[k, :2] = keypoints[list(indices), :2].mean(axis=0)
            out[k, 2] = keypoints[list(indices), 2].min()
    return out
