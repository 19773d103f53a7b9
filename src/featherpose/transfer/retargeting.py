"""Retargeting: the directions of the source's limbs with the lengths and the place of the target's body.

The idea is the pose normalization of "Everybody Dance Now" (Chan et al. 2019, arXiv 1808.07371, section 3.4), which
scales and shifts whole poses by heights and ankle lines; here each limb is scaled for itself, so that arms of another
length still end where they point to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter1d

from featherpose.errors import SourceError
from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.gaps import fill_gaps
from featherpose.motion.sequence import PoseSequence, Step

__all__ = ["BONES", "Body", "retarget"]

BONES: dict[str, str] = {
    "neck": "mid_hip",
    "nose": "neck",
    **{
        f"{side}_{child}": parent.format(side=side)
        for child, parent in (
            ("eye", "nose"), ("ear", "{side}_eye"), ("shoulder", "neck"), ("elbow", "{side}_shoulder"),
            ("wrist", "{side}_elbow"), ("hip", "mid_hip"), ("knee", "{side}_hip"), ("ankle", "{side}_knee"),
            ("big_toe", "{side}_ankle"), ("small_toe", "{side}_ankle"), ("heel", "{side}_ankle"),
        )
        for side in ("left", "right")
    },
    "head_top": "neck",
}  # fmt: skip
"""Joint -> the joint that carries it; ``mid_hip`` carries everything."""

_LONG = 0.85  # quantile of a limb's length over time: nearly as long as it is, and no outlier of the keypoints
_LEAST_FRAMES = 1
_DEPTH_S = 0.6  # half of the window over which size and floor are judged
_ODD = 1.25  # no bone is taken for so much longer or shorter than the body's size says
_FLOOR_CHANGE = 1 / 15


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Proportions and place of a person.

    Attributes:
        lengths: Joint -> length of the bone that carries it (`BONES`), pixels, without foreshortening.
        root: (x, y) of the middle of the hips, pixels, in the middle of the movement.
        floor_y: Where the feet stand, pixels.
        stature: Distance from the nose (or neck) to the feet when the person stands, pixels; NaN if they are never
            seen together.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (5, 17, 2))
        >>> body = Body.of(PoseSequence.from_arrays(points, np.arange(5.0), COCO_17))
        >>> sorted(body.lengths)[:3]
        ['left_ankle', 'left_ear', 'left_elbow']
    """

    lengths: dict[str, float]
    root: tuple[float, float]
    floor_y: float
    stature: float = float("nan")

    @classmethod
    def of(cls, sequence: PoseSequence, person: int = 0) -> Body:
        """Measure a person.

        Args:
            sequence: One frame or many, in pixels.
            person: Place of the person.

        Raises:
            SourceError: If shoulders and hips are never seen.
        """
        points = _points(sequence, person)
        if "neck" not in points or "mid_hip" not in points:
            raise SourceError("shoulders and hips are never seen", hint="choose a picture that shows the whole body")
        lengths = {}
        for child, parent in BONES.items():
            if child in points and parent in points:
                distances = np.hypot(*(points[child] - points[parent]).T)
                known = distances[np.isfinite(distances)]
                if len(known) >= _LEAST_FRAMES and float(np.quantile(known, _LONG)) > 0:
                    lengths[child] = float(np.quantile(known, _LONG))
        root = np.nanmedian(points["mid_hip"], 0)
        if "neck" not in lengths or not np.isfinite(root).all():
            raise SourceError(
                "shoulders and hips are never seen together", hint="choose a picture that shows the whole body"
            )
        feet = [points[name][:, 1] for name in ("left_ankle", "right_ankle") if name in points]
        known = np.concatenate(feet) if feet else np.empty(0)
        known = known[np.isfinite(known)]
        legs = sum(np.mean([lengths.get(f"{side}_{part}", 0.0) for side in ("left", "right")])
                   for part in ("knee", "ankle"))  # fmt: skip
        floor = float(np.quantile(known, 0.9)) if len(known) else float(root[1] + (legs or 1.8 * lengths["neck"]))
        return cls(lengths, (float(root[0]), float(root[1])), floor, _usual(_stature(points)))

    @property
    def height_px(self) -> float:
        """Return the length of trunk and legs, used as the height when two bodies are compared."""
        legs = [self.lengths.get(f"{side}_{part}", 0.0) for part in ("knee", "ankle") for side in ("left", "right")]
        mean = sum(legs) / 2
        return self.lengths["neck"] + (mean or 1.9 * self.lengths["neck"])


