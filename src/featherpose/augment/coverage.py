"""Drawn shapes by how much of each pixel they cover: trails of capsules, arcs, and painting them.

Coverage is the distance from the pixel's center to the shape's edge, cut off half a pixel inside and outside. The
compiled kernels are held to `capsules_slowly` and `arc_slowly`.
"""

from __future__ import annotations

import numpy as np

from featherpose.jit import kernel

__all__ = ["arc_slowly", "capsules_slowly", "cover_arc", "cover_capsules", "paint", "paint_arc", "paint_trail"]


@kernel
def cover_capsules(sheet, points, radii, strengths):  # type: ignore[no-untyped-def]
    """Put the segments between consecutive points into a sheet; where several cover a pixel the strongest counts.

    ``sheet`` uint8[h, w], changed in place; ``points`` float64[n + 1, 2] in its pixels; ``radii`` and ``strengths``
    (0..255) float64[n].
    """
    for i in range(len(radii)):
        ax, ay = points[i, 0], points[i, 1]
        dx, dy = points[i + 1, 0] - ax, points[i + 1, 1] - ay
        length2 = dx * dx + dy * dy
        share = 0.0 if length2 == 0.0 else 1.0 / length2
        reach = radii[i] + 1.0
        x0 = max(0, int(min(ax, ax + dx) - reach))
        x1 = min(sheet.shape[1] - 1, int(max(ax, ax + dx) + reach) + 1)
        y0 = max(0, int(min(ay, ay + dy) - reach))
        y1 = min(sheet.shape[0] - 1, int(max(ay, ay + dy) + reach) + 1)
        outer = (radii[i] + 0.5) ** 2
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x - ax, y - ay
                along = min(1.0, max(0.0, (px * dx + py * dy) * share))
                px -= along * dx
                py -= along * dy
                away2 = px * px + py * py
                if away2 < outer:
                    cover = min(1.0, radii[i] + 0.5 - np.sqrt(away2))
                    value = np.uint8(cover * strengths[i] + 0.5)
                    if value > sheet[y, x]:
                        sheet[y, x] = value


