"""Guess of the exercise from posture and from which joints move most."""

from __future__ import annotations

import numpy as np

from featherpose.motion.angles import Angles, folded
from featherpose.motion.facing import Facing

__all__ = ["guess_exercise"]

_MIN_RANGE_DEG = 40.0


def guess_exercise(angles: Angles, facing: Facing, person: int = 0) -> str | None:
    """Return a name of `featherpose.motion.events.exercise_rules.EXERCISES`, or None if no joint moves enough.

    A trunk that is nearly level with bending elbows is a push-up; arms that go overhead and down face on are a
    jumping jack; otherwise, seen from the side, the larger of the knees' and elbows' movement decides between squat and
    curl. It is a guess, and a report states that.

    Example:
        >>> times = np.arange(0, 6, 0.02)
        >>> knee = 50 - 50 * np.cos(np.pi * times)
        >>> values = np.stack([knee, 0 * knee + 90], -1)[:, None]
        >>> guess_exercise(Angles(values, ("left_knee", "trunk"), times, (0,), np.zeros((300, 1), int)), "right")
        'squat'
    """
    knee, elbow = (_range(angles, part, person) for part in ("knee", "elbow"))
    shoulder = _range(angles, "shoulder", person)
    lean = angles["trunk_lean"][:, person] if "trunk_lean" in angles else np.zeros(1)
    lean = lean[np.isfinite(lean)]
    level = len(lean) > 0 and float(np.median(np.abs(lean))) > 50
    if level and elbow >= _MIN_RANGE_DEG:
        return "push-up"
    if facing in ("front", "back") and shoulder >= 80:
        return "jumping-jack"
    if facing in ("front", "back") or max(knee, elbow) < _MIN_RANGE_DEG:
        return None
    return "squat" if knee >= elbow or knee >= 60 else "curl"


def _range(angles: Angles, part: str, person: int) -> float:
    """Return the larger side's range, without the extreme tenths."""
    out = 0.0
    for side in ("left", "right"):
        if f"{side}_{part}" in angles:
            values = folded(angles[f"{side}_{part}"][:, person])
            values = values[np.isfinite(values)]
            if len(values) >= 5:
                low, high = np.percentile(values, [5, 95])
                out = max(out, float(high - low))
    return out