def retarget(
    sequence: PoseSequence, target: Body, *, source: Body | None = None, person: int = 0, max_gap_s: float = 0.5
) -> PoseSequence:
    """Put one person's movement on another body.

    Each bone keeps its direction and its foreshortening, and takes the target's length, as far as it differs from what
    the ratio of the statures says by no more than a quarter: more is a bone that one of both never shows in full. The
    lower foot is as high over the target's floor as the source's over its own, scaled by the ratio of the statures;
    sideways the hips move around the place where the target stands. A source who comes nearer or goes away stays at
    the target's distance. Joints that are missing for up to ``max_gap_s`` seconds are interpolated; where they are
    missing for longer they stay missing.

    Args:
        sequence: The source, in pixels.
        target: Whose body.
        source: The source's own proportions; measured over the sequence unless given.
        person: Place of the person.
        max_gap_s: Longest gap that is filled, seconds.

    Returns:
        The one person, in the target's pixels.

    Raises:
        SourceError: If the source never shows shoulders and hips.

    Example:
        >>> from featherpose.evaluation.motion.known_people import squatting
        >>> squats = squatting(1).sequence
        >>> body = Body.of(squats)
        >>> same = retarget(squats, body, max_gap_s=0)
        >>> bool(np.nanmax(np.abs(same.keypoints - squats.keypoints)) < 1e-6)
        True
    """
    one = sequence.select([person])
    if max_gap_s > 0 and one.num_frames > 2:
        one = fill_gaps(one, max_gap_s, "linear")
    points = _points(one, 0)
    measured = Body.of(one)
    nearness, floor_y = _depth(points, measured.floor_y, one.rate_hz)
    if source is None:
        lengths = {child: _usual(_distance(points, child) / nearness) for child in measured.lengths}
        source = replace(measured, lengths=lengths, stature=_usual(_stature(points) / nearness))
    scale = target.stature / source.stature
    if not np.isfinite(scale):
        scale = target.height_px / source.height_px
    moved = {
        "mid_hip": np.stack(
            (
                target.root[0] + scale * (points["mid_hip"][:, 0] - source.root[0]),
                target.floor_y + scale / nearness * (points["mid_hip"][:, 1] - floor_y),
            ),
            -1,
        )
    }
    for child, parent in BONES.items():
        if child not in points or parent not in moved:
            continue
        ratio = scale
        if child in target.lengths and child in source.lengths:
            ratio = float(np.clip(target.lengths[child] / source.lengths[child], scale / _ODD, scale * _ODD))
        moved[child] = moved[parent] + (ratio / nearness)[:, None] * (points[child] - points[parent])
    lift = _lift(points, moved, scale / nearness, floor_y, target.floor_y)
    keypoints = np.full_like(one.keypoints, np.nan)
    for k, name in enumerate(one.skeleton.keypoints):
        if name in moved:
            keypoints[:, 0, k] = moved[name] + lift
    changed = int(np.isfinite(keypoints[..., 0]).sum())
    step = Step(
        "retarget", {"scale": round(scale, 6), "max_gap_s": max_gap_s}, changed, f"retargeted, scale {scale:.3f}"
    )
    return one.changed(keypoints, step)


