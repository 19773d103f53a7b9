"""Colors of skeletons and people, BGR: left is cool, right is warm, and neighbors differ.

Two people facing the camera and walking away look alike as stick figures; the sides' colors tell them apart.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

from featherpose.skeleton import Skeleton

__all__ = ["Color", "limb_colors", "person_color", "text_color"]

Color = tuple[int, int, int]

_NEUTRAL: Color = (238, 238, 238)
# RGB, from the trunk outwards.
_RIGHT_ARM = ((255, 176, 59), (255, 143, 48), (255, 107, 44))
_LEFT_ARM = ((64, 200, 255), (52, 165, 255), (74, 130, 255))
_RIGHT_LEG = ((226, 222, 60), (160, 220, 70), (84, 208, 104))
_LEFT_LEG = ((128, 132, 255), (164, 112, 255), (206, 98, 250))
_HEAD = ((255, 92, 132), (255, 122, 160), (255, 154, 186))

# Part of the body without its side -> (limb, how far out on it).
_PARTS = {
    "shoulder": ("arm", 0),
    "elbow": ("arm", 1),
    "wrist": ("arm", 2),
    "hip": ("leg", 0),
    "knee": ("leg", 1),
    "ankle": ("leg", 2),
    "big_toe": ("leg", 2),
    "small_toe": ("leg", 2),
    "heel": ("leg", 2),
    "nose": ("head", 0),
    "head_top": ("head", 0),
    "eye": ("head", 1),
    "ear": ("head", 2),
}
_CHAINS = {
    ("arm", "right"): _RIGHT_ARM,
    ("arm", "left"): _LEFT_ARM,
    ("leg", "right"): _RIGHT_LEG,
    ("leg", "left"): _LEFT_LEG,
}


@lru_cache(maxsize=32)
def limb_colors(skeleton: Skeleton) -> tuple[Color, ...]:
    """Return one color for each limb of a skeleton: known body parts by side, others around the color wheel.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> len(limb_colors(COCO_17))
        19
    """
    return tuple(_of_limb(skeleton, a, b, i) for i, (a, b) in enumerate(skeleton.limbs))


def _of_limb(skeleton: Skeleton, a: int, b: int, index: int) -> Color:
    ends = [_place(skeleton.keypoints[k]) for k in (a, b)]
    known = [end for end in ends if end is not None]
    if not known:
        names = {skeleton.keypoints[a], skeleton.keypoints[b]}
        return _NEUTRAL if names <= {"neck", "mid_hip"} else person_color(index)
    if len(known) == 2 and known[0][:2] == known[1][:2] and known[0][2] != known[1][2]:
        return _NEUTRAL  # across the body, from one side to the other
    # The end further out owns the limb; a leg outranks an arm, so that the trunk's sides belong to the hips.
    part, out, side = max(known, key=lambda place: (place[0] == "leg", place[1]))
    red, green, blue = _CHAINS.get((part, side), _HEAD)[out]
    return blue, green, red


def _place(keypoint: str) -> tuple[str, int, str] | None:
    side, _, part = keypoint.partition("_")
    if side not in ("left", "right"):
        side, part = "", keypoint
    return (*_PARTS[part], side) if part in _PARTS else None


@lru_cache(maxsize=1024)
def person_color(number: int) -> Color:
    """Return a bright color for a person or track; the golden ratio keeps consecutive numbers far apart on the wheel.

    Example:
        >>> person_color(0) != person_color(1)
        True
    """
    red, green, blue = colorsys.hsv_to_rgb((0.08 + number * 0.618034) % 1.0, 0.68, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def text_color(background: Color) -> Color:
    """Return black or white, whichever is more readable on a background (ITU-R BT.601 luma)."""
    blue, green, red = background
    return (20, 20, 20) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)
