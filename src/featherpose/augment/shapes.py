"""Drawn shapes of scenes: lines, circles, trails, angle gauges, text as a sprite, and the outline of a body."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import isfinite, nan

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from featherpose.augment.blending import paint
from featherpose.augment.bodies import HEAD_OF_TRUNK, named_points
from featherpose.augment.coverage import cover_arc, cover_capsules
from featherpose.augment.sprites import Sprite
from featherpose.drawing.palette import Color
from featherpose.skeleton import Skeleton

__all__ = ["body_mask", "draw_gauge", "draw_line", "draw_trail", "text_sprite"]

_SHIFT = 4
_FAR = 1e5
_TEXT_PX = 96
# Limb -> its width for a trunk of 1.
_LIMBS = (
    ("shoulder", "elbow", 0.22), ("elbow", "wrist", 0.18), ("hip", "knee", 0.34), ("knee", "ankle", 0.24),
)  # fmt: skip


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
    image: UInt8[np.ndarray, "H W 3"], points: Float64[np.ndarray, "n 2"], kind: str, color: Color, width: float,
    radius: float, opacity: float,
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

    _blended(image, points, radius + line, opacity, draw)


def draw_trail(
    image: UInt8[np.ndarray, "H W 3"], trail: list[tuple[float, float, float]], now_s: float, seconds: float,
    color: Color, width: float, opacity: float,
) -> None:  # fmt: skip
    """Draw where a joint was, thinner and fainter the longer ago, in place.

    Args:
        image: uint8[H, W, 3], BGR.
        trail: (seconds, x, y), oldest first.
        now_s: The present.
        seconds: Age at which a trail ends.
        color: BGR.
        width: Of its newest part, pixels.
        opacity: 0..1.
    """
    if len(trail) < 2 or opacity <= 0:
        return
    points = np.array([place for _, *place in trail])
    window = _window(points, width / 2 + 3, image.shape[:2])
    if window is None:
        return
    x0, y0, x1, y1 = window
    ages = np.clip((now_s - np.array([then for then, *_ in trail[:-1]])) / max(seconds, 1e-6), 0, 1)
    radii = np.maximum(1.0, width * (1 - ages)) / 2
    # All segments into one sheet, which is then painted once: the newest are the strongest.
    sheet = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cover_capsules(sheet, points - (x0, y0), radii, 255 * (1 - ages) ** 1.5)
    paint(image[y0:y1, x0:x1], sheet, *color, round(256 * min(opacity, 1.0)))


def _window(
    points: Float64[np.ndarray, "n 2"], reach: float, shape: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of what lies around points in an image; None for nothing."""
    if not np.isfinite(points).all() or np.abs(points).max() > _FAR:
        return None
    low, high = points.min(0) - reach, points.max(0) + reach
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(shape[1], int(high[0]) + 2), min(shape[0], int(high[1]) + 2)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def draw_gauge(
    image: UInt8[np.ndarray, "H W 3"], joints: Float64[np.ndarray, "3 2"], radius: float, color: Color, width: float,
    opacity: float,
) -> None:  # fmt: skip
    """Draw the angle at the second of three joints as an arc with its degrees, in place."""
    arms = joints[[0, 2]] - joints[1]
    if not np.isfinite(arms).all() or np.hypot(*arms.T).min() < 1e-6:
        return
    first, second = np.arctan2(arms[:, 1], arms[:, 0]).tolist()
    sweep = (second - first + np.pi) % (2 * np.pi) - np.pi
    center, strength = joints[1], round(256 * min(max(opacity, 0.0), 1.0))
    window = _window(center[None], radius + width, image.shape[:2])
    if window is not None and strength > 0:
        x0, y0, x1, y1 = window
        sheet = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cover_arc(sheet, center[0] - x0, center[1] - y0, radius, max(1.0, width) / 2, first, sweep)
        paint(image[y0:y1, x0:x1], sheet, *color, strength)
    label = f"{abs(np.degrees(sweep)):.0f}"  # the built-in font has no degree sign
    edge, ink = _label(label, max(7, round(20 * radius / 45)))
    away = radius + 0.6 * max(ink.shape)
    middle = first + sweep / 2
    spot = center + away * np.array([np.cos(middle), np.sin(middle)]) - np.array(ink.shape[::-1]) / 2
    _paint_at(image, edge, spot, (20, 20, 20), strength)
    _paint_at(image, ink, spot, color, strength)


