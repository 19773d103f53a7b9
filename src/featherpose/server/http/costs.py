"""Bounds on what an upload costs to decode, beyond its number of pixels, checked before decoding.

The size in a header bounds memory, not time: a file of the permitted size can hold a million empty chunks, or the same
image a hundred times. Each bound here is far above what cameras and image editors write.
"""

from __future__ import annotations

import struct

from featherpose.errors import SourceError
from featherpose.media.headers import ImageHeader

__all__ = ["check_jpeg_scans", "check_structure", "without_png_text"]

_MAX_PNG_CHUNKS = 10_000  # 20 MB in the usual pieces of 8 KB are 2,500
_MAX_JPEG_SEGMENTS = 4_096  # before the image itself; metadata of 16 MB in pieces of 64 KB are 256
_MAX_JPEG_FILL = 1_024
# A progressive JPEG has about ten scans, each of which goes over the whole image.
_MAX_SCANS = 200
_USUAL_SCANS = 20
# Bytes of decoded samples for each permitted pixel: four channels of 8 bits, or fewer of 16.
_BYTES_A_PIXEL = 4
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Texts and color profiles may be compressed a thousandfold, and change no pixel that OpenCV reads.
_PNG_TEXT = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP"))


def check_structure(data: bytes, name: str, *, max_pixels: int) -> None:
    r"""Refuse files of very many parts.

    Args:
        data: The whole file.
        name: What messages call it.
        max_pixels: The largest image that is decoded.

    Raises:
        SourceError: If it has more parts than any ordinary file.

    Example:
        >>> check_structure(b"\xff\xd8" + b"\xff" * 5000, "file", max_pixels=100)
        Traceback (most recent call last):
        featherpose.errors.SourceError: file is a JPEG with a long run of fill bytes; save it anew
    """
    if data.startswith(b"\xff\xd8"):
        if b"\xff" * _MAX_JPEG_FILL in data:
            raise SourceError(f"{name} is a JPEG with a long run of fill bytes", hint="save it anew")
        _check_jpeg_segments(data, name)
    elif data.startswith(_PNG_SIGNATURE):
        _check_png(data, name, max_pixels)


def _check_jpeg_segments(data: bytes, name: str) -> None:
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] == 0xDA:
            return
        alone = data[at + 1] == 0x01 or 0xD0 <= data[at + 1] <= 0xD9
        at += 2 if alone else 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    raise SourceError(f"{name} is a JPEG of more than {_MAX_JPEG_SEGMENTS:,} segments", hint="save it anew")


def _check_png(data: bytes, name: str, max_pixels: int) -> None:
    at = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 12 > len(data):
            break
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    else:
        raise SourceError(f"{name} is a PNG of more than {_MAX_PNG_CHUNKS:,} chunks", hint="save it anew")
    if len(data) < 26:
        return
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    held = width * height * _PNG_CHANNELS.get(color, 4) * max(1, depth // 8)
    if width * height <= max_pixels and held > _BYTES_A_PIXEL * max_pixels:  # a larger one is refused for its size
        raise SourceError(
            f"{name} is {width}x{height} pixels of {held // max(1, width * height)} bytes",
            expected=f"at most {_BYTES_A_PIXEL * max_pixels / 1e6:,.0f} MB of them",
            hint="save it with 8 bits a channel, or shrink it",
        )


def without_png_text(data: bytes) -> bytes:
    r"""Leave out the texts and color profiles of a PNG, which a decoder would decompress for nothing.

    Example:
        >>> without_png_text(_PNG_SIGNATURE + b"\0\0\0\1tEXt-1234" + b"\0\0\0\0IEND1234")[8:]
        b'\x00\x00\x00\x00IEND1234'
    """
    if not data.startswith(_PNG_SIGNATURE) or not any(kind in data for kind in _PNG_TEXT):
        return data
    kept, at = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in _PNG_TEXT:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def check_jpeg_scans(header: ImageHeader, name: str, *, max_pixels: int) -> None:
    """Refuse a JPEG whose scans repeat a large image too often.

    Args:
        header: Its header; a JPEG that libjpeg reads in one scan has one, whatever follows it.
        name: What messages call it.
        max_pixels: The largest image that is decoded; this many pixels may be scanned 20 times.

    Raises:
        SourceError: If it has too many scans for its size.
    """
    pixels = 0 if header.size is None else header.size[0] * header.size[1]
    scans = header.scans
    if scans > _MAX_SCANS or (scans > _USUAL_SCANS and scans * pixels > _USUAL_SCANS * max_pixels):
        raise SourceError(f"{name} is a JPEG of {scans} scans", expected="about 10", hint="save it anew")
