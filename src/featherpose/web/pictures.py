"""From the bytes that somebody sent to a picture, without trusting what the bytes claim."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import SourceError
from featherpose.media.headers import read_header
from featherpose.media.images import decode_image

__all__ = ["FORMATS", "decode_upload"]

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP")
"""What the server decodes: formats whose header states the size truly, so that memory is bounded beforehand."""

# A progressive JPEG repeats the whole picture in each scan; real ones have about ten, an attack has thousands.
_MAX_JPEG_SCANS = 200


def decode_upload(data: bytes, name: str, *, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """Decode a picture that somebody sent.

    Args:
        data: The whole file.
        name: What messages call it.
        max_pixels: Refuse pictures with more pixels than this, before they are decoded.

    Returns:
        uint8[H, W, 3], BGR.

    Raises:
        SourceError: If the bytes are not a whole picture of an acceptable format and size.

    Example:
        >>> decode_upload(b"not a picture", "file", max_pixels=100)
        Traceback (most recent call last):
        featherpose.errors.SourceError: file is not a picture that the server reads; expected JPEG, PNG, WebP, GIF, BMP
    """
    if not data:
        raise SourceError(f"{name} is empty (0 bytes)", expected="a picture")
    header = read_header(data)
    if header is None or (header.format not in FORMATS and not header.damage):
        what = "not a picture" if header is None else f"{header.format}, not a picture"
        raise SourceError(f"{name} is {what} that the server reads", expected=", ".join(FORMATS))
    if header.size is None and not header.damage:
        raise SourceError(f"{name} is a {header.format} that hides its size", expected="an ordinary picture")
    if header.format == "JPEG" and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise SourceError(f"{name} is a JPEG of more than {_MAX_JPEG_SCANS} scans", hint="save it anew")
    return decode_image(data, name, max_pixels=max_pixels)
