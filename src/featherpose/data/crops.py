"""Views of single people as a crop network sees them: a box, disturbed as boxes in use are, cut to the crop's shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from featherpose.crops import CropShape
from featherpose.data.augment import View
from featherpose.data.proposals import Proposals
from featherpose.errors import ConfigError

__all__ = ["BoxOf", "CropOptions", "CropViews"]

BoxOf = Callable[[Float32[np.ndarray, "K 2"], tuple[int, int]], Float32[np.ndarray, " 4"]]
"""From a person's keypoints, NaN where missing, and the image's (width, height) to the person's box."""

_MIN_LEFT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CropOptions:
    """How boxes are drawn around annotated people.

    Attributes:
        missed: Probability that the box is told from a part of the keypoints, as a bottom-up network may miss some:
            a coherent part (all below or above a line, or one side), or each keypoint with a chance of its own.
        shift: Standard deviation of the box's center along each axis, as a part of the box's longer side.
        scale: Standard deviation of the logarithm of the box's size.
        detector: A model file or a name of the zoo that finds people: boxes are drawn as it gets them wrong, in place
            of ``shift`` and ``scale``. See `featherpose.data.proposals`.
        rotation_deg: Twice the standard deviation of the rotation, which never exceeds 1.5 times this.
        flip: Probability of a mirrored view.

    Raises:
        ConfigError: If a value is outside its range.
    """

    missed: float = 0.3
    shift: float = 0.03
    scale: float = 0.1
    rotation_deg: float = 30.0
    flip: float = 0.5
    detector: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.missed <= 1 and 0 <= self.flip <= 1):
            raise ConfigError(f"[data.crops] missed {self.missed}, flip {self.flip}", expected="chances from 0 to 1")
        if not (0 <= self.shift <= 1 and 0 <= self.scale <= 1 and 0 <= self.rotation_deg <= 360):
            raise ConfigError(f"[data.crops] {self}", expected="shift and scale from 0 to 1, rotation_deg 0..360")


@dataclass(frozen=True, slots=True, kw_only=True)
class CropViews:
    """Draws crops of people.

    Attributes:
        shape: Of the crops.
        box_of: Box of a person whose keypoints were found, or some of them.
        pad_value: Gray value where a crop reaches out of the image.
        options: Ranges.
        proposals: What the detector of the options gets wrong, if there is one.

    Example:
        >>> views = CropViews(
        ...     shape=CropShape(width=32, height=64, margin=1),
        ...     box_of=lambda found, _: np.concatenate([found.min(axis=0), found.max(axis=0)]),
        ...     options=CropOptions(missed=0, shift=0, scale=0, rotation_deg=0, flip=0),
        ... )
        >>> person = np.array([[10, 20], [50, 100]], np.float32)
        >>> view = views.draw(person, (200, 200), np.random.default_rng(0))
        >>> view.points(person).tolist()  # the box fills the crop
        [[-0.5, -0.5], [31.5, 63.5]]
    """

    shape: CropShape
    box_of: BoxOf
    pad_value: int = 0
    options: CropOptions = CropOptions()
    proposals: Proposals | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) of a crop in pixels."""
        return self.shape.width, self.shape.height

    def draw(self, person: Float32[np.ndarray, "K 2"], image_size: tuple[int, int], rng: np.random.Generator) -> View:
        """Draw a crop of a person.

        Args:
            person: Keypoints in image pixels, NaN where unknown, at least one known.
            image_size: (width, height).
            rng: Random generator; equal states give equal views.
        """
        options = self.options
        found = _some_missed(person, rng) if rng.random() < options.missed else person
        box = self.box_of(found, image_size)
        center, half = (
            self._moved(box, rng) if self.proposals is None else _halves(self.proposals.draw(found, box, rng))
        )
        (matrix,) = self.shape.matrices(np.concatenate([center - half, center + half])[None].astype(np.float32))
        angle = math.radians(float(np.clip(rng.normal(0, 0.5), -1.5, 1.5)) * options.rotation_deg)
        flipped = bool(rng.random() < options.flip)
        cos, sin = math.cos(angle), math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) / matrix[0, 0]
        if flipped:
            linear = linear @ np.diag([-1.0, 1.0])
        # The box's center is the crop's, also where the crop is turned.
        offset = (np.array(self.size) - 1) / 2 - linear @ center
        return View(linear, offset, self.size, flipped, 0, self.pad_value)

    def _moved(
        self, box: Float32[np.ndarray, " 4"], rng: np.random.Generator
    ) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]]:
        """Return center and halves of the sides of a box that was moved and scaled by chance."""
        center, half = _halves(box)
        x, y = rng.normal(0, 1, 2) * self.options.shift * max(2 * float(half.max()), 1.0)
        factor = math.exp(float(np.clip(rng.normal(0, 1), -2, 2)) * self.options.scale)
        return center + np.array([x, y]), half * factor


def _halves(box: Float32[np.ndarray, " 4"]) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]]:
    low, high = np.asarray(box[:2], np.float64), np.asarray(box[2:], np.float64)
    return (low + high) / 2, (high - low) / 2


def _some_missed(person: Float32[np.ndarray, "K 2"], rng: np.random.Generator) -> Float32[np.ndarray, "K 2"]:
    """Return the keypoints without some; at least three stay where there are as many."""
    known = np.flatnonzero(np.isfinite(person[:, 0]))
    if len(known) <= _MIN_LEFT:
        return person
    if rng.random() < 0.5:
        kept = known[rng.random(len(known)) < rng.uniform(0.4, 0.9)]
    else:
        direction = rng.normal(0, 1, 2) * (0.5, 1.0)  # feet and heads are missed more often than sides
        order = known[np.argsort(person[known] @ direction, kind="stable")]
        kept = order[: max(_MIN_LEFT, round(len(order) * float(rng.uniform(0.4, 0.9))))]
    if len(kept) < _MIN_LEFT:
        kept = rng.permutation(known)[:_MIN_LEFT]
    part = np.full_like(person, np.nan)
    part[kept] = person[kept]
    return part
