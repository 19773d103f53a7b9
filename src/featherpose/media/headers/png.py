"""PNG: its chunks, and the same image without the chunks that libpng only warns about."""

from __future__ import annotations

import struct
import zlib

from featherpose.media.headers.exif import exif_orientation
from featherpose.media.headers.header import CUT_OFF, ImageHeader

__all__ = ["read_png", "without_remarks"]

_SIGNATURE_BYTES = 8
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_OF_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
# Encoders write pieces of 8 KB and more; a file of empty chunks costs a line on stderr and microseconds for each.
_CHUNKS_AT_LEAST, _BYTES_A_CHUNK = 4096, 256


def read_png(data: bytes) -> ImageHeader:
    """Read the header of a PNG, and verify the checksum of each chunk.

    Raises:
        struct.error: If it ends within its first chunk.
    """
    (first,) = struct.unpack_from(">4s", data, 12)
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    alpha, damage, orientation, frames = color in (4, 6), CUT_OFF, 1, 1
    most = _CHUNKS_AT_LEAST + len(data) // _BYTES_A_CHUNK
    view = memoryview(data)
    at, chunks = _SIGNATURE_BYTES, 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        chunks += 1
        if end + 4 > len(data):
            break
        if chunks > most:
            damage = f"it has more than {most:,} chunks"
            break
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            damage = f"its {kind.decode('latin-1')!r} chunk is damaged"
            break
        if (kind == b"IHDR" and at > _SIGNATURE_BYTES) or first != b"IHDR":
            damage = "its header is not at its beginning"
            break
        if kind == b"tRNS":
            alpha = True
        elif kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end])
        elif kind == b"acTL" and length >= 8:
            frames = max(1, struct.unpack_from(">I", data, at + 8)[0])
        elif kind == b"IEND":
            damage = ""
            break
        at = end + 4
    samples = 2 if depth == 16 else 1
    return ImageHeader(
        "PNG", (width, height), alpha=alpha, damage=damage or None, depth=depth,
        bytes_per_pixel=samples * (8 if alpha else 6), orientation=orientation, frames=frames,
    )  # fmt: skip


def without_remarks(data: bytes, *, animated: bool = False) -> bytes:
    """Return the same image without chunks that do not affect its pixels and make libpng print warnings.

    Args:
        data: A whole PNG that `read_png` found undamaged.
        animated: Keep the frames of an animation.
    """
    wanted = _NEEDED + _OF_ANIMATION if animated else _NEEDED
    pieces: list[tuple[int, int]] = []
    at, dropped = _SIGNATURE_BYTES, False
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in wanted:
            pieces.append((at, at + 12 + length))
        else:
            dropped = True
        if kind == b"IEND":
            dropped |= at + 12 + length < len(data)
            break
        at += 12 + length
    if not dropped:
        return data
    return data[:_SIGNATURE_BYTES] + b"".join(data[start:end] for start, end in pieces)
