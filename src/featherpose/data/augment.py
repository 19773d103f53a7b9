"""One view of a picture: a single affine for scale, rotation, mirror and crop, then changes of light.

Convention
    A `View` maps picture pixels to view pixels, ``v = linear @ p + offset``, pixel centres at integers. Picture,
    keypoints, ignore boxes and a teacher's maps are all carried by this one affine, so they cannot drift apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from featherpose.errors import ConfigError
from featherpose.skeleton import Skeleton

__all__ = ["AugmentOptions", "View", "change_light", "sample_view"]

_PADDING = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentOptions:
    """How views are drawn.

    Attributes:
        size_px: Width and height of the square view.
        base_px: Pictures count as if their longer side had this many pixels, so that scales mean the same for all.
        min_scale: Smallest scale, relative to ``base_px``.
        max_scale: Largest scale.
        rotation_deg: Standard deviation of the rotation is half of this; it never exceeds three times that.
        flip: Chance of a mirrored view.
        person_centred: Chance that the view is centred near a labelled person.
        centre_jitter: Standard deviation of the centre, as a part of the view.
        light: Chance of changed brightness, contrast and colour.
        blur: Chance of a slight blur.
        grey: Chance of a grey picture.

    Raises:
        ConfigError: If a value is outside its range.
    """

    size_px: int = 368
    base_px: int = 480
    min_scale: float = 0.5
    max_scale: float = 1.3
    rotation_deg: float = 40.0
    flip: float = 0.5
    person_centred: float = 0.8
    centre_jitter: float = 0.15
    light: float = 0.5
    blur: float = 0.1
    grey: float = 0.05

    def __post_init__(self) -> None:
        if self.size_px < 32 or self.size_px % 8:
            raise ConfigError(f"size_px is {self.size_px}", expected="a multiple of 8, at least 32")
        if not 0 < self.min_scale <= self.max_scale:
            raise ConfigError(f"scales run from {self.min_scale} to {self.max_scale}", expected="0 < min <= max")
        if self.base_px < 1 or not 0 <= self.rotation_deg <= 360:
            raise ConfigError(f"base_px {self.base_px}, rotation_deg {self.rotation_deg}", expected="positive, 0..360")
        for name in ("flip", "person_centred", "light", "blur", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", expected="a chance from 0 to 1")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The affine from picture pixels to view pixels.

    Attributes:
        linear: float64[2, 2].
        offset: float64[2].
        size: (width, height) of the view.
        flipped: Whether it mirrors, so that left and right change places.

    Example:
        >>> half = View(np.eye(2) / 2, np.array([-0.25, -0.25]), (8, 8), False)
        >>> half.points(np.array([[0.5, 0.5], [2.5, 4.5]], np.float32)).tolist()
        [[0.0, 0.0], [1.0, 2.0]]
    """

    linear: Float64[np.ndarray, "2 2"]
    offset: Float64[np.ndarray, " 2"]
    size: tuple[int, int]
    flipped: bool

    @property
    def scale(self) -> float:
        """View pixels per picture pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.linear))))

    @property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """The affine in homogeneous form."""
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = self.linear, self.offset
        return matrix

    def points(self, points: Float32[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """Picture pixels to view pixels; NaN stays NaN."""
        return np.asarray(points @ self.linear.T + self.offset, np.float32)

    def people(self, keypoints: Float32[np.ndarray, "P K 2"], skeleton: Skeleton) -> Float32[np.ndarray, "P K 2"]:
        """People in the view; a mirrored view exchanges left and right."""
        moved = self.points(keypoints)
        return moved[:, list(skeleton.flip_order)] if self.flipped else moved

    def boxes(self, boxes: Float32[np.ndarray, "R 4"]) -> Float32[np.ndarray, "R 4"]:
        """The upright boxes around transformed boxes."""
        if not len(boxes):
            return boxes
        corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)

    def picture(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture seen through the view; 128 outside it.

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
                borderValue=(_PADDING,) * 3,
            ),
            np.uint8,
        )  # fmt: skip


def sample_view(
    size: tuple[int, int],
    keypoints: Float32[np.ndarray, "P K 2"],
    options: AugmentOptions,
    rng: np.random.Generator,
) -> View:
    """Draw a view of a picture.

    Args:
        size: (width, height) of the picture.
        keypoints: float32[P, K, 2] of its people, NaN where missing; may be empty.
        options: Ranges.
        rng: Source of chance; equal states give equal views.
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
    window = options.size_px / factor
    centre = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
    if len(keypoints) and rng.random() < options.person_centred:
        person = keypoints[rng.integers(len(keypoints))]
        seen = person[~np.isnan(person[:, 0])]
        if len(seen):
            centre = seen.mean(axis=0) + rng.normal(0, options.centre_jitter * window, 2)
    # Padding teaches nothing: keep the window inside the picture as far as the picture is large enough.
    for axis, extent in enumerate((width, height)):
        margin = min(window / 2, extent / 2)
        centre[axis] = np.clip(centre[axis], margin, extent - margin)
    offset = (options.size_px - 1) / 2 - linear @ centre
    return View(linear, np.asarray(offset, np.float64), (options.size_px, options.size_px), flipped)


def change_light(
    image: UInt8[np.ndarray, "H W 3"], options: AugmentOptions, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Brightness, contrast, colour, blur and grey, each by its chance."""
    if rng.random() < options.light:
        gain = rng.uniform(0.75, 1.25, 3 if rng.random() < 0.5 else 1)
        table = np.arange(256)[:, None] * gain + rng.uniform(-20, 20)
        table = np.broadcast_to(np.clip(table, 0, 255), (256, 3)).astype(np.uint8)
        image = np.asarray(cv2.LUT(image, np.ascontiguousarray(table[None])), np.uint8)
    if rng.random() < options.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2))), np.uint8)
    if rng.random() < options.grey:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    return image
