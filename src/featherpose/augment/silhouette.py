"""Where a person's body is, from the keypoints alone: what covers graphics that lie behind it.

Limbs, head, neck and the edge of the trunk are capsules, the trunk a polygon. The compiled kernel fills rows; it is
held to `silhouette_slowly`, which asks every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from featherpose.augment.bodies import HEAD_OF_TRUNK, HEAD_POINTS, named_points
from featherpose.augment.coverage import capsules_slowly
from featherpose.jit import kernel
from featherpose.skeleton import Skeleton

__all__ = ["Silhouette", "body_shape", "cover_silhouette", "silhouette_slowly"]

# Widths for a trunk of 1.
_LIMBS = (
    ("shoulder", "elbow", 0.22), ("elbow", "wrist", 0.18), ("hip", "knee", 0.34), ("knee", "ankle", 0.24),
)  # fmt: skip
_CORNERS = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
_EDGE, _NECK = 0.12, 0.25
_FAR = 1e9
_HEAD_WIDTH, _HEAD_HEIGHT = 0.85 * HEAD_OF_TRUNK, 1.1 * HEAD_OF_TRUNK

_Parts = tuple[
    Int64[np.ndarray, "n 4"], Float64[np.ndarray, " n"], Int64[np.ndarray, "m 2"], Int64[np.ndarray, "f 2"],
    Int64[np.ndarray, "k 2"],
]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Silhouette:
    """A person's outline.

    Attributes:
        points: float64[K, 2], NaN where missing.
        unit: Length of the trunk in pixels.
        skeleton: What the points are.

    Example:
        >>> from featherpose.skeleton import LSP_14
        >>> points = np.full((14, 2), np.nan)
        >>> points[[LSP_14.index("left_hip"), LSP_14.index("left_knee")]] = ((40, 20), (40, 80))
        >>> Silhouette(points, 50.0, LSP_14).mask((20, 50, 60, 52))[0, [0, 12, 20, 28, 39]].tolist()
        [0, 255, 255, 255, 0]
    """

    points: Float64[np.ndarray, "K 2"]
    unit: float
    skeleton: Skeleton

    def mask(self, window: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w"]:
        """Return uint8[h, w], 255 on the body, of a part of the image: left, top, right and bottom, exclusive."""
        mask = np.zeros((window[3] - window[1], window[2] - window[0]), np.uint8)
        _cover_body(mask, self.points, self.unit, window[0], window[1], *_parts(self.skeleton))
        return mask


@lru_cache(maxsize=64)
def _parts(skeleton: Skeleton) -> _Parts:
    """Rows of a skeleton's keypoints: ends of limbs with their widths, corners of the trunk, the face, and the neck.

    An end or a corner is the middle of two keypoints, or of one with itself.
    """
    names = {name: (ends[0], ends[-1]) for name, ends in named_points(skeleton).items()}
    limbs = [
        (*names[a], *names[b], width)
        for side in ("left", "right")
        for near, far, width in _LIMBS
        if (a := f"{side}_{near}") in names and (b := f"{side}_{far}") in names
    ]
    ends = np.array([limb[:4] for limb in limbs], np.int64).reshape(-1, 4)

    def rows(*wanted: str) -> Int64[np.ndarray, "n 2"]:
        return np.array([names[name] for name in wanted if name in names], np.int64).reshape(-1, 2)

    widths = np.array([limb[4] for limb in limbs], np.float64)
    return ends, widths, rows(*_CORNERS), rows(*HEAD_POINTS), rows("neck")


@kernel
def _middle(points, first, second, left, top):  # type: ignore[no-untyped-def]
    return (points[first, 0] + points[second, 0]) / 2 - left, (points[first, 1] + points[second, 1]) / 2 - top


@kernel
def _put(capsules, n, ax, ay, bx, by, radius):  # type: ignore[no-untyped-def]
    capsules[n, 0], capsules[n, 1], capsules[n, 2], capsules[n, 3], capsules[n, 4] = ax, ay, bx, by, radius
    return n + 1


@kernel
def body_shape(points, unit, left, top, limbs, widths, corners, face, neck):  # type: ignore[no-untyped-def]
    """Return the capsules and the trunk's corners of a body as `cover_silhouette` takes them.

    ``points`` float64[K, 2], NaN where missing; ``left`` and ``top`` become (0, 0); the others are those of `_parts`.
    """
    capsules = np.empty((len(limbs) + len(corners) + 2, 5))
    n = 0
    for i in range(len(limbs)):
        ax, ay = _middle(points, limbs[i, 0], limbs[i, 1], left, top)
        bx, by = _middle(points, limbs[i, 2], limbs[i, 3], left, top)
        if np.isfinite(ax + bx):
            n = _put(capsules, n, ax, ay, bx, by, max(1.0, widths[i] * unit) / 2)
    trunk = np.empty((len(corners), 2))
    m = 0
    for i in range(len(corners)):
        x, y = _middle(points, corners[i, 0], corners[i, 1], left, top)
        if np.isfinite(x):
            trunk[m, 0], trunk[m, 1] = x, y
            m += 1
    m = m if m >= 3 else 0
    for i in range(m):
        j = (i + 1) % m
        n = _put(capsules, n, trunk[i, 0], trunk[i, 1], trunk[j, 0], trunk[j, 1], max(1.0, _EDGE * unit) / 2)
    sum_x, sum_y, seen = 0.0, 0.0, 0
    for i in range(len(face)):
        x, y = _middle(points, face[i, 0], face[i, 1], left, top)
        if np.isfinite(x):
            sum_x, sum_y, seen = sum_x + x, sum_y + y, seen + 1
    if seen > 0:
        x, y, half = sum_x / seen, sum_y / seen, (_HEAD_HEIGHT - _HEAD_WIDTH) / 2 * unit
        n = _put(capsules, n, x, y - half, x, y + half, _HEAD_WIDTH / 2 * unit)
        for i in range(len(neck)):
            bx, by = _middle(points, neck[i, 0], neck[i, 1], left, top)
            if np.isfinite(bx):
                n = _put(capsules, n, x, y, bx, by, max(1.0, _NECK * unit) / 2)
    return capsules[:n], trunk[:m]


@kernel
def _capsule_row(length, ux, uy, slope_x, slope_y, radius, down):  # type: ignore[no-untyped-def]
    """First and last x of a row within a capsule, which is convex: those of its two discs and of what joins them.

    The capsule begins at (0, 0), ``down`` rows above, and extends over a length in the direction (ux, uy), of which the
    slopes are the reciprocals.
    """
    first, last = _FAR, -_FAR
    if radius <= 0.0:
        return first, last
    left = radius * radius - down * down
    if left >= 0.0:
        half = np.sqrt(left)
        first, last = -half, half
    left = radius * radius - (down - length * uy) ** 2
    if left >= 0.0:
        half, x = np.sqrt(left), length * ux
        first, last = min(first, x - half), max(last, x + half)
    # 0 <= along <= length and -radius <= across <= radius, each a part of the row.
    along, across = -down * uy * slope_x, down * ux * slope_y
    wide, thick = length * slope_x, radius * abs(slope_y)
    low, high = max(min(along, along + wide), across - thick), min(max(along, along + wide), across + thick)
    if low <= high:
        first, last = min(first, low), max(last, high)
    return first, last


@kernel
def cover_silhouette(mask, capsules, trunk):  # type: ignore[no-untyped-def]
    """Put capsules and a polygon into a mask uint8[h, w], in place.

    ``capsules`` float64[n, 5], rows of (x, y, x, y, radius) in its pixels; ``trunk`` float64[m, 2], its corners.
    """
    height, width = mask.shape
    for i in range(len(capsules)):
        ax, ay, bx, by = capsules[i, 0], capsules[i, 1], capsules[i, 2], capsules[i, 3]
        radius = capsules[i, 4]
        if max(ax, bx) + radius < -1.0 or min(ax, bx) - radius > width:
            continue
        length = np.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
        ux, uy = ((bx - ax) / length, (by - ay) / length) if length > 0.0 else (1.0, 0.0)
        slope_x, slope_y = 1.0 / ux if abs(ux) > 1e-9 else _FAR, 1.0 / uy if abs(uy) > 1e-9 else _FAR
        top, bottom = max(0.0, min(ay, by) - radius - 0.5), min(height - 1.0, max(ay, by) + radius + 0.5)
        for y in range(int(np.ceil(top)), int(np.floor(bottom)) + 1):
            low, high = _capsule_row(length, ux, uy, slope_x, slope_y, radius + 0.5, y - ay)
            x, last = int(np.ceil(max(0.0, ax + low))), int(np.floor(min(width - 1.0, ax + high)))
            if x > last:
                continue
            low, high = _capsule_row(length, ux, uy, slope_x, slope_y, radius - 0.5, y - ay)
            full, full_end = int(np.ceil(max(0.0, ax + low))), int(np.floor(min(width - 1.0, ax + high)))
            while x <= last:
                if full <= x <= full_end:
                    for inner in range(x, full_end + 1):
                        mask[y, inner] = 255
                    x = full_end + 1
                    continue
                px, py = x - ax, y - ay
                along = min(length, max(0.0, px * ux + py * uy))
                px, py = px - along * ux, py - along * uy
                away = np.sqrt(px * px + py * py)
                value = np.uint8(255.0 * min(1.0, max(0.0, radius + 0.5 - away)) + 0.5)
                if value > mask[y, x]:
                    mask[y, x] = value
                x += 1
    n = len(trunk)
    if n == 0:
        return
    crossings = np.empty(n)
    for y in range(height):
        count = 0
        for i in range(n):
            j = (i + 1) % n
            x0, y0, x1, y1 = trunk[i, 0], trunk[i, 1], trunk[j, 0], trunk[j, 1]
            if (y0 <= y) != (y1 <= y):
                # In order of x: every second part between two edges lies inside.
                at, place = x0 + (y - y0) * (x1 - x0) / (y1 - y0), count
                while place > 0 and crossings[place - 1] > at:
                    crossings[place] = crossings[place - 1]
                    place -= 1
                crossings[place] = at
                count += 1
        for i in range(0, count - 1, 2):
            low, high = max(0.0, np.ceil(crossings[i])), min(width - 1.0, np.floor(crossings[i + 1]))
            for x in range(int(low), int(high) + 1):
                mask[y, x] = 255


@kernel
def _cover_body(mask, points, unit, left, top, limbs, widths, corners, face, neck):  # type: ignore[no-untyped-def]
    capsules, trunk = body_shape(points, unit, left, top, limbs, widths, corners, face, neck)
    cover_silhouette(mask, capsules, trunk)


def silhouette_slowly(
    shape: tuple[int, int], capsules: Float64[np.ndarray, "n 5"], trunk: Float64[np.ndarray, "m 2"]
) -> np.ndarray:
    """Return what `cover_silhouette` puts into an empty mask, by the definitions, as float64[h, w]."""
    out = np.zeros(shape)
    for *ends, radius in capsules:
        capsule = capsules_slowly(shape, np.reshape(ends, (2, 2)), np.array([radius]), np.array([255.0]))
        out = np.maximum(out, capsule)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(trunk, np.roll(trunk, -1, 0), strict=True):
        if y0 != y1:
            inside ^= ((y0 <= y) != (y1 <= y)) & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x)
    return np.where(inside, 255.0, out)
