"""TIFF and BigTIFF: size, kind of samples and pages."""

from __future__ import annotations

import struct

from featherpose.media.headers.header import CUT_OFF, ImageHeader

__all__ = ["read_tiff"]

_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ORIENTATION = 256, 257, 258, 277, 274
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _MAXIMUM, _SUBFILE = 322, 323, 338, 281, 254
_MAX_PAGES = 10_000
_MAX_ENTRIES = 4096
_LENGTHS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of whole numbers


def read_tiff(data: bytes) -> ImageHeader:
    """Read the first directory of a TIFF and count the others.

    Raises:
        struct.error: If it ends within the first directory.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    at = int(struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0])
    if at + 2 > len(data):
        return ImageHeader("TIFF", None, damage=CUT_OFF)
    fields, following = _directory(data, at, order, big)
    if not {_WIDTH, _HEIGHT} <= fields.keys():
        return ImageHeader("TIFF", None, damage="it does not state its size")
    size = (fields[_WIDTH], fields[_HEIGHT])
    samples, bits = fields.get(_SAMPLES, 1), fields.get(_BITS, 1)
    damage = None
    if not 1 <= samples <= 64 or not 1 <= bits <= 64:
        damage = f"it has {samples} samples of {bits} bits a pixel"
    # The decoder holds one tile, whatever size it claims, next to the image.
    tile = fields.get(_TILE_WIDTH, 0) * fields.get(_TILE_HEIGHT, 0) / max(1, size[0] * size[1])
    deep = bits > 8
    memory = max(4.0, samples * (2 if bits <= 16 else bits // 8) if deep else 4.0) * 2 + (0 if deep else 2)
    alpha = samples == 4 and _EXTRA in fields
    return ImageHeader(
        "TIFF", size, alpha=alpha and bits <= 16, damage=damage, depth=bits,
        maximum=fields.get(_MAXIMUM) if deep and samples == 1 else None,
        bytes_per_pixel=max(memory, 12 if alpha or deep else 10) + tile * max(4, samples * bits / 8),
        orientation=fields.get(_ORIENTATION, 1) if 1 <= fields.get(_ORIENTATION, 1) <= 8 else 1,
        frames=_pages(data, following, order, big, size),
    )  # fmt: skip


def _directory(data: bytes, at: int, order: str, big: bool) -> tuple[dict[int, int], int]:
    """Return the first values of the fields of one directory, and the position of the next one."""
    head, entry, where = ("Q", 20, "Q") if big else ("H", 12, "I")
    entries = int(struct.unpack_from(order + head, data, at)[0])
    if entries > _MAX_ENTRIES:
        raise ValueError("too many entries")
    at += struct.calcsize(order + head)
    fields: dict[int, int] = {}
    for i in range(entries):
        tag, kind, count = struct.unpack_from(order + "HH" + where, data, at + entry * i)
        value_at = at + entry * i + 4 + struct.calcsize(order + where)
        letter = _LENGTHS.get(kind)
        if letter is None or count < 1:
            continue
        if count * struct.calcsize(order + letter) > struct.calcsize(order + where):  # it lies elsewhere
            value_at = int(struct.unpack_from(order + where, data, value_at)[0])
            if value_at + 8 > len(data):
                continue
        # libtiff keeps the first of two entries of one tag.
        fields.setdefault(tag, int(struct.unpack_from(order + letter, data, value_at)[0]))
    (following,) = struct.unpack_from(order + where, data, at + entry * entries)
    return fields, int(following)


def _pages(data: bytes, at: int, order: str, big: bool, size: tuple[int, int]) -> int:
    """Count the images of one size in the file, up to a limit; 1 if it holds smaller versions of one image.

    A circular chain of directories ends at its first repetition.
    """
    pages, seen = 1, set[int]()
    while at and at not in seen and pages < _MAX_PAGES:
        seen.add(at)
        try:
            fields, at = _directory(data, at, order, big)
        except (struct.error, OverflowError, ValueError):
            break
        if fields.get(_SUBFILE, 0) & 1 or (fields.get(_WIDTH), fields.get(_HEIGHT)) != size:
            return 1
        pages += 1
    return pages
