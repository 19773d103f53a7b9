"""From joints to the place of a graphic: one joint, two (similarity), three and more (affine).

Scenes place dozens of graphics a frame, so a map is six plain numbers: numpy's calls would cost more than drawing does.
"""

from __future__ import annotations

from functools import lru_cache
from math import hypot, sqrt
from typing import NamedTuple

import numpy as np

__all__ = ["Affine", "Point", "affine", "similarity", "upright"]

Point = tuple[float, float]

_FLAT = 0.12  # a body seen on edge: the smaller of both stretches is under this part of the larger


class Affine(NamedTuple):
    """The map of (x, y) to (``xx`` x + ``xy`` y + ``x``, ``yx`` x + ``yy`` y + ``y``).

    Example:
        >>> half = Affine(0.5, 0.0, 3.0, 0.0, 0.5, 1.0)
        >>> half((4.0, 2.0))
        (5.0, 2.0)
        >>> half.inverse()
        Affine(xx=2.0, xy=0.0, x=-6.0, yx=0.0, yy=2.0, y=-2.0)
    """

    xx: float
    xy: float
    x: float
    yx: float
    yy: float
    y: float

    def __call__(self, point: Point) -> Point:
        """Return where a point goes."""
        return self.xx * point[0] + self.xy * point[1] + self.x, self.yx * point[0] + self.yy * point[1] + self.y

    @property
    def area(self) -> float:
        """Factor by which areas grow; negative where the map mirrors."""
        return self.xx * self.yy - self.xy * self.yx

    def scaled(self, factor: float, kept: Point) -> Affine:
        """Return the map that makes everything larger by a factor, but leaves a point where it goes."""
        xx, xy, yx, yy = factor * self.xx, factor * self.xy, factor * self.yx, factor * self.yy
        x, y = self(kept)
        return Affine(xx, xy, x - xx * kept[0] - xy * kept[1], yx, yy, y - yx * kept[0] - yy * kept[1])

    def shifted(self, right: float, down: float) -> Affine:
        """Return the map to places further to the right and down along the graphic's own axes, in image pixels."""
        wide, high = max(hypot(self.xx, self.yx), 1e-9), max(hypot(self.xy, self.yy), 1e-9)
        x = self.x + right * self.xx / wide + down * self.xy / high
        y = self.y + right * self.yx / wide + down * self.yy / high
        return Affine(self.xx, self.xy, x, self.yx, self.yy, y)

    def inverse(self) -> Affine:
        """Return the map back.

        Raises:
            ZeroDivisionError: If there is none.
        """
        area = self.area
        xx, xy, yx, yy = self.yy / area, -self.xy / area, -self.yx / area, self.xx / area
        return Affine(
            xx + 0.0, xy + 0.0, -(xx * self.x + xy * self.y), yx + 0.0, yy + 0.0, -(yx * self.x + yy * self.y)
        )


def upright(point: Point, at: Point, scale: float, up: Point) -> Affine:
    """Return the map that puts a pixel of a graphic on one joint.

    Args:
        point: (x, y) in pixels of the graphic.
        at: (x, y) of the joint in the image.
        scale: Image pixels for each pixel of the graphic.
        up: Direction of the image that the graphic's top points to; of any length.

    Example:
        >>> upright((2.0, 3.0), (10.0, 10.0), 2.0, (0.0, -1.0))
        Affine(xx=2.0, xy=0.0, x=6.0, yx=0.0, yy=2.0, y=4.0)
    """
    length = max(hypot(*up), 1e-9)
    c, s = 0.0 - scale * up[1] / length, scale * up[0] / length
    return _turned(c, s, point, at)


def similarity(points: tuple[Point, ...], at: list[Point]) -> Affine | None:
    """Return the turn, scale and shift that put two pixels of a graphic on two joints; None if they coincide.

    Example:
        >>> similarity(((0.0, 0.0), (1.0, 0.0)), [(5.0, 5.0), (5.0, 7.0)])
        Affine(xx=0.0, xy=-2.0, x=5.0, yx=2.0, yy=0.0, y=5.0)
    """
    (x0, y0), (x1, y1) = points
    ax, ay = x1 - x0, y1 - y0
    bx, by = at[1][0] - at[0][0], at[1][1] - at[0][1]
    length = ax * ax + ay * ay
    if not length > 0 or not bx * bx + by * by > 0:
        return None
    return _turned((ax * bx + ay * by) / length, (ax * by - ay * bx) / length, points[0], at[0])


def _turned(c: float, s: float, point: Point, at: Point) -> Affine:
    """Return the turn and scale ((c, -s), (s, c)) that puts a point at a place."""
    x, y = point
    return Affine(c, 0.0 - s, at[0] - c * x + s * y, s, c, at[1] - s * x - c * y)


def affine(points: tuple[Point, ...], at: list[Point]) -> Affine | None:
    """Return the affine map that puts three or more pixels of a graphic on joints, best in least squares.

    None where the joints lie nearly on a line, so that the map would be degenerate.

    Example:
        >>> found = affine(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)), [(3.0, 3.0), (5.0, 3.0), (3.0, 5.0)])
        >>> [round(value, 6) + 0 for value in found]
        [2.0, 0.0, 3.0, 0.0, 2.0, 3.0]
    """
    rows, wide, high = _solver(points)
    values = [sum(weight * place[i] for weight, place in zip(row, at, strict=True)) for i in (0, 1) for row in rows]
    found = Affine(*values)
    # Both stretches of the graphic's own extent: the singular values of a matrix of two rows.
    a, b, c, d = found.xx * wide, found.xy * high, found.yx * wide, found.yy * high
    total, gap = a * a + b * b + c * c + d * d, hypot(a * a + b * b - c * c - d * d, 2 * (a * c + b * d))
    large, small = sqrt((total + gap) / 2), sqrt(max(0.0, total - gap) / 2)
    return found if small > _FLAT * large else None


@lru_cache(maxsize=256)
def _solver(points: tuple[Point, ...]) -> tuple[list[list[float]], float, float]:
    """Return what solves the least squares for these points, and how far they extend."""
    rows = np.column_stack((np.array(points, np.float64), np.ones(len(points))))
    wide, high = np.ptp(rows[:, :2], 0).tolist()
    return np.linalg.pinv(rows).tolist(), wide, high