@lru_cache(maxsize=1024)
def _label(text: str, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each pixel a line of text with letters of a height covers: with its edge, and without."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, height / 21
    weight = max(1, round(scale * 1.8))
    (wide, high), _ = cv2.getTextSize(text, font, scale, weight)
    pad = weight + 2
    sheets = np.zeros((2, high + 2 * pad, wide + 2 * pad), np.uint8)
    for sheet, line in zip(sheets, (weight + 2, weight), strict=True):
        cv2.putText(sheet, text, (pad, pad + high), font, scale, (255,), line, cv2.LINE_AA)
    return sheets[0], sheets[1]


def _paint_at(image: np.ndarray, sheet: np.ndarray, corner: np.ndarray, color: Color, strength: int) -> None:
    """Paint a sheet into an image with its upper left corner at a pixel, as far as it lies inside."""
    if not np.isfinite(corner).all() or np.abs(corner).max() > _FAR or strength <= 0:
        return
    x, y = round(float(corner[0])), round(float(corner[1]))
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(image.shape[1], x + sheet.shape[1]), min(image.shape[0], y + sheet.shape[0])
    if x0 < x1 and y0 < y1:
        paint(image[y0:y1, x0:x1], sheet[y0 - y : y1 - y, x0 - x : x1 - x], *color, strength)


@lru_cache(maxsize=256)
def text_sprite(text: str, color: Color) -> Sprite | None:
    """Return a line of text as a sprite with a dark edge, its letters as high as the sprite; None for no text."""
    words = text.strip()
    if not words:
        return None
    font, scale, weight = cv2.FONT_HERSHEY_DUPLEX, _TEXT_PX / 30, 9
    (width, height), baseline = cv2.getTextSize(words, font, scale, weight)
    pad = 14
    shape = (height + baseline + 2 * pad, width + 2 * pad)
    edge, ink = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    at = (pad, pad + height)
    cv2.putText(edge, words, at, font, scale, (255,), weight + 12, cv2.LINE_AA)
    cv2.putText(ink, words, at, font, scale, (255,), weight, cv2.LINE_AA)
    share = ink[..., None].astype(np.float32) / 255
    colors = share * np.array(color, np.float32) + (1 - share) * 24
    return Sprite.from_bgra(np.dstack((colors.astype(np.uint8), edge)))


def body_mask(
    points: Float64[np.ndarray, "K 2"], skeleton: Skeleton, unit: float, shape: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w"], tuple[int, int]] | None:
    """Where a person's body is, from the keypoints alone: limbs as capsules, the trunk, the head.

    Args:
        points: float64[K, 2], NaN where missing.
        skeleton: What they are.
        unit: Length of the trunk in pixels.
        shape: (height, width) of the image.

    Returns:
        uint8[h, w], 255 on the body, and the (x, y) of its upper left corner in the image; None if it is outside.
    """
    names = named_points(skeleton)
    rows = points.tolist()
    seen = points[np.isfinite(points[:, 0])]
    if not len(seen):
        return None
    x0, y0 = (max(0, int(v)) for v in seen.min(0) - 0.5 * unit)
    x1, y1 = (min(side, int(v) + 1) for v, side in zip(seen.max(0) + 0.5 * unit, (shape[1], shape[0]), strict=True))
    if x0 >= x1 or y0 >= y1:
        return None
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)

    def at(name: str) -> np.ndarray | None:
        ends = names.get(name, ())
        x = sum(rows[i][0] for i in ends) / len(ends) - x0 if ends else nan
        y = sum(rows[i][1] for i in ends) / len(ends) - y0 if ends else nan
        return np.array((x, y)) if isfinite(x + y) else None

    for side in ("left", "right"):
        for near, far, width in _LIMBS:
            ends = at(f"{side}_{near}"), at(f"{side}_{far}")
            if ends[0] is not None and ends[1] is not None:
                both = _fixed(np.array(ends))
                cv2.polylines(mask, [both], False, (255,), max(1, round(width * unit)), cv2.LINE_AA, _SHIFT)
    corners = [at(name) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
    trunk = [corner for corner in corners if corner is not None]
    if len(trunk) >= 3:
        outline = _fixed(np.array(trunk))
        cv2.fillPoly(mask, [outline], (255,), cv2.LINE_AA, _SHIFT)
        cv2.polylines(mask, [outline], True, (255,), max(1, round(0.12 * unit)), cv2.LINE_AA, _SHIFT)
    face = [p for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
            if (p := at(name)) is not None]  # fmt: skip
    if face:
        center = np.mean(face, 0)
        half = 0.5 * HEAD_OF_TRUNK * unit
        axes = (round(0.85 * half * 16), round(1.1 * half * 16))
        cv2.ellipse(mask, _fixed(center[None])[0].tolist(), axes, 0, 0, 360, (255,), cv2.FILLED, cv2.LINE_AA, _SHIFT)
        neck = at("neck")
        if neck is not None:
            both = _fixed(np.array([center, neck]))
            cv2.polylines(mask, [both], False, (255,), max(1, round(0.25 * unit)), cv2.LINE_AA, _SHIFT)
    return mask, (x0, y0)
