"""Steps of walking and running: foot contact and release from the feet's position relative to the pelvis.

Contact is where a foot is farthest in front of the middle of the hips, release where it is farthest behind: the
coordinate method of Zeni, Richards & Higginson (Gait & Posture 2008), which needs no force plate and works overground
and on a treadmill. With heel and toe keypoints the heel gives contact and the toe release, as published
(``heel_toe``). Skeletons without them give both from the ankle (``ankle``), as Stenum, Rossi & Roemmich (PLoS Comput.
Biol. 2021) did on OpenPose keypoints. Contact comes about 30 ms early: the foot already moves back under the pelvis
when it meets the ground. The ankle already moves forward while the toe is still on the ground, for 3 % of a stride on
the normal joint angles of the literature (Perry & Burnfield 2010), by which its release is put later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.signal import find_peaks

from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.runs import true_runs
from featherpose.motion.events.repetitions import parabola
from featherpose.motion.facing import FACINGS, facing_over_time
from featherpose.motion.measures import Measure, coordinate_uncertainty, frame_uncertainty_s
from featherpose.motion.sequence import PoseSequence

__all__ = ["FootEvent", "Gait", "find_gait", "symmetry_index"]

GaitMethod = Literal["heel_toe", "ankle"]

# A foot swings forward and back by at least this much of a leg's length; less is standing.
_MIN_SWING = 0.35
_MIN_REACH = 0.1
_MIN_STRIDE_S = 0.4
# Both feet that land sooner after each other are a hop; steps further apart are not one walk.
_MIN_STEP_S, _MAX_STEP_S = 0.1, 1.5
_TOE_AFTER_ANKLE = 0.03  # of a stride


@dataclass(frozen=True, slots=True)
class FootEvent:
    """One contact or release.

    Attributes:
        side: ``left`` or ``right``.
        kind: ``contact`` or ``release``.
        row: Nearest row of the sequence.
        time_s: Time, between frames by a parabola.
        uncertainty_s: One standard deviation.
        ahead: Where the foot was in front of the pelvis, in the unit of the sequence.
    """

    side: str
    kind: str
    row: int
    time_s: float
    uncertainty_s: float
    ahead: float


@dataclass(frozen=True, slots=True, eq=False)
class Gait:
    """The steps of one person.

    Attributes:
        method: ``heel_toe`` or ``ankle``.
        events: Contacts and releases in order of time.
        measures: By name; see the reference page. Lengths and speeds in the unit of the sequence.
        overground: Whether the person moves through the image, not on a treadmill.
    """

    method: GaitMethod
    events: tuple[FootEvent, ...]
    measures: dict[str, Measure]
    overground: bool

    @property
    def contacts(self) -> tuple[FootEvent, ...]:
        """Return the foot contacts: as many as steps."""
        return tuple(event for event in self.events if event.kind == "contact")

    @property
    def steps(self) -> int:
        """Return the number of foot contacts."""
        return len(self.contacts)


def find_gait(
    sequence: PoseSequence, person: int = 0, *, facing: np.ndarray | None = None, noise: np.ndarray | None = None
) -> Gait:
    """Find the steps of one person seen from the side.

    Args:
        sequence: Filtered poses, in pixels or meters.
        person: Place of the person, 0 .. P-1.
        facing: int64[T], index into `featherpose.motion.facing.FACINGS`; detected unless given.
        noise: float64[K], the person's `coordinate_uncertainty`, if it is known already.

    Returns:
        The steps; no events if the person does not walk, or if knees and ankles are missing.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> times = np.arange(0, 4, 1 / 60)
        >>> points = np.full((240, 17, 2), np.nan)
        >>> points[:, [11, 12]], points[:, [5, 6]] = (200, 100), (200, 40)  # on a treadmill
        >>> swing = 45 * np.sin(2 * np.pi * times)
        >>> for side, sign in ((0, 1), (1, -1)):
        ...     points[:, 13 + side] = np.stack([200 + sign * swing / 2 + 5, 0 * swing + 150], -1)
        ...     points[:, 15 + side] = np.stack([200 + sign * swing, 0 * swing + 200], -1)
        >>> gait = find_gait(PoseSequence.from_arrays(points, times, COCO_17))
        >>> gait.steps, gait.method, round(gait.measures["cadence"].value)
        (8, 'ankle', 120)
    """
    one = sequence.select([person])
    names = [f"{s}_{part}" for s in ("left", "right") for part in ("hip", "knee", "ankle", "heel", "big_toe")]
    points = {name: value[:, 0] for name, value in body_points(one, ["mid_hip", *names]).items()}
    feet = all(f"{s}_{part}" in points for s in ("left", "right") for part in ("heel", "big_toe"))
    method: GaitMethod = "heel_toe" if feet else "ankle"
    needed = ["mid_hip", *(f"{s}_{part}" for s in ("left", "right") for part in ("knee", "ankle"))]
    if not all(name in points for name in needed):
        return Gait(method, (), {}, False)
    times = one.timestamps_s
    leg = _leg_length(points)
    facing = facing_over_time(one)[:, 0] if facing is None else facing
    forward, overground = _forward(times, points["mid_hip"], leg, facing)
    if not np.isfinite(leg) or len(times) < 5:
        return Gait(method, (), {}, overground)
    if FACINGS[facing[0]] in ("front", "back") and not (overground and _passes_by(points["mid_hip"])):
        return Gait(method, (), {}, overground)  # legs that open to the sides, or come nearer, are not seen to step
    noise = coordinate_uncertainty(one)[0] if noise is None else noise
    events: list[FootEvent] = []
    for side in ("left", "right"):
        for kind, sign, part in (
            ("contact", 1.0, "heel" if feet else "ankle"),
            ("release", -1.0, "big_toe" if feet else "ankle"),
        ):
            name = f"{side}_{part}"
            ahead = (points[name][:, 0] - points["mid_hip"][:, 0]) * forward
            sigma = float(noise[one.skeleton.index(name)])
            events += _extremes(ahead, times, sign, leg, side, kind, sigma)
    if not feet:
        events = _toe_leaves(events, times)
    events = _only_walking(sorted(events, key=lambda event: event.time_s), overground, _is_upright(one))
    return Gait(method, tuple(events), _measures(one, points, events, forward, overground), overground)


def _leg_length(points: dict[str, np.ndarray]) -> float:
    lengths = []
    for side in ("left", "right"):
        hip = points.get(f"{side}_hip", points["mid_hip"])
        thigh = np.hypot(*(points[f"{side}_knee"] - hip).T)
        shank = np.hypot(*(points[f"{side}_ankle"] - points[f"{side}_knee"]).T)
        lengths.append(thigh + shank)
    known = np.concatenate(lengths)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else float("nan")


def _passes_by(hips: np.ndarray) -> bool:
    """Whether somebody who is seen face on moves across the image, and not toward the camera or away from it."""
    across, along = (float(np.ptp(axis[np.isfinite(axis)])) for axis in hips.T)
    return across > 2 * along


def _forward(times: np.ndarray, hips: np.ndarray, leg: float, facing: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the direction of walking in each frame: of travel if there is any, else where the person faces."""
    x = hips[:, 0]
    known = np.flatnonzero(np.isfinite(x))
    front = np.where(facing == FACINGS.index("left"), -1.0, 1.0)
    if len(known) < 2 or not np.ptp(x[known]) > leg:
        return front, False
    # Half a second ahead and behind: long enough to be travel and not the sway of a step.
    half = 0.5
    smooth = np.interp(times, times[known], x[known])
    travel = np.interp(times + half, times, smooth) - np.interp(times - half, times, smooth)
    return np.where(travel == 0, front, np.sign(travel)), True


