"""Crops of people in COCO folders, drawn as a bottom-up network's boxes are off, with Gaussians of annotated joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from featherpose.crops import CropShape
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.skeleton import COCO_17

HOLD_OUT_EVERY = 10
"""Images of ``coco-train`` whose id this divides are held out."""
SIGMA_CELLS = 2.0
_SMALLEST_BOX_PX = 32
_STRIDE = 4
_PART = 0.15  # how often a box shows a part of the person alone


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a photograph: box (left, top, right, bottom), and keypoints (x, y, visibility) or None."""

    path: Path
    box: Float32[np.ndarray, " 4"]
    keypoints: Float32[np.ndarray, "17 3"] | None


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch: uint8[B, H, W, 3] crops, float32[B, 17, h, w] heatmaps, float32[B, 17] marks of what is annotated."""

    crops: UInt8[np.ndarray, "B H W 3"]
    heatmaps: Float32[np.ndarray, "B 17 h w"]
    labeled: Float32[np.ndarray, "B 17"]


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


class CropDraw:
    """Draws batches of crops. Photographs are read once and kept.

    Args:
        people: Everyone.
        shape: The crops that the network takes.
        seed: Of all random choices.
    """

    def __init__(self, people: Sequence[Person], shape: CropShape, seed: int) -> None:
        self._people = people
        self._shape = shape
        self._random = np.random.default_rng(seed)
        self._photographs: dict[Path, np.ndarray] = {}

    def batch(self, size: int) -> Crops:
        """Draw a batch."""
        height, width = self._shape.height, self._shape.width
        drawn = Crops(
            np.empty((size, height, width, 3), np.uint8),
            np.zeros((size, 17, height // _STRIDE, width // _STRIDE), np.float32),
            np.zeros((size, 17), np.float32),
        )
        for i in range(size):
            self._draw(drawn.crops[i], drawn.heatmaps[i], drawn.labeled[i])
        return drawn

    def _draw(self, crop: np.ndarray, heatmaps: np.ndarray, labeled: np.ndarray) -> None:
        person = self._people[int(self._random.integers(len(self._people)))]
        mirrored = bool(self._random.random() < 0.5)
        matrix = np.vstack([self._shape.matrices(self._box(person)[None])[0], [0, 0, 1]]) @ self._turn(mirrored)
        if person.path not in self._photographs:
            self._photographs[person.path] = np.asarray(cv2.imread(str(person.path)))
        size = (self._shape.width, self._shape.height)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(self._photographs[person.path], matrix[:2], size, dst=crop, flags=flags)
        self._recolor(crop)
        if person.keypoints is not None:
            back = np.linalg.inv(matrix)
            points = person.keypoints[:, :2] @ back[:2, :2].T + back[:2, 2]
            visible = person.keypoints[:, 2] > 0
            if mirrored:
                order = list(COCO_17.flip_order)
                points, visible = points[order], visible[order]
            draw_gaussians(heatmaps, points / _STRIDE, visible)
            labeled[visible] = 1

    def _box(self, person: Person) -> Float32[np.ndarray, " 4"]:
        """Return the person's box, moved, scaled, and now and then cut."""
        random = self._random
        left, top, right, bottom = person.box.astype(float)
        sides = np.array([right - left, bottom - top])
        center = np.array([left + right, top + bottom]) / 2 + random.normal(0, 0.04, 2) * sides.max()
        sides = sides * np.exp(random.normal(0, 0.12)) * np.exp(random.normal(0, 0.05, 2))
        if random.random() < _PART:
            whole, part = sides[1], 0.6 + 0.4 * random.random()
            sides[1] = whole * part
            center[1] += (random.random() - 0.5) * whole * (1 - part)
        return np.concatenate((center - sides / 2, center + sides / 2)).astype(np.float32)

    def _turn(self, mirrored: bool) -> Float64[np.ndarray, "3 3"]:
        """Return a rotation about the crop's center, mirrored or not."""
        spread = 12 if self._random.random() < 0.7 else 40
        angle = np.radians(self._random.normal(0, spread))
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = (self._shape.width - 1) / 2, (self._shape.height - 1) / 2
        turn = np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1]])
        return turn @ np.array([[-1, 0, 2 * x], [0, 1, 0], [0, 0, 1]]) if mirrored else turn

    def _recolor(self, crop: np.ndarray) -> None:
        """Change brightness, contrast and color in place; blur one crop of seven."""
        random = self._random
        if random.random() < 0.8:
            shift = random.normal(0, 12, 3) + random.normal(0, 12)
            values = np.arange(256)[:, None] * (1 + random.normal(0, 0.15)) + shift
            cv2.LUT(crop, np.clip(values, 0, 255).astype(np.uint8)[None], dst=crop)
        if random.random() < 0.15:
            cv2.GaussianBlur(crop, (0, 0), random.uniform(0.5, 1.5), dst=crop)


def draw_gaussians(heatmaps: Float32[np.ndarray, "K h w"], cells: np.ndarray, visible: np.ndarray) -> None:
    """Draw a Gaussian at each visible keypoint that lies in the crop or at most two sigmas beside it.

    Args:
        heatmaps: float32[K, h, w], written to.
        cells: float[K, 2], (x, y) in cells.
        visible: bool[K].

    Example:
        >>> heatmaps = np.zeros((1, 8, 8), np.float32)
        >>> draw_gaussians(heatmaps, np.array([[3.0, 5.0]]), np.array([True]))
        >>> float(heatmaps[0, 5, 3])
        1.0
    """
    _, height, width = heatmaps.shape
    reach = 2 * SIGMA_CELLS
    for k in np.flatnonzero(visible):
        x, y = cells[k]
        if -reach < x < width + reach and -reach < y < height + reach:
            column = np.exp(-((np.arange(height) - y) ** 2) / (2 * SIGMA_CELLS**2))
            row = np.exp(-((np.arange(width) - x) ** 2) / (2 * SIGMA_CELLS**2))
            heatmaps[k] = column[:, None] * row
