"""Pictures in files: every odd format becomes uint8 BGR, or a clear error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutputError, SourceError
from featherpose.media.atomic import write_bytes
from featherpose.media.headers import read_header
from featherpose.media.silence import silent_opencv

__all__ = ["MAX_PIXELS", "PICTURE_SUFFIXES", "decode_image", "read_image", "write_image"]

MAX_PIXELS = 200_000_000
"""Largest picture that is read unless told otherwise: 200 megapixels are 600 MB in memory."""

PICTURE_SUFFIXES = frozenset(
    [
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif",
        ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif",
    ]
)  # fmt: skip
"""Suffixes by which pictures are found in a folder; a file that is named itself is read whatever its suffix."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture.

    The EXIF orientation is applied; 16-bit, grey, palette and CMYK pictures are converted; transparent pixels are
    laid over white, as viewers show them.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP, AVIF, JPEG 2000, PNM, or a GIF, of which the first picture is read.
        max_pixels: Refuse pictures with more pixels than this, before they are decoded.

    Returns:
        uint8[H, W, 3], BGR.

    Raises:
        SourceError: If there is no such file, or it is empty, cut off, damaged, too large or no picture.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "grey.png"
        ...     write_image(path, np.full((4, 6, 3), 200, np.uint8))
        ...     read_image(path).shape
        (4, 6, 3)
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise SourceError(f"{path} is a folder", expected="a picture")
        if not path.exists():
            raise SourceError(f"there is no file {path}", expected="a picture")
        if not path.is_file():
            raise SourceError(f"{path} is not a regular file", expected="a picture")
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_image(data, str(path), max_pixels=max_pixels)


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of a picture file; `read_image` describes the rules.

    Args:
        data: The whole file.
        name: What messages call it.
        max_pixels: Refuse pictures with more pixels than this.

    Returns:
        uint8[H, W, 3], BGR.

    Raises:
        SourceError: If the bytes are not a whole picture of an acceptable size.
    """
    if not data:
        raise SourceError(f"{name} is empty (0 bytes)", expected="a picture")
    header = read_header(data)
    if header is not None:
        if header.size is not None:
            _check_size(name, header.size, max_pixels)
        if header.damage:
            raise SourceError(f"{name} is a damaged {header.format}: {header.damage}", hint="get the file again")
        if header.format == "HEIC":
            raise SourceError(f"{name} is a HEIC picture, which OpenCV cannot read", hint="convert it to JPEG or PNG")
    flags = cv2.IMREAD_UNCHANGED if header is not None and header.alpha else cv2.IMREAD_COLOR
    image = _decode(data, flags)
    if image is not None and image.ndim == 3 and image.shape[2] == 4:
        image = _over_white(image)
    elif flags == cv2.IMREAD_UNCHANGED:
        image = _decode(data, cv2.IMREAD_COLOR)
    if image is None or image.ndim != 3 or image.dtype != np.uint8:
        if header is None:
            raise SourceError(f"{name} is not a picture", expected="JPEG, PNG, WebP, TIFF, BMP, AVIF, GIF or PNM")
        raise SourceError(
            f"{name} is a {header.format} that cannot be decoded: damaged, or of an unusual kind",
            hint="get the file again or save it as an 8-bit PNG or JPEG",
        )
    return image


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise SourceError(f"{name} claims to be {width}x{height} pixels", expected="at least 1x1")
    if width * height > max_pixels:
        raise SourceError(
            f"{name} is {width}x{height} pixels, {width * height / 1e6:,.0f} megapixels",
            expected=f"at most {max_pixels / 1e6:,.0f} megapixels",
            hint="shrink it first, or raise the limit (--max-megapixels, max_pixels=)",
        )


def _decode(data: bytes, flags: int) -> UInt8[np.ndarray, "H W ..."] | None:
    try:
        with silent_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError):
        return None
    # OpenCV's annotation promises an array; in truth it gives None for bytes that it cannot read.
    found: np.ndarray | None = image
    if found is not None and found.dtype == np.uint16:
        found = (found >> 8).astype(np.uint8)
    return found


def _over_white(image: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 3"]:
    alpha = image[..., 3:].astype(np.uint16)
    colour = image[..., :3] * alpha + 255 * (255 - alpha)
    return np.asarray((colour + 127) // 255, np.uint8)


def write_image(path: str | Path, image: UInt8[np.ndarray, "H W 3"], *, quality: int = 92) -> None:
    """Write a picture, in the format of its suffix, under its name only when it is whole.

    Args:
        path: ``.jpg``, ``.png``, ``.webp``, ``.tif``, ``.bmp``, …
        image: uint8[H, W, 3], BGR.
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        OutputError: If the suffix is no picture format or the file cannot be written.
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
            f"{path} cannot be written: {suffix or 'no suffix'} is not a picture format that OpenCV writes",
            expected=".jpg, .png, .webp, .tif or .bmp",
        )
    write_bytes(path, data.tobytes())