def _extremes(
    ahead: np.ndarray, times: np.ndarray, sign: float, leg: float, side: str, kind: str, sigma: float
) -> list[FootEvent]:
    found = np.isfinite(ahead)
    out: list[FootEvent] = []
    step = float(np.median(np.diff(times)))
    of_frame = frame_uncertainty_s(times)
    for first, last in true_runs(found):
        if last - first < 5:
            continue
        values, t = sign * ahead[first:last], times[first:last]
        distance = max(1, int(_MIN_STRIDE_S / step))
        for peak in find_peaks(values, prominence=_MIN_SWING * leg, distance=distance)[0].tolist():
            a, b, c = parabola(t, values, peak)
            shift = float(np.clip(-b / (2 * a), -step, step)) if a < 0 else 0.0
            # The top of a parabola through three noisy values: the error of its slope over twice its curvature.
            shaky = sigma / (np.sqrt(2) * step) / (2 * abs(a)) if a < 0 and sigma == sigma else 0.0
            uncertainty = float(np.hypot(of_frame, min(shaky, 0.2)))
            row = int(first + peak + round(shift / step))
            height = float(sign * (c + b * shift + a * shift * shift))
            if sign * height < _MIN_REACH * leg:
                continue  # contacts are in front of the pelvis, releases behind it
            out.append(FootEvent(side, kind, row, float(t[peak] + shift), uncertainty, height))
    return out