def _lift(
    points: dict[str, Float64[np.ndarray, "T 2"]], moved: dict[str, Float64[np.ndarray, "T 2"]],
    scale: Float64[np.ndarray, " T"], floor_y: Float64[np.ndarray, " T"], target_floor_y: float,
) -> Float64[np.ndarray, "T 2"]:  # fmt: skip
    """Shift that puts the lower foot as high over the target's floor as the source's is over its own."""
    names = [name for name in ("left_ankle", "right_ankle") if name in moved and name in points]
    lift = np.zeros((len(floor_y), 2))
    if not names:
        return lift
    here = np.fmax.reduce([points[name][:, 1] for name in names])
    there = np.fmax.reduce([moved[name][:, 1] for name in names])
    wanted = target_floor_y - scale * (floor_y - here) - there
    known = np.isfinite(wanted)
    if known.any():
        rows = np.arange(len(wanted))
        lift[:, 1] = np.interp(rows, rows[known], wanted[known])
    return lift


def _depth(
    points: dict[str, Float64[np.ndarray, "T 2"]], floor_y: float, rate_hz: float
) -> tuple[Float64[np.ndarray, " T"], Float64[np.ndarray, " T"]]:
    """How near the source is to the camera in each frame, as size over usual size, and where the feet stand then.

    As in section 3.4 of the paper the size follows from where the feet are: a line is fitted to the largest sizes seen
    at each height of the feet. Both are 1 and the floor of the whole sequence unless the feet move by a fifteenth of
    the body: for a person who walks neither to the camera nor away nothing is lost by noise.
    """
    frames = len(points["mid_hip"])
    nearness, constant = np.ones(frames), np.full(frames, floor_y)
    window = round(_DEPTH_S * rate_hz) if np.isfinite(rate_hz) else 0
    feet = [points[name][:, 1] for name in ("left_ankle", "right_ankle") if name in points]
    if window < 3 or frames < 4 * window or not feet:
        return nearness, constant
    size = _stature(points)
    lowest = np.fmax.reduce(feet)
    floors = np.full(frames, np.nan)
    for t in range(frames):
        part_ = lowest[max(0, t - window) : t + window + 1]
        floors[t] = np.nanquantile(part_, 0.9) if np.isfinite(part_).any() else np.nan
    rows, known = np.arange(frames), np.isfinite(floors)
    floors = gaussian_filter1d(np.interp(rows, rows[known], floors[known]), window / 3)
    good = np.isfinite(size)
    if good.sum() < 20 or np.ptp(floors[good]) < _FLOOR_CHANGE * np.quantile(size[good], _LONG):
        return nearness, constant
    edges = np.quantile(floors[good], np.linspace(0, 1, 6))
    middles, largest = [], []
    for low, high in pairwise(edges):
        inside = good & (floors >= low) & (floors <= high)
        middles.append(float(floors[inside].mean()))
        largest.append(float(np.quantile(size[inside], 0.9)))
    slope, start = np.polyfit(middles, largest, 1)
    if not slope > 0:
        return nearness, constant
    fitted = start + slope * floors
    return np.clip(fitted / (start + slope * np.median(floors)), 0.4, 2.5), floors


def _stature(points: dict[str, Float64[np.ndarray, "T 2"]]) -> Float64[np.ndarray, " T"]:
    """From the nose to the farther ankle."""
    top = points.get("nose", points["neck"])
    feet = [points[name] for name in ("left_ankle", "right_ankle") if name in points]
    if not feet:
        return np.full(len(top), np.nan)
    return np.asarray(np.fmax.reduce([np.hypot(*(top - foot).T) for foot in feet]))


def _usual(values: Float64[np.ndarray, " T"]) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, _LONG)) if len(known) else float("nan")


def _distance(points: dict[str, Float64[np.ndarray, "T 2"]], child: str) -> Float64[np.ndarray, " T"]:
    if child not in points or BONES[child] not in points:
        return np.full(len(points["mid_hip"]), np.nan)
    return np.asarray(np.hypot(*(points[child] - points[BONES[child]]).T))


def _points(sequence: PoseSequence, person: int) -> dict[str, Float64[np.ndarray, "T 2"]]:
    found = body_points(sequence, [*BONES, "mid_hip"])
    return {name: value[:, person] for name, value in found.items() if np.isfinite(value[:, person]).any()}
