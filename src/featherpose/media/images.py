"""Image files: every format becomes uint8 BGR, or a clear error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutOfMemoryError, OutputError, SourceError
from featherpose.files import write_bytes
from featherpose.media.decoding import (
    check_budget,
    check_size,
    decode_pixels,
    enough_memory,
    out_of_memory,
    without_end_mark,
)
from featherpose.media.headers import CUT_OFF, read_header

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "decode_image", "read_file", "read_image", "write_image"]

MAX_PIXELS = 200_000_000
"""Largest image that is read unless told otherwise: 200 megapixels are 1.2 GB while they are decoded, then 600 MB."""

_EXPECTED = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, HEIC, JPEG 2000, PNM, PAM, Radiance HDR or Sun raster"

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif",
        ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif",
    ]
)  # fmt: skip
"""Suffixes by which images are found in a folder; a file that is named itself is read whatever its suffix."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image.

    The EXIF orientation is applied; 16-bit, gray, palette and CMYK images are converted; transparent pixels are
    laid over white, as viewers show them.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP, AVIF, JPEG 2000, PNM, or a GIF, of which the first image is read.
        max_pixels: Refuse images with more pixels than this, before they are decoded.

    Returns:
        uint8[H, W, 3], BGR.

    Raises:
        SourceError: If there is no such file, or it is empty, cut off, damaged, too large or no image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "gray.png"
        ...     write_image(path, np.full((4, 6, 3), 200, np.uint8))
        ...     read_image(path).shape
        (4, 6, 3)
    """
    return decode_image(read_file(Path(path)), str(path), max_pixels=max_pixels)


def read_file(path: Path) -> bytes:
    """Read all of a regular file.

    Raises:
        SourceError: If there is none, or it cannot be read, or is larger than the memory.
    """
    try:
        if path.is_dir():
            raise SourceError(f"{path} is a folder", expected="an image")
        if not path.exists():
            raise SourceError(f"there is no file {path}", expected="an image")
        if not path.is_file():
            raise SourceError(f"{path} is not a regular file", expected="an image")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise OutOfMemoryError(f"there is not enough memory to read {path}") from error


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of an image file; `read_image` describes the rules.

    Args:
        data: The whole file.
        name: What messages call it.
        max_pixels: Refuse images with more pixels than this, and those that take more memory to decode than ordinary
            images of so many pixels do.

    Returns:
        uint8[H, W, 3], BGR.

    Raises:
        SourceError: If the bytes are not a whole image of an acceptable size, or there is not enough memory.
    """
    if not data:
        raise SourceError(f"{name} is empty (0 bytes)", expected="an image")
    header = read_header(data)
    if header is None:
        raise SourceError(f"{name} is not an image", expected=_EXPECTED)
    if header.size is not None:
        check_size(name, header.size, max_pixels)
    if header.format == "JPEG" and header.damage == CUT_OFF and header.size is not None:
        check_budget(name, header, max_pixels)
        image = without_end_mark(data)
        if image is not None:
            return image
    if header.damage:
        raise SourceError(f"{name} is a damaged {header.format}: {header.damage}", hint="get the file again")
    if header.size is None:
        raise SourceError(f"{name} is a {header.format} image, which is not read here", expected=_EXPECTED)
    check_budget(name, header, max_pixels)
    image = decode_pixels(data, header, name)
    if image is None:
        if not enough_memory(header):
            raise out_of_memory(name, header)
        raise SourceError(
            f"{name} is a {header.format} that cannot be decoded: damaged, or of an unusual kind",
            hint="get the file again or save it as an 8-bit PNG or JPEG",
        )
    height, width = image.shape[:2]
    # Second check after the header: an image of another size than declared is rejected.
    if header.size not in ((width, height), (height, width)):
        raise SourceError(
            f"{name} is a damaged {header.format}: it declares {header.size[0]}x{header.size[1]} pixels "
            f"and holds {width}x{height}",
            hint="get the file again",
        )
    return image


def write_image(path: str | Path, image: UInt8[np.ndarray, "H W 3"], *, quality: int = 92, make: bool = True) -> None:
    """Write an image in the format of its suffix; it gets its name only when it is complete.

    Args:
        path: ``.jpg``, ``.png``, ``.webp``, ``.tif``, ``.bmp``, …
        image: uint8[H, W, 3], BGR.
        quality: Of JPEG and WebP, 1 to 100.
        make: Make the folder unless it exists; False where its absence is an error.

    Raises:
        OutputError: If the suffix is no image format or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    parameters = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3],
    }
    try:
        whole, data = cv2.imencode(suffix or ".none", image, parameters.get(suffix, []))
    except cv2.error:
        whole = False
    if not whole:
        raise OutputError(
            f"{path} cannot be written: {suffix or 'no suffix'} is not an image format that OpenCV writes",
            expected=".jpg, .png, .webp, .tif or .bmp",
        )
    write_bytes(path, data.tobytes(), make=make)
