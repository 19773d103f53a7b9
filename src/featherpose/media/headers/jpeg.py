"""JPEG: the markers up to the first scan, parsed as libjpeg parses them."""

from __future__ import annotations

import re
import struct

from featherpose.media.headers.header import CUT_OFF, ImageHeader

__all__ = ["read_jpeg"]

_FILL = re.compile(rb"\xff+")
_MAX_SEGMENTS = 4096  # an ICC profile has up to 255, extended XMP some hundreds
_TABLES = (0xC4, 0xC8, 0xCC)  # in the range of frame headers, but not one of them


def read_jpeg(data: bytes) -> ImageHeader:
    """Read the header of a JPEG.

    What libjpeg refuses (a second frame header, a length under 2) counts as damage. Restart markers and TEM have no
    length, and bytes between segments are passed over, as libjpeg does.

    Raises:
        struct.error, IndexError: If it ends before its first scan.
    """
    size: tuple[int, int] | None = None
    components, coefficients, progressive = 0, 0.0, False
    at, damage = 2, "its header is damaged"
    for _ in range(_MAX_SEGMENTS):
        at = _next_marker(data, at)
        kind = data[at - 1]
        if kind == 0x01 or 0xD0 <= kind <= 0xD7:
            continue
        if kind in (0xD8, 0xD9):
            break
        length = data[at] << 8 | data[at + 1]
        if length < 2:
            break
        if 0xC0 <= kind <= 0xCF and kind not in _TABLES:
            if size is not None:
                damage = "it has two frame headers"
                break
            _bits, height, width, components = struct.unpack_from(">BHHB", data, at + 2)
            size = (width, height)
            coefficients = _coefficient_bytes(data, at + 8, components)
            progressive = kind in (0xC2, 0xCA)
        if kind == 0xDA:
            return _with_scans(data, at, size, coefficients, progressive, components)
        at += length
    else:
        damage = f"it has more than {_MAX_SEGMENTS:,} segments before its image"
    return ImageHeader("JPEG", size, damage=damage)


def _next_marker(data: bytes, at: int) -> int:
    """Return the position behind the next marker: bytes in front of it are skipped, and FF 00 is not a marker."""
    if data[at] == 0xFF and 0 < data[at + 1] < 0xFF:  # where it nearly always is
        return at + 2
    for _ in range(_MAX_SEGMENTS):
        found = _FILL.search(data, at)
        if found is None:
            break
        at = found.end() + 1
        if data[at - 1]:
            return at
    raise IndexError("no further marker")


def _coefficient_bytes(data: bytes, at: int, components: int) -> float:
    """Return the bytes a pixel of the coefficients, which libjpeg keeps for an image of several scans."""
    factors = [(data[at + 3 * i + 1] >> 4, data[at + 3 * i + 1] & 15) for i in range(components)]
    largest = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    return 2 * sum(h * v for h, v in factors) / max(1, largest)


def _with_scans(
    data: bytes, at: int, size: tuple[int, int] | None, coefficients: float, progressive: bool, components: int
) -> ImageHeader:
    # libjpeg reads further scans only if the first one leaves components or bits out.
    several = progressive or data[at + 2] != components
    memory = max(6.0, 3 + coefficients) if several else 6.0
    # Within a scan FF is followed by 00 or a restart marker.
    scans = data.count(b"\xff\xda", at) if several else 0
    # The scan ends with FF D9; looking behind the start of the scan skips the thumbnail inside the EXIF block.
    whole = data.rfind(b"\xff\xd9") > at
    return ImageHeader("JPEG", size, damage=None if whole else CUT_OFF, bytes_per_pixel=memory, scans=max(1, scans + 1))
