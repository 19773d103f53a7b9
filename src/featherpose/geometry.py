"""Pixel coordinates: the one definition that training, evaluation, export and runtime share.

Convention
    A pixel's center has integer coordinates: the top left pixel of an image is centered at (0, 0) and covers
    [-0.5, 0.5] in x and y. Resizing by a factor s maps the image's *area*, so a center moves to
    ``(x + 0.5) * s - 0.5``. Cell c of a map with stride t stands for pixels t*c … t*c + t - 1 and is centered at
    ``t * c + (t - 1) / 2``. This is what OpenCV's ``resize`` does and what the published networks were trained for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from featherpose.errors import OptionError

__all__ = ["Letterbox", "box_overlaps", "cell_to_pixel", "pixel_to_cell"]


def box_overlaps(a: Float[np.ndarray, "*n 4"], b: Float[np.ndarray, "*m 4"]) -> Float[np.ndarray, "..."]:
    """Return the intersection over union of boxes (left, top, right, bottom), broadcast; 0 without extent.

    Example:
        >>> boxes = np.array([[0, 0, 2, 1], [5, 5, 6, 6]], np.float32)
        >>> box_overlaps(np.array([0, 0, 2, 2], np.float32), boxes).tolist()
        [0.5, 0.0]
    """
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-6))


def cell_to_pixel(cell: float, stride: int) -> float:
    """Return the pixel coordinate of the center of a map cell (fractions allowed).

    Example:
        >>> cell_to_pixel(0, 8), cell_to_pixel(1, 8)
        (3.5, 11.5)
    """
    return cell * stride + (stride - 1) / 2


def pixel_to_cell(pixel: float, stride: int) -> float:
    """Return the map cell of a pixel coordinate, the inverse of `cell_to_pixel`.

    Example:
        >>> pixel_to_cell(11.5, 8)
        1.0
    """
    return (pixel - (stride - 1) / 2) / stride


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Resize and padding of an image: the only record of both, with the inverse.

    Attributes:
        source_size: (width, height) of the image in pixels.
        content_size: (width, height) of the resized image inside the network input.
        padding: Pixels added (left, top).
        network_size: (width, height) of the network input.

    Example:
        >>> box = Letterbox.fit((1280, 720), height=256, multiple=8)
        >>> box.content_size, box.network_size
        ((455, 256), (456, 256))
        >>> box.inverse(box.forward(np.array([[640.0, 360.0]], np.float32))).round(3)
        array([[640., 360.]], dtype=float32)
    """

    source_size: tuple[int, int]
    content_size: tuple[int, int]
    padding: tuple[int, int]
    network_size: tuple[int, int]

    @classmethod
    def fit(
        cls, source_size: tuple[int, int], *, height: int, multiple: int, max_width: int | None = None
    ) -> Letterbox:
        """Scale an image to a network input height, keep its aspect ratio and pad right and bottom to a multiple.

        Args:
            source_size: (width, height) in pixels, both positive.
            height: Input height in pixels; rounded up to ``multiple``.
            multiple: The network's largest stride: width and height become multiples of it.
            max_width: Very wide images are scaled down further so that the input is no wider than this.

        Raises:
            OptionError: If a size is not positive.
        """
        width_px, height_px = source_size
        if width_px < 1 or height_px < 1:
            raise OptionError(f"the image is {width_px}x{height_px} pixels", expected="at least 1x1")
        if height < multiple:
            raise OptionError(f"height {height} is too small", expected=f"at least {multiple} pixels")
        scale = height / height_px
        if max_width is not None:
            scale = min(scale, max_width / width_px)
        content = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        network = (-(-content[0] // multiple) * multiple, -(-content[1] // multiple) * multiple)
        return cls(source_size, content, (0, 0), network)

    @property
    def scale(self) -> tuple[float, float]:
        """Return (x, y) factors from source to network pixels; they differ by the rounding of the content size."""
        return self.content_size[0] / self.source_size[0], self.content_size[1] / self.source_size[1]

    def forward(self, points: Float32[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """Convert source pixels to network pixels, (x, y) float32; NaN stays NaN."""
        scale = np.asarray(self.scale, np.float32)
        offset = (scale - 1) / 2 + np.asarray(self.padding, np.float32)
        return np.asarray(points * scale + offset, np.float32)

    def inverse(self, points: Float32[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """Convert network pixels to source pixels, (x, y) float32; NaN stays NaN."""
        scale = np.asarray(self.scale, np.float32)
        offset = (scale - 1) / 2 + np.asarray(self.padding, np.float32)
        return np.asarray((points - offset) / scale, np.float32)
