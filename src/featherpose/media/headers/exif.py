"""EXIF orientation, and turning an image upright."""

from __future__ import annotations

import struct

import numpy as np
from jaxtyping import UInt8

__all__ = ["exif_orientation", "upright"]

_ORIENTATION = 0x0112


def exif_orientation(exif: bytes) -> int:
    r"""Return the orientation in a block of EXIF data, 1 if there is none or the block is damaged.

    Args:
        exif: From its TIFF header on; the six bytes ``Exif 00 00`` in front are allowed.

    Example:
        >>> exif_orientation(b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0))
        6
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, at)
        for i in range(entries):
            tag, _kind, _count, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * i)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright(image: UInt8[np.ndarray, "H W ..."], orientation: int) -> UInt8[np.ndarray, "h w ..."]:
    """Return the upright image, by EXIF 2.32: where row 0 and column 0 of the stored image lie."""
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.swapaxes(0, 1),
        6: image.swapaxes(0, 1)[:, ::-1],
        7: image.swapaxes(0, 1)[::-1, ::-1],
        8: image.swapaxes(0, 1)[::-1],
    }[orientation]
    return np.ascontiguousarray(turned)
