"""Direction that a person faces in the image: right, left, toward the camera or away from it.

Flexion has a sign only if the front of the body is known. The cues - feet, head, knees, elbows - are measured along the
body's own axis (from the hips to the neck), so they also hold for a person who lies or hangs.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy.ndimage import uniform_filter1d

from featherpose.errors import OptionError
from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.medians import known_median
from featherpose.motion.sequence import PoseSequence

__all__ = ["FACINGS", "Facing", "facing_of", "facing_over_time", "view_width"]

Facing = Literal["right", "left", "front", "back"]
FACINGS: tuple[Facing, ...] = ("right", "left", "front", "back")
"""The front of the body points to the right of the image, to its left, to the camera, away from it."""

# Shoulders and hips of a person in exact side view coincide; face on, the shoulders are about 0.7 trunk lengths apart
# (biacromial breadth 0.23 of the stature, shoulder to hip 0.29: Drillis & Contini 1966). Half of that is 30 degrees
# from the side view.
_FRONT_WIDTH = 0.35
_TURN_S = 1.0


def facing_of(sequence: PoseSequence) -> list[Facing]:
    """Return one direction a person for the whole sequence.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.full((3, 17, 2), np.nan)
        >>> points[:, [5, 6]], points[:, [11, 12]] = (50, 20), (50, 70)  # shoulders, hips
        >>> points[:, 0], points[:, [3, 4]] = (58, 5), (50, 4)  # nose, ears
        >>> facing_of(PoseSequence.from_arrays(points, np.arange(3.0), COCO_17))
        ['right']
    """
    return _whole(_forward(sequence), view_width(sequence))


def _whole(signs: np.ndarray, widths: np.ndarray) -> list[Facing]:
    answer: list[Facing] = []
    for p in range(signs.shape[1]):
        width, sign = known_median(widths[:, p], otherwise=0.0), float(signs[:, p].sum())
        if abs(width) >= _FRONT_WIDTH:
            answer.append("front" if width > 0 else "back")
        else:
            answer.append("left" if sign < 0 else "right")
    return answer


def facing_over_time(sequence: PoseSequence, given: Facing | None = None) -> np.ndarray:
    """Return int64[T, P], index into `FACINGS`: in each frame, so that a person who turns round keeps correct signs.

    The cues are averaged over a second, so a single wrong frame has no effect; a person who is seen from the front or
    back for most of the time counts so throughout, because the frames between are not a side view either.

    Args:
        sequence: Poses over time.
        given: What is known from elsewhere; then it is not detected.

    Raises:
        OptionError: If ``given`` is none of the four.
    """
    t, p = sequence.num_frames, sequence.num_people
    if given is not None:
        if given not in get_args(Facing):
            raise OptionError(f"facing {given!r}", expected=", ".join(FACINGS))
        return np.full((t, p), FACINGS.index(given))
    signs = _forward(sequence)
    whole = _whole(signs, view_width(sequence))
    out = np.empty((t, p), np.int64)
    rate = sequence.rate_hz if t > 1 else 1.0
    window = max(1, min(t, round(_TURN_S * rate)))
    for person in range(p):
        if whole[person] in ("front", "back"):
            out[:, person] = FACINGS.index(whole[person])
            continue
        smooth = uniform_filter1d(np.nan_to_num(signs[:, person]), window, mode="nearest")
        sign = np.where(smooth < 0, -1, 1)
        sign[smooth == 0] = -1 if whole[person] == "left" else 1
        out[:, person] = np.where(_without_short(sign, window) < 0, FACINGS.index("left"), FACINGS.index("right"))
    return out


def _without_short(sign: np.ndarray, least: int) -> np.ndarray:
    """Replace runs shorter than ``least`` by the sign of the longer neighbor: turning back at once is not a turn."""
    sign = sign.copy()
    while True:
        cuts = np.flatnonzero(np.diff(sign)) + 1
        runs = np.split(np.arange(len(sign)), cuts)
        short = [i for i, run in enumerate(runs) if len(run) < least]
        if len(runs) == 1 or not short:
            return sign
        i = min(short, key=lambda j: len(runs[j]))
        sign[runs[i]] *= -1


def view_width(sequence: PoseSequence) -> np.ndarray:
    """Return float64[T, P]: breadth of shoulders and hips across the body, in trunk lengths; positive when face on."""
    names = ["left_shoulder", "right_shoulder", "left_hip", "right_hip", "neck", "mid_hip"]
    points = body_points(sequence, names)
    if not all(name in points for name in names):
        return np.zeros((sequence.num_frames, sequence.num_people))
    up, length = _axis(points["mid_hip"], points["neck"])
    right = _across(up, _y_sign(sequence))
    shoulders = _dot(points["left_shoulder"] - points["right_shoulder"], right)
    hips = _dot(points["left_hip"] - points["right_hip"], right)
    # Hips are about 0.6 as broad as shoulders.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((shoulders + hips) / (1.6 * length))


def _y_sign(sequence: PoseSequence) -> float:
    """Return 1 where y points down (pixels), -1 where it points up (meters)."""
    return 1.0 if sequence.unit == "px" else -1.0


def _axis(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vector = high - low
    length = np.hypot(vector[..., 0], vector[..., 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return vector / length[..., None], length


def _across(along: np.ndarray, flip: float) -> np.ndarray:
    """Return unit vectors [..., 2] at a right angle."""
    return np.moveaxis(np.stack([-flip * along[..., 1], flip * along[..., 0]]), 0, -1)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1])  # quicker than a sum over an axis of two


def _forward(sequence: PoseSequence) -> np.ndarray:
    """Return float64[T, P]: where the front is, positive to the right of the upright body; NaN where unknown."""
    sides = [f"{side}_{part}" for side in ("left", "right") for part in
             ("heel", "big_toe", "hip", "knee", "ankle", "shoulder", "elbow", "wrist")]  # fmt: skip
    points = body_points(sequence, ["neck", "mid_hip", "nose", "mid_ear", "left_ear", "right_ear", *sides])
    shape = (sequence.num_frames, sequence.num_people)
    total = np.zeros(shape)
    if "neck" not in points or "mid_hip" not in points:
        return total
    up, length = _axis(points["mid_hip"], points["neck"])
    flip = _y_sign(sequence)
    right = _across(up, flip)

    def add(vector: np.ndarray, weight: float, across: np.ndarray = right, unit: np.ndarray = length) -> None:
        with np.errstate(invalid="ignore", divide="ignore"):
            cue = _dot(vector, across) / unit
        total[...] += weight * np.nan_to_num(np.clip(cue, -0.5, 0.5))

    if "nose" in points:
        for ear in ("left_ear", "right_ear"):
            if ear in points:
                add(points["nose"] - points[ear], 1.0)
        add(points["nose"] - points["neck"], 0.5)
    for side in ("left", "right"):
        if f"{side}_big_toe" in points and f"{side}_heel" in points:
            add(points[f"{side}_big_toe"] - points[f"{side}_heel"], 2.0)
        # Knees bend forward, elbows backward.
        for ends, weight in ((("hip", "knee", "ankle"), 1.0), (("shoulder", "elbow", "wrist"), -0.5)):
            names = [f"{side}_{part}" for part in ends]
            if all(name in points for name in names):
                high, middle, low = (points[name] for name in names)
                limb, reach = _axis(low, high)
                add(middle - (high + low) / 2, weight, _across(limb, flip), reach)
    return total
