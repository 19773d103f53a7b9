"""Crops of people in COCO folders, drawn as a bottom-up network's boxes are off, with Gaussians of annotated joints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from featherpose.crop_prior import draw_prior
from featherpose.crops import CropShape
from featherpose.data.augment import AugmentOptions, View, change_photometry
from featherpose.data.crops import CropOptions, CropViews
from featherpose.data.disturbed_poses import NO_POSE, disturb_pose
from featherpose.data.labeled_pixels import read_image
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.geometry import box_overlaps
from featherpose.methods.gaussians import draw_gaussians
from featherpose.skeleton import COCO_17

HOLD_OUT_EVERY = 10
"""Images of ``coco-train`` whose id this divides are held out."""
_SIGMA_PX = 8.0
_SMALLEST_BOX_PX = 32
_STRIDE = 4
_PART = 0.15  # how often a box shows a part of the person alone
_BOXES = CropOptions(missed=0, shift=0.04, scale=0.12)
_PIXELS = AugmentOptions(photometric=0.8, blur=0.15, gray=0)
_FOUND_SCORE = 0.12  # below it about half of what a network finds are not people
_KNOWN = 0.4  # boxes that overlap more are of the same person
_TRUE_BOX = 0.35  # how often the annotated box is used although another network found the person
_UNSEEN = 0.7  # how often a hidden keypoint is taken from what another network found
_PATCH = (0.1, 0.45)  # sides of what hides a part of the person, as parts of the crop's


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a photograph: box (left, top, right, bottom), and keypoints (x, y, visibility) or None."""

    path: Path
    box: Float32[np.ndarray, " 4"]
    keypoints: Float32[np.ndarray, "17 3"] | None


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch.

    Attributes:
        crops: uint8[B, H, W, 3].
        heatmaps: float32[B, 17, h, w], Gaussians of annotated joints.
        labeled: float32[B, 17], 1 where a joint is annotated.
        people: int64[B], numbers of the people.
        to_image: float64[B, 3, 3], from crop pixels to image pixels.
        flipped: bool[B], whether left and right changed places.
    """

    crops: UInt8[np.ndarray, "B H W 3"]
    heatmaps: Float32[np.ndarray, "B 17 h w"]
    labeled: Float32[np.ndarray, "B 17"]
    people: Int64[np.ndarray, " B"]
    to_image: Float64[np.ndarray, "B 3 3"]
    flipped: Bool[np.ndarray, " B"]


def read_people(folders: Sequence[Path]) -> list[Person]:
    """Return everyone with a box of at least 32 pixels, without held-out images and crowds.

    Keypoints of a folder called ``people`` are another network's and are not returned.
    """
    people = []
    for folder in folders:
        data = read_coco_dataset(folder)
        paths = {image.image_id: image.path for image in data.images}
        for one in data.annotations["annotations"]:
            left, top, width, height = one["bbox"]
            held_out = folder.name == "coco-train" and one["image_id"] % HOLD_OUT_EVERY == 0
            if held_out or one.get("iscrowd") or max(width, height) < _SMALLEST_BOX_PX:
                continue
            keypoints = None
            if folder.name != "people" and one.get("num_keypoints"):
                keypoints = np.array(one["keypoints"], np.float32).reshape(17, 3)
            box = np.array([left, top, left + width, top + height], np.float32)
            people.append(Person(paths[one["image_id"]], box, keypoints))
    return people


def found_people(annotations: Sequence[Path], known: Sequence[Person]) -> list[Person]:
    """Return the people whom a network found in the photographs of known people, and who are not among them.

    Args:
        annotations: Files of `featherpose annotate`, each named like the folder whose images it is about.
        known: Everyone with a box.
    """
    boxes: dict[tuple[str, str], list[Float32[np.ndarray, " 4"]]] = {}
    paths = {}
    for person in known:
        key = _photograph_name(person.path)
        boxes.setdefault(key, []).append(person.box)
        paths[key] = person.path
    people = []
    for file in annotations:
        data = json.loads(file.read_text())
        names = {image["id"]: image["file_name"] for image in data["images"]}
        for one in data["annotations"]:
            key = (file.stem, Path(names[one["image_id"]]).name)
            left, top, width, height = one["bbox"]
            box = np.array([left, top, left + width, top + height], np.float32)
            if key not in paths or one["score"] < _FOUND_SCORE or max(width, height) < _SMALLEST_BOX_PX:
                continue
            if box_overlaps(box, np.array(boxes[key])).max() < _KNOWN:
                people.append(Person(paths[key], box, None))
    return people


def _photograph_name(path: Path) -> tuple[str, str]:
    return path.parent.parent.name, path.name


@dataclass(frozen=True, slots=True)
class FoundPose:
    """A pose that another network found: keypoints (x, y, score), NaN where missing, and the box told from it."""

    keypoints: Float32[np.ndarray, "17 3"]
    box: Float32[np.ndarray, " 4"]


class FoundPoses:
    """Poses that another network found of everyone, in several looks at each photograph.

    Args:
        keypoints: x, y and score, NaN where missing.
        boxes: Told from them, NaN where a look did not find the person.
    """

    def __init__(self, keypoints: Float32[np.ndarray, "P looks 17 3"], boxes: Float32[np.ndarray, "P looks 4"]) -> None:
        self._keypoints, self._boxes = keypoints, boxes
        self._seen = np.isfinite(boxes[:, :, 0])

    def draw(self, person: int, random: np.random.Generator) -> FoundPose | None:
        """Choose a look, and disturb it: it is better on these photographs, from which that network learned.

        Returns:
            None for somebody who was not found, and now and then for anybody.
        """
        looks = np.flatnonzero(self._seen[person])
        if not len(looks) or random.random() < NO_POSE:
            return None
        look = int(random.choice(looks))
        keypoints, box = self._keypoints[person, look], self._boxes[person, look]
        return FoundPose(disturb_pose(keypoints, float(max(box[2:] - box[:2])), COCO_17, random), box)


def read_found_poses(path: Path) -> FoundPoses:
    """Read what `found_poses.py` wrote."""
    with np.load(path) as file:
        return FoundPoses(file["keypoints"], file["boxes"])


class CropDraw:
    """Draws batches of crops.

    Args:
        people: Everyone.
        shape: The crops that the network takes.
        seed: Of all random choices.
        hidden: Chance that a patch of another photograph hides a part of the person.
        priors: What another network found of each person, for networks that take it.
    """

    def __init__(
        self,
        people: Sequence[Person],
        shape: CropShape,
        seed: int,
        hidden: float = 0.0,
        priors: FoundPoses | None = None,
    ) -> None:
        self._people = people
        self._hidden = hidden
        self._shape = shape
        self._priors = priors
        # The keypoints that a crop is drawn around are two corners of a box.
        self._views = CropViews(shape=shape, box_of=lambda corners, _: corners.reshape(4), options=_BOXES)
        self._random = np.random.default_rng(seed)

    def batch(self, size: int) -> Crops:
        """Draw a batch."""
        width, height = self._views.size
        drawn = Crops(
            np.zeros((size, self._shape.rows, width, 3), np.uint8),
            np.zeros((size, 17, height // _STRIDE, width // _STRIDE), np.float32),
            np.zeros((size, 17), np.float32),
            self._random.integers(len(self._people), size=size),
            np.empty((size, 3, 3)),
            np.empty(size, np.bool_),
        )
        for i in range(size):
            self._draw(drawn, i)
        return drawn

    def _draw(self, drawn: Crops, i: int) -> None:
        person = self._people[int(drawn.people[i])]
        image = photograph(person.path)
        rows, columns = image.shape[:2]
        found = None if self._priors is None else self._priors.draw(int(drawn.people[i]), self._random)
        box = person.box if found is None or self._random.random() < _TRUE_BOX else found.box
        view = self._views.draw(self._part(box).reshape(2, 2), (columns, rows), self._random)
        drawn.to_image[i], drawn.flipped[i] = np.linalg.inv(view.matrix), view.flipped
        crop = drawn.crops[i, : self._shape.height]
        crop[:] = change_photometry(view.warp(image), _PIXELS, self._random)
        patch = self._hide_part(crop) if self._hidden and self._random.random() < self._hidden else None
        if found is not None:
            self._draw_found(found, view, patch, drawn.crops[i])
        if person.keypoints is not None:
            visible = person.keypoints[None, :, 2:] > 0
            points = view.people(np.where(visible, person.keypoints[None, :, :2], np.float32(np.nan)), COCO_17)
            # The network's first cell is at pixel 0, that of the Gaussians at the center of its pixels.
            draw_gaussians(
                points + np.float32((_STRIDE - 1) / 2), drawn.heatmaps[i], False, _STRIDE, np.float32(_SIGMA_PX)
            )
            drawn.labeled[i, ~np.isnan(points[0, :, 0])] = 1

    def _draw_found(
        self, found: FoundPose, view: View, patch: tuple[int, int, int, int] | None, crop: UInt8[np.ndarray, "R W 3"]
    ) -> None:
        """Draw what another network found into the rows under a crop."""
        points = view.people(found.keypoints[None, :, :2], COCO_17)[0]
        scores = found.keypoints[list(COCO_17.flip_order), 2] if view.flipped else found.keypoints[:, 2].copy()
        if patch is not None:  # it would hardly have seen these
            left, top, right, bottom = patch
            with np.errstate(invalid="ignore"):
                inside = ((points >= (left, top)) & (points < (right, bottom))).all(axis=1)
            points[inside & (self._random.random(len(points)) < _UNSEEN)] = np.nan
        draw_prior(points, scores, np.eye(3)[:2], self._shape, crop)

    def _hide_part(self, crop: UInt8[np.ndarray, "H W 3"]) -> tuple[int, int, int, int]:
        """Put a patch of another photograph somewhere into a crop, and return left, top, right and bottom of it."""
        other = photograph(self._people[int(self._random.integers(len(self._people)))].path)
        sides = [int(side * self._random.uniform(*_PATCH)) for side in crop.shape[:2]]
        rows, columns = (min(side, size) for side, size in zip(sides, other.shape[:2], strict=True))
        y, x = (int(self._random.integers(n + 1)) for n in (other.shape[0] - rows, other.shape[1] - columns))
        to_y, to_x = (int(self._random.integers(n + 1)) for n in (crop.shape[0] - rows, crop.shape[1] - columns))
        crop[to_y : to_y + rows, to_x : to_x + columns] = other[y : y + rows, x : x + columns]
        return to_x, to_y, to_x + columns, to_y + rows

    def _part(self, box: Float32[np.ndarray, " 4"]) -> Float32[np.ndarray, " 4"]:
        """Cut a box above or below now and then."""
        if self._random.random() >= _PART:
            return box
        left, top, right, bottom = box
        height = (0.6 + 0.4 * self._random.random()) * (bottom - top)
        start = top + self._random.random() * (bottom - top - height)
        return np.array([left, start, right, start + height], np.float32)


@cache
def photograph(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a photograph once, for all threads."""
    return read_image(path)
