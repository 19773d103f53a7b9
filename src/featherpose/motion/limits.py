"""Limits of the view of one camera, stated for the case at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featherpose.motion.angles import Angles
from featherpose.motion.events.jumps import Jump
from featherpose.motion.facing import Facing
from featherpose.motion.sequence import PoseSequence

__all__ = ["limits_of"]


def limits_of(
    one: PoseSequence,
    angles: Angles,
    facing: Facing,
    *,
    has_scale: bool,
    camera_moves: bool | None,
    jumps: Sequence[Jump] = (),
) -> tuple[str, ...]:
    """Return sentences for a report about one person."""
    out = []
    if facing in ("front", "back"):
        out.append(
            f"Seen from the {facing}: the angles show movement to the sides (abduction); bending toward the camera "
            "and away from it cannot be seen, so depth and flexion are too small."
        )
    else:
        out.append(
            "Seen from the side: angles are projections. Movement out of the image plane, such as knees falling "
            "inward, cannot be seen; a camera 20 degrees off the side view makes angles wrong by a few degrees."
        )
    if "left_ankle" not in angles and "right_ankle" not in angles:
        out.append(
            f"The skeleton {one.skeleton.name} has no heel and toe: there is no ankle angle, and foot contact and "
            "release are those of the ankle."
        )
    if not has_scale:
        out.append("Lengths and speeds are in pixels: give the person's height, a known length or a calibration.")
    if camera_moves:
        out.append("The camera moves: lengths and speeds through the image are those of person and camera together.")
    elif camera_moves is None:
        out.append("Whether the camera stood still was not checked.")
    if not all(jump.same_level for jump in jumps):
        out.append(
            "Jumps onto a higher place or down from one have no height by flight time, which holds for a landing at "
            "the level of the takeoff; their flight time and the rise of the hips are measured."
        )
    rate = one.rate_hz
    if rate == rate and rate < 50:
        out.append(
            f"At {rate:.3g} frames a second an event is known to {1000 / rate / np.sqrt(12):.0f} ms (one sigma)."
        )
    missing = 1 - float(one.found.any(0).mean()) if one.num_frames else 0.0
    if missing > 0:
        lacking = [name for k, name in enumerate(one.skeleton.keypoints) if not one.found[:, 0, k].any()]
        out.append(f"Never seen: {', '.join(lacking)}.")
    return tuple(out)
