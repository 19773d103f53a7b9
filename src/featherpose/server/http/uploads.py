"""Decodes uploaded images without trusting what their bytes claim."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import SourceError
from featherpose.media.headers import read_header
from featherpose.media.images import decode_image
from featherpose.server.http.costs import check_jpeg_scans, check_structure, without_png_text
from featherpose.server.http.memory import is_shortage

__all__ = ["FORMATS", "decode_upload"]

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP")
"""What the server decodes: formats whose header states the size truly, so that memory is bounded beforehand."""


def decode_upload(data: bytes, name: str, *, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an uploaded image.

    Args:
        data: The whole file.
        name: What messages call it.
        max_pixels: Refuse images with more pixels than this, before they are decoded.

    Returns:
        uint8[H, W, 3], BGR.

    Raises:
        SourceError: If the bytes are not a whole image of an acceptable format and size.
        MemoryError: If there is no memory for it at the moment.

    Example:
        >>> decode_upload(b"not an image", "file", max_pixels=100)
        Traceback (most recent call last):
        featherpose.errors.SourceError: file is not an image that the server reads; expected JPEG, PNG, WebP, GIF, BMP
    """
    if not data:
        raise SourceError(f"{name} is empty (0 bytes)", expected="an image")
    check_structure(data, name, max_pixels=max_pixels)
    data = without_png_text(data)
    header = read_header(data)
    if header is None or (header.format not in FORMATS and not header.damage):
        what = "not an image" if header is None else f"{header.format}, not an image"
        raise SourceError(f"{name} is {what} that the server reads", expected=", ".join(FORMATS))
    if header.size is None and not header.damage:
        raise SourceError(f"{name} is a {header.format} that hides its size", expected="an ordinary image")
    if header.format == "JPEG":
        check_jpeg_scans(header, name, max_pixels=max_pixels)
    try:
        return decode_image(data, name, max_pixels=max_pixels)
    except SourceError as error:
        if is_shortage(error) or error.given.startswith("there is not enough memory"):
            raise MemoryError(error.given) from error  # not the file's fault: the client may retry
        raise
