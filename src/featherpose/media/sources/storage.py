"""Frames as players show them: square pixels, and one moment a frame where two fields were woven into it."""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import UInt8

__all__ = ["deinterlaced", "looks_interlaced", "pixel_aspect", "square_size"]

# Television and DV: no other heights are interlaced. 1088 is 1080 with the rows that codecs add.
_INTERLACED_HEIGHTS = frozenset((480, 486, 512, 576, 608, 1080, 1088))
# Neighboring rows of a progressive frame are more alike than rows two apart; combing reverses that.
_COMBED_RATIO = 1.2
_LEAST_MOTION = 2.0
_COLUMN_STEP = 16
_LEAST_COMBED_COLUMNS = 0.02
# Beyond this a file has no pixels of such a shape, but a damaged header.
_MOST_STRETCHED = 4.0


class _Properties(Protocol):
    def get(self, propId: int, /) -> float: ...  # noqa: N803


def pixel_aspect(capture: _Properties) -> float:
    """Return the width of a pixel over its height, as frames are delivered; 1 for square pixels and unknown ones."""
    width, height = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    if not (width >= 1 and height >= 1) or math.isinf(width) or math.isinf(height):
        return 1.0
    ratio = width / height
    if abs(ratio - 1) < 0.01 or not 1 / _MOST_STRETCHED <= ratio <= _MOST_STRETCHED:
        return 1.0
    # Frames that are turned on delivery lie on their sides in the file.
    return 1 / ratio if round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180 == 90 else ratio


def square_size(size: tuple[int, int], ratio: float) -> tuple[int, int]:
    """Return (width, height) with square pixels; the shorter side of the pixels grows, so that nothing is lost.

    Example:
        >>> square_size((720, 576), 64 / 45), square_size((1280, 720), 0.5)
        ((1024, 576), (1280, 1440))
    """
    width, height = size
    return (max(1, round(width * ratio)), height) if ratio > 1 else (width, max(1, round(height / ratio)))


def looks_interlaced(image: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Return whether the even and odd rows of a frame show two moments: they then differ where something moves.

    Takes a seventh of a millisecond for 1080 rows; frames of heights that are never interlaced are not looked at.

    Example:
        >>> rows = np.repeat(np.arange(240, dtype=np.uint8)[:, None, None], 320, 1).repeat(3, 2)
        >>> looks_interlaced(np.tile(rows, (2, 1, 1)))
        False
    """
    if image.shape[0] not in _INTERLACED_HEIGHTS or image.shape[1] < _COLUMN_STEP:
        return False
    rows = np.ascontiguousarray(image[: image.shape[0] & ~1, ::_COLUMN_STEP, 1])
    neighbor = cv2.reduce(cv2.absdiff(rows[1:-1], rows[:-2]), 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    same_field = cv2.reduce(cv2.absdiff(rows[2:], rows[:-2]), 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    combed = (neighbor > _COMBED_RATIO * same_field) & (neighbor > _LEAST_MOTION)
    return bool(combed.mean() > _LEAST_COMBED_COLUMNS)


def deinterlaced(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return the moment of the even rows: each odd row becomes the mean of the rows above and below.

    The network sees a video of 576 or 1080 rows with about 256, so the rows that are given up cost it nothing.
    """
    image = image.copy()
    above, below = np.ascontiguousarray(image[0:-2:2]), np.ascontiguousarray(image[2::2])
    image[1 : 2 * len(below) : 2] = cv2.addWeighted(above[: len(below)], 0.5, below, 0.5, 0)
    if image.shape[0] % 2 == 0:
        image[-1] = image[-2]
    return image
