"""Images with transparency: read, made ready for drawing at any size, and blended into a frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from featherpose.augment.blending import blend
from featherpose.augment.svg import draw_svg
from featherpose.errors import SourceError
from featherpose.media.headers import read_header
from featherpose.media.images import read_file
from featherpose.media.opencv_logs import suppress_decoder_output

__all__ = ["NO_MASK", "Sprite", "draw_sprite", "read_sprite"]

_MAX_SIDE_PX = 4096
_MAX_BYTES = 20_000_000
NO_MASK = np.zeros((0, 0), np.uint8)
"""Nothing lies before what `blend` draws."""


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """An image with transparency at several sizes, each half of the one before.

    Attributes:
        levels: uint8[h, w, 4] each, BGRA with colors multiplied by alpha; the first is the image itself.
    """

    levels: tuple[UInt8[np.ndarray, "h w 4"], ...]

    @classmethod
    def from_bgra(cls, image: UInt8[np.ndarray, "h w 4"]) -> Sprite:
        """Make a sprite of an image with plain (not multiplied) colors.

        Example:
            >>> [level.shape[:2] for level in Sprite.from_bgra(np.zeros((8, 16, 4), np.uint8)).levels]
            [(8, 16), (4, 8), (2, 4)]
        """
        alpha = image[..., 3:].astype(np.uint16)
        levels = [np.dstack((((image[..., :3] * alpha + 127) // 255).astype(np.uint8), image[..., 3]))]
        while min(levels[-1].shape[:2]) >= 4:
            height, width = levels[-1].shape[:2]
            half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            levels.append(np.asarray(half, np.uint8))
        return cls(tuple(np.ascontiguousarray(level) for level in levels))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.levels[0].shape[1], self.levels[0].shape[0]


def read_sprite(path: str | Path) -> Sprite:
    """Read a PNG or WebP with transparency, or an SVG.

    Args:
        path: The file; an SVG is drawn with a longer side of 768 pixels.

    Raises:
        SourceError: If it cannot be read, is too large, or has no transparency.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "dot.svg"
        ...     _ = path.write_text(
        ...         '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><circle cx="1" cy=".5" r=".5"/></svg>'
        ...     )
        ...     read_sprite(path).size
        (768, 384)
    """
    path = Path(path)
    data = read_file(path)
    if len(data) > _MAX_BYTES:
        raise SourceError(f"{path} has {len(data):,} bytes", expected=f"a sprite of at most {_MAX_BYTES:,}")
    start = data[:1000].lstrip().lower()
    if path.suffix.lower() in (".svg", ".svgz") or start.startswith((b"<svg", b"<?xml")):
        image = draw_svg(path, data)
    else:
        image = _decoded(path, data)
    if image is None:
        raise SourceError(f"{path} is no image that can be drawn over a frame", expected="a PNG, WebP or SVG")
    if image.ndim != 3 or image.shape[2] != 4:
        raise SourceError(
            f"{path} has no transparency", expected="a PNG or WebP with an alpha channel, or an SVG",
            hint="a picture without it would cover everything behind its rectangle",
        )  # fmt: skip
    if image.dtype != np.uint8:
        image = (image / 257).astype(np.uint8)
    return Sprite.from_bgra(np.asarray(image, np.uint8))


def _decoded(path: Path, data: bytes) -> np.ndarray | None:
    """Decode an image as it is stored, once its header says that it is small enough."""
    header = read_header(data)
    if header is None or header.size is None or header.damage:
        return None
    if max(header.size) > _MAX_SIDE_PX:
        raise SourceError(f"{path} is {header.size[0]}x{header.size[1]} pixels", expected=f"{_MAX_SIDE_PX} at most")
    try:
        with suppress_decoder_output():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    # OpenCV's annotation states an array; it returns None for bytes that it cannot read.
    found: np.ndarray | None = image
    return found if found is not None and max(found.shape[:2]) <= _MAX_SIDE_PX else None


def draw_sprite(
    image: UInt8[np.ndarray, "H W 3"],
    sprite: Sprite,
    matrix: Float64[np.ndarray, "2 3"],
    opacity: float = 1.0,
    mask: tuple[UInt8[np.ndarray, "h w"], tuple[int, int]] | None = None,
) -> None:
    """Draw a sprite into an image, in place.

    Args:
        image: uint8[H, W, 3], BGR, writable.
        sprite: What to draw.
        matrix: float64[2, 3], from pixels of the sprite to pixels of the image; pixel centers at integers.
        opacity: 0..1.
        mask: What lies before the sprite: 255 hides it, 0 shows it; with the (x, y) of its upper left corner.
    """
    strength = round(256 * min(max(opacity, 0.0), 1.0))
    width, height = sprite.size
    corners = matrix @ np.array(
        [[-0.5, width - 0.5, width - 0.5, -0.5], [-0.5, -0.5, height - 0.5, height - 0.5], [1, 1, 1, 1]]
    )
    if strength == 0 or not np.isfinite(corners).all():
        return
    low, high = np.floor(corners.min(1)), np.ceil(corners.max(1))
    x0, y0 = (int(v) for v in np.clip(low, 0, 1e6))
    x1, y1 = (int(v) + 1 for v in np.clip(high, -1, (image.shape[1] - 1, image.shape[0] - 1)))
    if x0 >= x1 or y0 >= y1:
        return
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    level = min(len(sprite.levels) - 1, max(0, int(np.floor(-np.log2(max(scale, 1e-6))))))
    shown = sprite.levels[level]
    # From pixels of the level to pixels of the region: centers lie at integers at every size.
    grow = np.array([width / shown.shape[1], height / shown.shape[0]])
    local = np.array(matrix)
    local[:, 2] += matrix[:, :2] @ ((grow - 1) / 2) - (x0, y0)
    local[:, :2] *= grow
    part = cv2.warpAffine(
        shown, local, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 0),
    )  # fmt: skip
    before = NO_MASK if mask is None else _cut(mask, (x0, y0, x1, y1))
    blend(image[y0:y1, x0:x1], part, strength, before)


def _cut(mask: tuple[UInt8[np.ndarray, "h w"], tuple[int, int]], box: tuple[int, int, int, int]) -> np.ndarray:
    """Cut the part of a mask in a box; 0 outside the mask."""
    values, (left, top) = mask
    x0, y0, x1, y1 = box
    out = np.zeros((y1 - y0, x1 - x0), np.uint8)
    a, b = max(x0, left), max(y0, top)
    c, d = min(x1, left + values.shape[1]), min(y1, top + values.shape[0])
    if a < c and b < d:
        out[b - y0 : d - y0, a - x0 : c - x0] = values[b - top : d - top, a - left : c - left]
    return out
