"""WebP: the size of its canvas, and whether it is animated."""

from __future__ import annotations

import struct

from featherpose.media.headers.exif import exif_orientation
from featherpose.media.headers.header import CUT_OFF, ImageHeader

__all__ = ["read_webp"]

_MAX_CHUNKS = 20_000


def read_webp(data: bytes) -> ImageHeader:
    """Read the header of a WebP.

    Raises:
        struct.error, IndexError: If it ends within its header.
    """
    kind = data[12:16]
    declared = struct.unpack_from("<I", data, 4)[0] + 8
    damage = CUT_OFF if declared > len(data) else None
    if kind == b"VP8X":
        size = (int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1)
        frames, orientation, overflow = _walk(data)
        return ImageHeader(
            "WebP", size, alpha=bool(data[20] & 0x10), damage="it has too many chunks" if overflow else damage,
            bytes_per_pixel=8, orientation=orientation, frames=frames if data[20] & 0x02 else 1,
        )  # fmt: skip
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        size = ((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
        return ImageHeader("WebP", size, alpha=bool(bits >> 28 & 1), damage=damage, bytes_per_pixel=8)
    width, height = struct.unpack_from("<HH", data, 26)
    return ImageHeader("WebP", (width & 0x3FFF, height & 0x3FFF), damage=damage)


def _walk(data: bytes) -> tuple[int, int, bool]:
    """Return (frames, EXIF orientation, whether there are too many chunks)."""
    frames, orientation, at = 0, 1, 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return max(1, frames), orientation, False
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    return max(1, frames), orientation, True
