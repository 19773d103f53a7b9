"""The visible mark on generated images."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

__all__ = ["MARK_TEXT", "draw_mark"]

MARK_TEXT = "synthetic - featherpose"
"""What is written into the lower right corner."""


def draw_mark(image: UInt8[np.ndarray, "H W 3"], text: str = MARK_TEXT) -> None:
    """Write the mark into the lower right corner of a picture, in place: readable, on a dark bar.

    Example:
        >>> image = np.full((200, 320, 3), 128, np.uint8)
        >>> draw_mark(image)
        >>> bool((image[-12:, -60:] != 128).any()), bool((image[:100] == 128).all())
        (True, True)
    """
    scale = max(0.3, min(image.shape[:2]) / 1000)
    font, weight = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.6 * scale))
    (width, height), baseline = cv2.getTextSize(text, font, scale, weight)
    pad = max(3, round(8 * scale))
    top, left = image.shape[0] - height - baseline - 2 * pad, max(0, image.shape[1] - width - 2 * pad)
    corner = image[max(0, top) :, left:]
    corner //= 3
    at = (left + pad, image.shape[0] - pad - baseline)
    cv2.putText(image, text, at, font, scale, (235, 235, 235), weight, cv2.LINE_AA)
