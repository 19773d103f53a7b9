"""What lies before what: the order in which the layers of a puppet are drawn, from the source's pose."""

from __future__ import annotations

import numpy as np

__all__ = ["draw_order"]

# Shoulders nearer together than this part of the trunk: seen from the side.
_NARROW = 0.28


def draw_order(pose: dict[str, np.ndarray], turned: bool = False) -> list[str]:
    """Return the layers from back to front.

    From the front arms lie before the trunk, from the back behind it. From the side the far arm and leg lie behind:
    whoever faces right shows the right side.

    Args:
        pose: Name -> (x, y) in pixels.
        turned: Whether the person shows the back; the puppet's left arm then plays the right one.

    Example:
        >>> side = {"neck": (50, 50), "mid_hip": (50, 100), "nose": (60, 30)}
        >>> side |= {"left_shoulder": (49, 50), "right_shoulder": (51, 50)}
        >>> draw_order({name: np.array(at) for name, at in side.items()})
        ['left_arm', 'left_leg', 'right_leg', 'trunk', 'head', 'right_arm']
    """
    legs, arms = ["left_leg", "right_leg"], ["left_arm", "right_arm"]
    far = _far_side(pose)
    if far is not None:
        if turned:
            far = "right" if far == "left" else "left"
        near = "right" if far == "left" else "left"
        return [f"{far}_arm", f"{far}_leg", f"{near}_leg", "trunk", "head", f"{near}_arm"]
    if turned:
        return [*arms, *legs, "trunk", "head"]
    return [*legs, "trunk", "head", *arms]


def _far_side(pose: dict[str, np.ndarray]) -> str | None:
    """Return the side away from the camera, None in a view from front or back."""
    needed = ("neck", "mid_hip", "left_shoulder", "right_shoulder", "nose")
    if any(name not in pose for name in needed):
        return None
    trunk = float(np.hypot(*(pose["mid_hip"] - pose["neck"])))
    across = float(np.hypot(*(pose["left_shoulder"] - pose["right_shoulder"])))
    if across > _NARROW * trunk:
        return None
    return "left" if pose["nose"][0] > pose["neck"][0] else "right"
