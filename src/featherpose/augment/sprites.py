"""Images with transparency: read, made ready for drawing at any size, and blended into a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor, inf, isfinite, log2, sqrt
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt64

from featherpose.augment.anchors import Affine
from featherpose.augment.blending import clear_around, draw_texels, make_texels
from featherpose.augment.silhouette import Silhouette
from featherpose.augment.svg import draw_svg
from featherpose.errors import SourceError
from featherpose.media.headers import read_header
from featherpose.media.images import read_file
from featherpose.media.opencv_logs import suppress_decoder_output

__all__ = ["Sprite", "draw_sprite", "read_sprite"]

_MAX_SIDE_PX = 4096
_MAX_BYTES = 20_000_000
_MOST_STEP = 1e4  # pixels of a sprite from one of the image to the next, so that its positions fit 64 bits
_NO_MASK = np.zeros((0, 0), np.uint8)


Texels = tuple[UInt64[np.ndarray, "h+2 w+2"], UInt8[np.ndarray, "h+2 w+2"]]


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """An image with transparency at several sizes, each half of the one before.

    Attributes:
        levels: uint8[h, w, 4] each, BGRA with colors multiplied by alpha; the first is the image itself.
    """

    levels: tuple[UInt8[np.ndarray, "h w 4"], ...]
    _texels: dict[int, Texels] = field(default_factory=dict, init=False)

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

    def texels(self, level: int) -> Texels:
        """Return one of the sizes as `draw_texels` reads it; made when it is first drawn."""
        found = self._texels.get(level)
        if found is None:
            texels = make_texels(self.levels[level])
            found = self._texels[level] = (texels, clear_around(texels))
        return found


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
    place: Affine,
    opacity: float = 1.0,
    before: Silhouette | None = None,
) -> None:
    """Draw a sprite into an image, in place.

    Args:
        image: uint8[H, W, 3], BGR, writable.
        sprite: What to draw.
        place: From pixels of the sprite to pixels of the image; pixel centers at integers.
        opacity: 0..1.
        before: What lies before the sprite.
    """
    strength = round(256 * min(max(opacity, 0.0), 1.0))
    width, height = sprite.size
    # Of the middle and half of the extent of the drawn parallelogram.
    x, y = place(((width - 1) / 2, (height - 1) / 2))
    dx = (abs(place.xx) * width + abs(place.xy) * height) / 2
    dy = (abs(place.yx) * width + abs(place.yy) * height) / 2
    if strength == 0 or not isfinite(x + y + dx + dy):
        return
    window = (
        max(0, floor(max(x - dx, 0.0))), max(0, floor(max(y - dy, 0.0))),
        ceil(min(x + dx, image.shape[1] - 1.0)) + 1, ceil(min(y + dy, image.shape[0] - 1.0)) + 1,
    )  # fmt: skip
    if window[0] >= window[2] or window[1] >= window[3]:
        return
    scale = sqrt(abs(place.area))
    if not 0 < scale < inf:
        return
    level = min(len(sprite.levels) - 1, max(0, floor(-log2(max(scale, 1e-6)))))
    rows, columns = sprite.levels[level].shape[:2]
    # From pixels of the image to pixels of the level: centers lie at integers at every size.
    wide, high = width / columns, height / rows
    back = place.inverse()
    local = (
        back.xx / wide, back.xy / wide, (back.x + 0.5) / wide - 0.5,
        back.yx / high, back.yy / high, (back.y + 0.5) / high - 0.5,
    )  # fmt: skip
    if not all(abs(local[i]) <= _MOST_STEP for i in (0, 1, 3, 4)):
        return
    mask = _NO_MASK if before is None else before.mask(window)
    draw_texels(image, *sprite.texels(level), local, window, strength, mask)
