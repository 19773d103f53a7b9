"""AVIF and HEIC: size and orientation of the primary item, from the boxes that describe it (ISO/IEC 23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from featherpose.media.headers.header import CUT_OFF, ImageHeader

__all__ = ["read_heif"]

_MAX_BOXES = 20_000
# (quarter turns to the left, mirror axis or None) -> EXIF orientation; the turn comes before the mirror. Axis 0 swaps
# top and bottom, axis 1 left and right, as libavif and browsers read the property.
_ORIENTATION = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 1): 2, (0, 0): 4, (2, 1): 4, (2, 0): 2, (1, 1): 7, (1, 0): 5, (3, 1): 5, (3, 0): 7,
}  # fmt: skip


def read_heif(data: bytes) -> ImageHeader:
    """Read the header of an AVIF or HEIC.

    Raises:
        struct.error, ValueError: If the boxes are damaged.
    """
    brands = data[8 : max(12, min(64, struct.unpack_from(">I", data, 0)[0]))]
    name = "AVIF" if data[8:11] == b"avi" or b"avif" in brands or b"avis" in brands else "HEIC"
    meta = next((body for kind, body in _boxes(data, 0, len(data)) if kind == b"meta"), None)
    if meta is None:
        return ImageHeader(name, None, damage=CUT_OFF)
    inside = dict(reversed([*_boxes(data, meta[0] + 4, meta[1])]))  # the first of each kind
    cut = any(end > len(data) for _, (_, end) in _boxes(data, 0, len(data), past_end=True))
    properties = dict(_boxes(data, *inside[b"iprp"])) if b"iprp" in inside else {}
    listed = [*_boxes(data, *properties[b"ipco"])] if b"ipco" in properties else []
    sizes = [struct.unpack_from(">II", data, start + 4) for kind, (start, _) in listed if kind == b"ispe"]
    # Every item may be decoded: tiles and thumbnails have sizes of their own, and the largest one bounds them all.
    largest = max(sizes, key=lambda size: size[0] * size[1], default=None)
    turns, axis = 0, None
    of_primary: list[tuple[bytes, tuple[int, int]]] = []
    if b"pitm" in inside and b"ipma" in properties:
        version = data[inside[b"pitm"][0]]
        (primary,) = struct.unpack_from(">H" if version == 0 else ">I", data, inside[b"pitm"][0] + 4)
        numbers = _properties_of(data, properties[b"ipma"][0], primary)
        of_primary = [listed[number - 1] for number in numbers if 0 < number <= len(listed)]
    for kind, (start, _) in of_primary:
        if kind == b"irot":
            turns = data[start] & 3
        elif kind == b"imir":
            axis = data[start] & 1
    own = [struct.unpack_from(">II", data, start + 4) for kind, (start, _) in of_primary if kind == b"ispe"]
    size = own[0] if own and largest is not None and own[0][0] * own[0][1] == largest[0] * largest[1] else largest
    return ImageHeader(
        name, None if size is None else (size[0], size[1]), alpha=b"auxiliary:alpha" in data[meta[0] : meta[1]],
        damage=CUT_OFF if cut else None,
        bytes_per_pixel=18, orientation=_ORIENTATION[turns, axis],
        frames=2 if data[8:12] in (b"avis", b"msf1") else 1,
    )  # fmt: skip


def _boxes(data: bytes, at: int, end: int, *, past_end: bool = False) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield (kind, (start, end) of the body) of each box; a truncated one is left out unless asked for."""
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            body = at + 16
        elif length == 0:
            length = end - at
        if length < body - at:
            raise ValueError("a box shorter than its head")
        if at + length <= end or past_end:
            yield kind, (body, at + length)
        at += length


def _properties_of(data: bytes, at: int, item: int) -> list[int]:
    """Return the numbers of the properties of an item, from 1, in the order in which they apply."""
    version, flags = data[at], data[at + 3]
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(entries, _MAX_BOXES)):
        (number,) = struct.unpack_from(">H" if version < 1 else ">I", data, at)
        at += 2 if version < 1 else 4
        count = data[at]
        at += 1
        step = 2 if flags & 1 else 1
        if number == item:
            mask, letter = (0x7FFF, ">H") if step == 2 else (0x7F, ">B")
            return [struct.unpack_from(letter, data, at + step * i)[0] & mask for i in range(count)]
        at += step * count
    return []
