"""Where a sprite or a text of a scene lies, from the joints of a person."""

from __future__ import annotations

from functools import lru_cache
from math import isfinite

from featherpose.augment.anchors import Affine, Point, affine, similarity, upright
from featherpose.augment.scene import SceneItem

__all__ = ["UP", "place_graphic"]

UP: Point = (0.0, -1.0)


def place_graphic(item: SceneItem, points: list[Point], unit: float, up: Point, size: tuple[int, int]) -> Affine | None:
    """Return the map from pixels of a graphic to pixels of the image; None where it is not to be drawn.

    Args:
        item: What is drawn.
        points: (x, y) of its joints, then of the two joints of `SceneItem.up` if it has them.
        unit: Length of the person's trunk in pixels.
        up: Direction of the image from the person's hips to the head.
        size: (width, height) of the graphic in pixels.

    Example:
        >>> circle = SceneItem(kind="text", text="a", joints=("nose",), size=0.5)
        >>> place_graphic(circle, [(50.0, 20.0)], 100.0, UP, (101, 25))
        Affine(xx=2.0, xy=0.0, x=-50.0, yx=0.0, yy=2.0, y=-4.0)
    """
    n = len(item.joints)
    joints = points[:n]
    anchors, middle = _anchors(item.points or ((0.5, 0.5),) * n, size)
    found: Affine | None
    if n == 1:
        side = size[1] if item.kind == "text" else size[0]
        found = upright(anchors[0], joints[0], item.size * unit / side, _direction(points[n:]))
    elif n == 2:
        found = similarity(anchors, joints)
        # Left and right have changed places if the graphic's top points down along the body.
        if found is not None and item.back != "show" and -up[0] * found.xy - up[1] * found.yy < 0:
            found = None if item.back == "hide" else similarity(anchors[::-1], joints)
    else:
        found = affine(anchors, joints)
        if found is not None and item.back != "show" and found.area < 0:
            found = None if item.back == "hide" else _mirrored(found, size[0])
    if found is None:
        return None
    if n > 1 and item.size != 1:
        found = found.scaled(item.size, middle)
    if item.offset != (0.0, 0.0):
        found = found.shifted(item.offset[0] * unit, item.offset[1] * unit)
    return found


def _direction(ends: list[Point]) -> Point:
    if not ends:
        return UP
    (ax, ay), (bx, by) = ends
    x, y = bx - ax, by - ay
    return (x, y) if isfinite(x + y) and (x or y) else UP


def _mirrored(place: Affine, width: int) -> Affine:
    """Return the map with the graphic's left and right exchanged."""
    far = width - 1.0
    return Affine(-place.xx, place.xy, place.xx * far + place.x, -place.yx, place.yy, place.yx * far + place.y)


@lru_cache(maxsize=1024)
def _anchors(points: tuple[Point, ...], size: tuple[int, int]) -> tuple[tuple[Point, ...], Point]:
    """Points of a graphic that lie on joints, and their middle, in its pixels."""
    anchors = tuple((x * size[0] - 0.5, y * size[1] - 0.5) for x, y in points)
    middle = sum(x for x, _ in anchors) / len(anchors), sum(y for _, y in anchors) / len(anchors)
    return anchors, middle
