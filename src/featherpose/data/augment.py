"""One view of an image: a single affine for scale, rotation, mirror and crop, then photometric changes.

Convention
    A `View` maps image pixels to view pixels, ``v = linear @ p + offset``, pixel centers at integers. Image,
    keypoints, ignore boxes and a teacher's maps are all mapped by this one affine, so they cannot diverge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from featherpose.errors import ConfigError
from featherpose.skeleton import Skeleton

__all__ = ["AugmentOptions", "View", "change_photometry", "sample_view"]

_PADDING = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentOptions:
    """Ranges of the views.

    Attributes:
        size_px: Height of the view, and its width unless ``width_px`` is given.
        width_px: Width of the view; 0 for a square one.
        base_px: Images count as if their longer side had this many pixels, so that scales mean the same for all.
        min_scale: Smallest scale, relative to ``base_px``.
        max_scale: Largest scale.
        rotation_deg: Twice the standard deviation of the rotation, which never exceeds 1.5 times this.
        flip: Probability of a mirrored view.
        person_centered: Probability that the view is centered near a labeled person.
        center_jitter: Standard deviation of the center, as a part of the view.
        photometric: Probability of changed brightness, contrast and color.
        blur: Probability of a slight blur.
        gray: Probability of a gray image.

    Raises:
        ConfigError: If a value is outside its range.
    """

    size_px: int = 368
    width_px: int = 0
    base_px: int = 480
    min_scale: float = 0.5
    max_scale: float = 1.3
    rotation_deg: float = 40.0
    flip: float = 0.5
    person_centered: float = 0.8
    center_jitter: float = 0.15
    photometric: float = 0.5
    blur: float = 0.1
    gray: float = 0.05

    def __post_init__(self) -> None:
        for name, side in (("size_px", self.size_px), ("width_px", self.width_px or self.size_px)):
            if side < 32 or side % 8:
                raise ConfigError(f"{name} is {side}", expected="a multiple of 8, at least 32")
        if not 0 < self.min_scale <= self.max_scale:
            raise ConfigError(f"scales run from {self.min_scale} to {self.max_scale}", expected="0 < min <= max")
        if self.base_px < 1 or not 0 <= self.rotation_deg <= 360:
            raise ConfigError(f"base_px {self.base_px}, rotation_deg {self.rotation_deg}", expected="positive, 0..360")
        for name in ("flip", "person_centered", "photometric", "blur", "gray"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", expected="a chance from 0 to 1")

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) of the view in pixels."""
        return self.width_px or self.size_px, self.size_px


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The affine from image pixels to view pixels.

    Attributes:
        linear: float64[2, 2].
        offset: float64[2].
        size: (width, height) of the view.
        flipped: Whether it mirrors, so that left and right change places.
        person: Number of the person that the view was drawn for, if it was drawn for one.
        pad_value: Gray value outside of the image.

    Example:
        >>> half = View(np.eye(2) / 2, np.array([-0.25, -0.25]), (8, 8), False)
        >>> half.points(np.array([[0.5, 0.5], [2.5, 4.5]], np.float32)).tolist()
        [[0.0, 0.0], [1.0, 2.0]]
    """

    linear: Float64[np.ndarray, "2 2"]
    offset: Float64[np.ndarray, " 2"]
    size: tuple[int, int]
    flipped: bool
    person: int | None = None
    pad_value: int = _PADDING

    @property
    def scale(self) -> float:
        """Return the view pixels per image pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.linear))))

    @property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """Return the affine in homogeneous form."""
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = self.linear, self.offset
        return matrix

    def points(self, points: Float32[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """Map image pixels to view pixels; NaN stays NaN."""
        return np.asarray(points @ self.linear.T + self.offset, np.float32)

    def people(self, keypoints: Float32[np.ndarray, "P K 2"], skeleton: Skeleton) -> Float32[np.ndarray, "P K 2"]:
        """Return the people in view pixels, the one that the view was drawn for first; mirroring exchanges sides."""
        moved = self.points(keypoints[self._order(len(keypoints))])
        return moved[:, list(skeleton.flip_order)] if self.flipped else moved

    def people_boxes(self, boxes: Float32[np.ndarray, "P 4"]) -> Float32[np.ndarray, "P 4"]:
        """Return the upright boxes around the people's transformed boxes, in the order of `people`."""
        return self.boxes(boxes[self._order(len(boxes))])

    def _order(self, count: int) -> list[int]:
        """Return the numbers of the people, the one that the view was drawn for first."""
        first = [self.person] if self.person else []
        return [*first, *(p for p in range(count) if p not in first)]

    def behind_region(self, left: int, top: int) -> View:
        """Return the same view from pixels of the whole image, if this one is from those of a region's.

        Args:
            left: Of the region, in pixels of the image.
            top: Of the region.
        """
        offset = self.offset - self.linear @ np.array([left, top], np.float64)
        return View(self.linear, offset, self.size, self.flipped, self.person, self.pad_value)

    def boxes(self, boxes: Float32[np.ndarray, "R 4"]) -> Float32[np.ndarray, "R 4"]:
        """Return the upright boxes around transformed boxes."""
        if not len(boxes):
            return boxes
        corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)

    def warp(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Warp the image into the view; `pad_value` outside it.

        Strong reductions first average over areas, as the runtime's resizing does: a bilinear warp alone would alias.
        """
        matrix, scale = self.matrix, self.scale
        if scale < 0.7:
            height, width = image.shape[:2]
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            sx, sy = size[0] / width, size[1] / height
            matrix = matrix @ np.array([[1 / sx, 0, 0.5 / sx - 0.5], [0, 1 / sy, 0.5 / sy - 0.5], [0, 0, 1]])
        return np.asarray(
            cv2.warpAffine(
                image, matrix[:2], self.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
                borderValue=(self.pad_value,) * 3,
            ),
            np.uint8,
        )  # fmt: skip


def sample_view(
    size: tuple[int, int],
    keypoints: Float32[np.ndarray, "P K 2"],
    options: AugmentOptions,
    rng: np.random.Generator,
    *,
    single: bool = False,
) -> View:
    """Draw a random view of an image.

    Args:
        size: (width, height) of the image.
        keypoints: float32[P, K, 2] of its people, NaN where missing; may be empty.
        options: Ranges.
        rng: Random generator; equal states give equal views.
        single: Whether the view is of the first person alone: centered near the box around its keypoints.
    """
    width, height = size
    relative = math.exp(rng.uniform(math.log(options.min_scale), math.log(options.max_scale)))
    factor = relative * options.base_px / max(width, height)
    angle = math.radians(float(np.clip(rng.normal(0, 0.5), -1.5, 1.5)) * options.rotation_deg)
    flipped = bool(rng.random() < options.flip)
    cos, sin = math.cos(angle), math.sin(angle)
    linear = factor * np.array([[cos, -sin], [sin, cos]])
    if flipped:
        linear = linear @ np.diag([-1.0, 1.0])
    window = np.array(options.size) / factor
    center = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
    chosen = None
    if single and len(keypoints):
        seen = keypoints[0][~np.isnan(keypoints[0, :, 0])]
        if len(seen):
            chosen = 0
            middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
            center = middle + rng.normal(0, options.center_jitter * window, 2)
    elif len(keypoints) and rng.random() < options.person_centered:
        person = int(rng.integers(len(keypoints)))
        seen = keypoints[person][~np.isnan(keypoints[person, :, 0])]
        if len(seen):
            chosen = person
            center = seen.mean(axis=0) + rng.normal(0, options.center_jitter * window, 2)
    # Padding carries no information: keep the window inside the image as far as the image is large enough.
    for axis, extent in enumerate((width, height)):
        margin = min(window[axis] / 2, extent / 2)
        center[axis] = np.clip(center[axis], margin, extent - margin)
    offset = (np.array(options.size) - 1) / 2 - linear @ center
    return View(linear, np.asarray(offset, np.float64), options.size, flipped, chosen)


def change_photometry(
    image: UInt8[np.ndarray, "H W 3"], options: AugmentOptions, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Change brightness, contrast and color, blur, and turn gray, each with its probability."""
    if rng.random() < options.photometric:
        gain = rng.uniform(0.75, 1.25, 3 if rng.random() < 0.5 else 1)
        table = np.arange(256)[:, None] * gain + rng.uniform(-20, 20)
        table = np.broadcast_to(np.clip(table, 0, 255), (256, 3)).astype(np.uint8)
        image = np.asarray(cv2.LUT(image, np.ascontiguousarray(table[None])), np.uint8)
    if rng.random() < options.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2))), np.uint8)
    if rng.random() < options.gray:
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
    return image