def _toe_leaves(events: list[FootEvent], times: np.ndarray) -> list[FootEvent]:
    """Put releases of the ankle at the time when the toe leaves; as they are where no stride is seen."""
    strides = [
        later.time_s - earlier.time_s
        for side in ("left", "right")
        for kind in ("contact", "release")
        for earlier, later in pairwise(e for e in events if (e.side, e.kind) == (side, kind))
    ]
    if not strides:
        return events
    later_s = _TOE_AFTER_ANKLE * float(np.median(strides))
    out = []
    for event in events:
        if event.kind == "release":
            time_s = min(event.time_s + later_s, float(times[-1]))
            event = replace(event, time_s=time_s, row=_nearest(times, time_s))
        out.append(event)
    return out


def _nearest(times: np.ndarray, time_s: float) -> int:
    after = int(np.clip(np.searchsorted(times, time_s), 1, len(times) - 1))
    return after - 1 if time_s - times[after - 1] <= times[after] - time_s else after


def _only_walking(events: list[FootEvent], overground: bool, upright: np.ndarray) -> list[FootEvent]:
    """Return events that belong to alternating steps; hops, a swing of one leg or a shuffle in place are not gait."""
    contacts = [event for event in events if event.kind == "contact" and upright[event.row]]
    together = {
        i
        for i, (a, b) in enumerate(pairwise(contacts))
        if a.side != b.side and b.time_s - a.time_s < _MIN_STEP_S
    }  # fmt: skip
    contacts = [c for i, c in enumerate(contacts) if i not in together and i - 1 not in together]
    runs: list[list[FootEvent]] = []
    for contact in contacts:
        if runs and contact.time_s - runs[-1][-1].time_s <= _MAX_STEP_S:
            runs[-1].append(contact)
        else:
            runs.append([contact])
    walks = [run for run in runs if len(run) >= (2 if overground else 4) and len({event.side for event in run}) == 2]
    steps = [event for run in walks for event in run]
    spans = [(run[0].time_s - _MAX_STEP_S, run[-1].time_s + _MAX_STEP_S) for run in walks]
    releases = [e for e in events if e.kind == "release" and any(a <= e.time_s <= b for a, b in spans)]
    return sorted(steps + releases, key=lambda event: event.time_s)


def _is_upright(one: PoseSequence) -> np.ndarray:
    """Return bool[T]: rows in which the trunk is not level; True where it is not seen."""
    points = body_points(one, ["neck", "mid_hip"])
    if len(points) < 2:
        return np.ones(one.num_frames, bool)
    x, y = np.moveaxis(points["neck"][:, 0] - points["mid_hip"][:, 0], -1, 0)
    up = -y if one.unit == "px" else y
    with np.errstate(invalid="ignore"):
        return np.asarray(~(up < np.abs(x)))


