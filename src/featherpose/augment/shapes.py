"""Drawn shapes of scenes: lines, circles, polygons, trails, angle gauges, and text as a sprite."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import atan2, cos, degrees, hypot, isfinite, pi, sin

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from featherpose.augment.anchors import Affine, Point
from featherpose.augment.coverage import paint_arc, paint_trail
from featherpose.augment.sprites import Sprite, draw_sprite
from featherpose.drawing.palette import Color

__all__ = ["draw_gauge", "draw_line", "draw_trail", "text_sprite"]

_SHIFT = 4
_FAR = 1e5
_TEXT_PX = 96
_DARK = 24


def _blended(
    image: UInt8[np.ndarray, "H W 3"], points: Float64[np.ndarray, "n 2"], reach: float, opacity: float,
    draw: Callable[[np.ndarray, np.ndarray], None],
) -> None:  # fmt: skip
    """Draw something solid, or over a copy of its surroundings and blend both."""
    if not np.isfinite(points).all() or np.abs(points).max() > _FAR or opacity <= 0:
        return
    if opacity >= 1:
        draw(image, points)
        return
    x0, y0 = (max(0, int(v)) for v in points.min(0) - reach - 2)
    x1, y1 = (int(v) for v in points.max(0) + reach + 3)
    part = image[y0:y1, x0:x1] if x1 > 0 and y1 > 0 else image[:0]
    if not part.size:
        return
    over = part.copy()
    draw(over, points - (x0, y0))
    cv2.addWeighted(over, opacity, part, 1 - opacity, 0, dst=over)
    part[:] = over


def _fixed(points: Float64[np.ndarray, "n 2"]) -> np.ndarray:
    return np.asarray(np.rint(points * (1 << _SHIFT)), np.int32)


def draw_line(
    image: UInt8[np.ndarray, "H W 3"], points: list[Point], kind: str, color: Color, width: float, radius: float,
    opacity: float,
) -> None:  # fmt: skip
    """Draw a ``circle`` around the first point, a ``line`` through all or a ``polygon`` of them, in place.

    Args:
        image: uint8[H, W, 3], BGR.
        points: (x, y) in pixels.
        kind: Which of the three.
        color: BGR.
        width: Of the line in pixels; 0 fills a circle.
        radius: Of a circle in pixels.
        opacity: 0..1.
    """
    line = max(1, round(width))

    def draw(target: np.ndarray, at: np.ndarray) -> None:
        if kind == "circle":
            center = _fixed(at)[0].tolist()
            thick = cv2.FILLED if width <= 0 else line
            cv2.circle(target, center, round(radius * (1 << _SHIFT)), color, thick, cv2.LINE_AA, _SHIFT)
        elif kind == "line":
            cv2.polylines(target, [_fixed(at)], False, color, line, cv2.LINE_AA, _SHIFT)
        else:
            cv2.fillPoly(target, [_fixed(at)], color, cv2.LINE_AA, _SHIFT)

    _blended(image, np.array(points), radius + line, opacity, draw)


def draw_trail(
    image: UInt8[np.ndarray, "H W 3"], trail: Float64[np.ndarray, "n 3"], now_s: float, seconds: float, color: Color,
    width: float, opacity: float,
) -> None:  # fmt: skip
    """Draw where a joint was, thinner and fainter the longer ago, in place.

    Args:
        image: uint8[H, W, 3], BGR.
        trail: Rows of (seconds, x, y), oldest first.
        now_s: The present.
        seconds: Age at which a trail ends.
        color: BGR.
        width: Of its newest part, pixels.
        opacity: 0..1.
    """
    strength = round(256 * min(opacity, 1.0))
    if len(trail) > 1 and strength > 0:
        paint_trail(image, trail, now_s, seconds, color, width, strength)


def draw_gauge(
    image: UInt8[np.ndarray, "H W 3"], joints: list[Point], radius: float, color: Color, width: float, opacity: float
) -> None:
    """Draw the angle at the second of three joints as an arc with its degrees, in place."""
    (ax, ay), (x, y), (bx, by) = joints
    ax, ay, bx, by = ax - x, ay - y, bx - x, by - y
    strength = round(256 * min(max(opacity, 0.0), 1.0))
    if not isfinite(ax + ay + bx + by) or max(abs(x), abs(y)) > _FAR or strength == 0:
        return
    if min(hypot(ax, ay), hypot(bx, by)) < 1e-6:
        return
    first = atan2(ay, ax)
    sweep = (atan2(by, bx) - first + pi) % (2 * pi) - pi
    paint_arc(image, x, y, radius, max(1.0, width) / 2, first, sweep, color, strength)
    label = _label(f"{abs(degrees(sweep)):.0f}", max(7, round(20 * radius / 45)), color)  # the font has no degree sign
    wide, high = label.size
    away = radius + 0.6 * max(wide, high)
    middle = first + sweep / 2
    left, top = round(x + away * cos(middle) - wide / 2), round(y + away * sin(middle) - high / 2)
    draw_sprite(image, label, Affine(1.0, 0.0, left, 0.0, 1.0, top), opacity)


@lru_cache(maxsize=4096)
def _label(text: str, height: int, color: Color) -> Sprite:
    """Return a line of text with letters of a height in pixels and a dark edge."""
    scale = height / 21
    return _lettering(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, round(scale * 1.8)), 1, color)


@lru_cache(maxsize=256)
def text_sprite(text: str, color: Color) -> Sprite | None:
    """Return a line of text as a sprite with a dark edge, its letters as high as the sprite; None for no text."""
    words = text.strip()
    return _lettering(words, cv2.FONT_HERSHEY_DUPLEX, _TEXT_PX / 30, 9, 6, color) if words else None


def _lettering(text: str, font: int, scale: float, weight: int, edge: int, color: Color) -> Sprite:
    """Return a line of text in a color with an edge of some pixels around each letter."""
    (width, height), baseline = cv2.getTextSize(text, font, scale, weight)
    pad = weight // 2 + edge + 1
    ink = np.zeros((height + baseline + 2 * pad, width + 2 * pad), np.uint8)
    cv2.putText(ink, text, (pad, pad + height), font, scale, (255,), weight, cv2.LINE_AA)
    # Not the text once more with a heavier line: some fonts of OpenCV space heavy letters wider.
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * edge + 1, 2 * edge + 1))
    around = cv2.dilate(ink, disc)
    share = ink[..., None].astype(np.float32) / np.maximum(around[..., None], 1)
    colors = share * np.array(color, np.float32) + (1 - share) * _DARK
    return Sprite.from_bgra(np.dstack((np.rint(colors).astype(np.uint8), around)))
