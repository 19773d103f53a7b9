"""How much of each pixel a drawn shape covers: trails of capsules and arcs.

Coverage is the distance from the pixel's center to the shape's edge, cut off half a pixel inside and outside. The
compiled kernels are held to `capsules_slowly` and `arc_slowly`.
"""

from __future__ import annotations

import numpy as np

from featherpose.jit import kernel

__all__ = ["arc_slowly", "capsules_slowly", "cover_arc", "cover_capsules"]


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
        reach = radii[i] + 1.0
        x0 = max(0, int(min(ax, ax + dx) - reach))
        x1 = min(sheet.shape[1] - 1, int(max(ax, ax + dx) + reach) + 1)
        y0 = max(0, int(min(ay, ay + dy) - reach))
        y1 = min(sheet.shape[0] - 1, int(max(ay, ay + dy) + reach) + 1)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x - ax, y - ay
                along = 0.0 if length2 == 0.0 else min(1.0, max(0.0, (px * dx + py * dy) / length2))
                px -= along * dx
                py -= along * dy
                cover = min(1.0, radii[i] + 0.5 - np.sqrt(px * px + py * py))
                if cover > 0.0:
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
    for y in range(max(0, int(y_center - reach)), min(sheet.shape[0] - 1, int(y_center + reach) + 1) + 1):
        for x in range(max(0, int(x_center - reach)), min(sheet.shape[1] - 1, int(x_center + reach) + 1) + 1):
            px, py = x - x_center, y - y_center
            distance = np.sqrt(px * px + py * py)
            cover = min(1.0, half_width + 0.5 - abs(distance - radius))
            if cover > 0.0 and px * mx + py * my >= least * distance:
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