def capsules_slowly(shape: tuple[int, int], points: np.ndarray, radii: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Return what `cover_capsules` puts into an empty sheet, by the definition, as float64[h, w]."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape)
    for a, b, radius, strength in zip(points[:-1], points[1:], radii, strengths, strict=True):
        way = b - a
        length2 = float(way @ way)
        along = np.clip(((x - a[0]) * way[0] + (y - a[1]) * way[1]) / length2, 0, 1) if length2 else np.zeros(shape)
        distance = np.hypot(x - a[0] - along * way[0], y - a[1] - along * way[1])
        out = np.maximum(out, np.clip(radius + 0.5 - distance, 0, 1) * strength)
    return out


@kernel
def cover_arc(sheet, x_center, y_center, radius, half_width, first, sweep):  # type: ignore[no-untyped-def]
    """Put an arc into a sheet uint8[h, w], in place: from the angle ``first`` over ``sweep`` (-pi..pi), in radians."""
    start = first if sweep >= 0 else first + sweep
    middle = start + abs(sweep) / 2
    # A pixel lies within the sweep if its direction is no further from the middle than half of it.
    mx, my, least = np.cos(middle), np.sin(middle), np.cos(abs(sweep) / 2)
    reach = radius + half_width + 1.0
    inner, outer = max(0.0, radius - half_width - 0.5) ** 2, (radius + half_width + 0.5) ** 2
    for y in range(max(0, int(y_center - reach)), min(sheet.shape[0] - 1, int(y_center + reach) + 1) + 1):
        for x in range(max(0, int(x_center - reach)), min(sheet.shape[1] - 1, int(x_center + reach) + 1) + 1):
            px, py = x - x_center, y - y_center
            away2 = px * px + py * py
            if inner <= away2 < outer:
                distance = np.sqrt(away2)
                cover = min(1.0, half_width + 0.5 - abs(distance - radius))
                if px * mx + py * my >= least * distance:
                    sheet[y, x] = max(sheet[y, x], np.uint8(255.0 * cover + 0.5))


def arc_slowly(
    shape: tuple[int, int], center: tuple[float, float], radius: float, half_width: float, first: float, sweep: float
) -> np.ndarray:
    """Return what `cover_arc` puts into an empty sheet, by the definition, as float64[h, w]."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    turned = np.arctan2(y - center[1], x - center[0]) - first
    inside = (turned if sweep >= 0 else -turned) % (2 * np.pi) <= abs(sweep)
    distance = np.hypot(x - center[0], y - center[1])
    return np.asarray(np.where(inside, 255 * np.clip(half_width + 0.5 - np.abs(distance - radius), 0, 1), 0.0))


@kernel
def _divided(value):  # type: ignore[no-untyped-def]
    """Divide by 65280, rounded, without a division: by 256, then by 255, which is exact up to 65534."""
    high = (value + np.uint32(32640)) >> np.uint32(8)
    return (high + np.uint32(1) + (high >> np.uint32(8))) >> np.uint32(8)


@kernel
def paint(region, sheet, color, strength):  # type: ignore[no-untyped-def]
    """Paint a color (BGR) where a sheet uint8[h, w] covers a region uint8[h, w, 3], in place; ``strength`` 0..256."""
    colors = (np.uint32(color[0]), np.uint32(color[1]), np.uint32(color[2]))
    for y in range(region.shape[0]):
        for x in range(region.shape[1]):
            cover = np.uint32(sheet[y, x])
            if cover == 0:
                continue
            share = cover * np.uint32(strength)  # of 255 * 256
            rest = np.uint32(65280) - share
            for c in range(3):
                region[y, x, c] = _divided(colors[c] * share + np.uint32(region[y, x, c]) * rest)


@kernel
def _window(image, low_x, low_y, high_x, high_y):  # type: ignore[no-untyped-def]
    """Left, top, right and bottom, exclusive, of the part of an image between two corners."""
    height, width = float(image.shape[0]), float(image.shape[1])
    return (
        int(min(max(low_x, 0.0), width)), int(min(max(low_y, 0.0), height)),
        int(min(max(high_x + 2.0, 0.0), width)), int(min(max(high_y + 2.0, 0.0), height)),
    )  # fmt: skip


@kernel
def paint_trail(image, trail, now_s, seconds, color, width, strength):  # type: ignore[no-untyped-def]
    """Paint where a joint was, thinner and fainter the longer ago, in place.

    ``trail`` float64[n, 3], rows of (seconds, x, y), oldest first; ``width`` of its newest part in pixels.
    """
    reach = width / 2 + 3
    low_x, low_y, high_x, high_y = trail[0, 1], trail[0, 2], trail[0, 1], trail[0, 2]
    for i in range(1, len(trail)):
        low_x, high_x = min(low_x, trail[i, 1]), max(high_x, trail[i, 1])
        low_y, high_y = min(low_y, trail[i, 2]), max(high_y, trail[i, 2])
    x0, y0, x1, y1 = _window(image, low_x - reach, low_y - reach, high_x + reach, high_y + reach)
    if x0 >= x1 or y0 >= y1:
        return
    n = len(trail) - 1
    points, radii, strengths = np.empty((n + 1, 2)), np.empty(n), np.empty(n)
    for i in range(n + 1):
        points[i, 0], points[i, 1] = trail[i, 1] - x0, trail[i, 2] - y0
    for i in range(n):
        left = 1.0 - min(1.0, max(0.0, (now_s - trail[i, 0]) / max(seconds, 1e-6)))
        radii[i] = max(1.0, width * left) / 2
        strengths[i] = 255.0 * left**1.5
    # All segments into one sheet, which is then painted once: the newest are the strongest.
    sheet = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cover_capsules(sheet, points, radii, strengths)
    paint(image[y0:y1, x0:x1], sheet, color, strength)


@kernel
def paint_arc(image, x, y, radius, half_width, first, sweep, color, strength):  # type: ignore[no-untyped-def]
    """Paint an arc around (x, y), in place; see `cover_arc`."""
    reach = radius + half_width + 1.0
    x0, y0, x1, y1 = _window(image, x - reach, y - reach, x + reach, y + reach)
    if x0 >= x1 or y0 >= y1:
        return
    sheet = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cover_arc(sheet, x - x0, y - y0, radius, half_width, first, sweep)
    paint(image[y0:y1, x0:x1], sheet, color, strength)