def _measures(
    one: PoseSequence,
    points: dict[str, np.ndarray],
    events: list[FootEvent],
    forward: np.ndarray,
    overground: bool,
) -> dict[str, Measure]:
    contacts = [event for event in events if event.kind == "contact"]
    if len(contacts) < 2:
        return {}
    out = {"steps": Measure(float(len(contacts)))}
    pairs = [(a, b) for a, b in pairwise(contacts) if a.side != b.side]
    unit = one.unit
    if pairs:
        intervals = np.array([b.time_s - a.time_s for a, b in pairs])
        sigma = float(np.hypot(pairs[0][0].uncertainty_s, pairs[0][1].uncertainty_s))
        mean = float(intervals.mean())
        # Steps share their contacts, so the error of the mean is that of the first and last contact.
        out["cadence"] = Measure(60 / mean, "steps/min", 60 / mean**2 * sigma / len(pairs))
        out["step_time"] = Measure(mean, "s", sigma / len(pairs))
        for side in ("left", "right"):
            mine = [b.time_s - a.time_s for a, b in pairs if b.side == side]
            if mine:
                out[f"{side}_step_time"] = Measure(float(np.mean(mine)), "s", sigma / np.sqrt(len(mine)))
            lengths = [_step_length(points, a, b, forward) for a, b in pairs if b.side == side]
            lengths = [length for length in lengths if length == length]
            if lengths:
                noise = float(np.std(lengths) / np.sqrt(len(lengths))) if len(lengths) > 1 else float("nan")
                out[f"{side}_step_length"] = Measure(float(np.mean(lengths)), unit, noise)
    for side in ("left", "right"):
        own = [event for event in contacts if event.side == side]
        strides = np.diff([event.time_s for event in own])
        stances, swings = _stances(events, side)
        if len(strides):
            out[f"{side}_stride_time"] = Measure(
                float(strides.mean()), "s", float(own[0].uncertainty_s * np.sqrt(2) / len(strides))
            )
        if len(stances) and len(swings):
            share = float(np.mean(stances) / (np.mean(stances) + np.mean(swings)))
            error = own[0].uncertainty_s * np.sqrt(2) / (np.mean(stances) + np.mean(swings)) / np.sqrt(len(stances))
            out[f"{side}_stance_share"] = Measure(100 * share, "%", 100 * float(error))
    for name in ("step_time", "step_length", "stance_share"):
        left, right = out.get(f"left_{name}"), out.get(f"right_{name}")
        if left is not None and right is not None:
            out[f"{name}_symmetry"] = symmetry_index(left, right)
    if overground:
        speed = _speed(one, points["mid_hip"], contacts)
        if speed is not None:
            out["speed"] = speed
    return out


def _step_length(points: dict[str, np.ndarray], a: FootEvent, b: FootEvent, forward: np.ndarray) -> float:
    """Return the distance between the ankles along the walking direction at the contact of ``b``."""
    other = points[f"{a.side}_ankle"][b.row, 0]
    return float((points[f"{b.side}_ankle"][b.row, 0] - other) * forward[b.row])


def _stances(events: list[FootEvent], side: str) -> tuple[list[float], list[float]]:
    mine = [event for event in events if event.side == side]
    stances, swings = [], []
    for a, b in pairwise(mine):
        if a.kind == "contact" and b.kind == "release":
            stances.append(b.time_s - a.time_s)
        elif a.kind == "release" and b.kind == "contact":
            swings.append(b.time_s - a.time_s)
    return stances, swings


def _speed(one: PoseSequence, hips: np.ndarray, contacts: list[FootEvent]) -> Measure | None:
    first, last = contacts[0].row, contacts[-1].row
    rows = np.arange(first, last + 1)
    rows = rows[np.isfinite(hips[rows, 0])]
    if len(rows) < 3:
        return None
    times = one.timestamps_s[rows]
    slope, _ = np.polyfit(times, hips[rows, 0], 1)
    rest = hips[rows, 0] - np.polyval(np.polyfit(times, hips[rows, 0], 1), times)
    error = float(rest.std() / (times.std() * np.sqrt(len(rows))))
    return Measure(abs(float(slope)), f"{one.unit}/s", error)


def symmetry_index(left: Measure, right: Measure) -> Measure:
    """Return the difference of two sides in percent of their mean (Robinson et al. 1987); positive: left is larger.

    Example:
        >>> round(symmetry_index(Measure(0.55, "s"), Measure(0.5, "s")).value, 1)
        9.5
    """
    mean = (left.value + right.value) / 2
    if mean == 0:
        return Measure(float("nan"), "%")
    error = 100 * float(np.hypot(left.uncertainty, right.uncertainty)) / abs(mean)
    return Measure(100 * (left.value - right.value) / mean, "%", error)
