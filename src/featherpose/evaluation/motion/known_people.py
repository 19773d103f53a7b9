"""People with exactly known motion: kinematic models of squats, pendulum arms, walking and jumping, as keypoints.

A person is a chain of segments with the proportions of Drillis & Contini (1966; table 4.1 of Winter 2009), moved by
joint angles over time in the conventions of `featherpose.motion.angles`. The angles of walking are the normal curves
of the literature (Perry & Burnfield 2010; Winter 2009), rounded to whole degrees at every twentieth of the cycle, so
that foot contact is at 0 % and toe-off at 62 % of each side's cycle by definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline

from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25, Skeleton

__all__ = ["KnownMotion", "jumping", "jumping_jacks", "pendulum_arms", "squatting", "walking"]

GRAVITY_M_S2 = 9.81
# Lengths in statures.
_THIGH, _SHANK, _ANKLE_HEIGHT, _TRUNK = 0.245, 0.246, 0.039, 0.288
_UPPER_ARM, _FOREARM, _HEAD = 0.186, 0.146, 0.118
_HEEL_BACK, _TOE_FRONT = 0.05, 0.10
_HALF_SHOULDERS, _HALF_HIPS = 0.115, 0.0955

# Percent of the cycle: 0, 5, ... 95. Contact of this foot at 0.
_HIP = (32, 31, 29, 25, 20, 14, 8, 3, -3, -8, -12, -12, -7, 4, 16, 25, 30, 33, 34, 34)
_KNEE = (4, 10, 15, 18, 17, 13, 10, 7, 5, 6, 10, 20, 35, 51, 60, 60, 50, 35, 19, 7)
_ANKLE = (0, -4, -5, -2, 2, 4, 6, 8, 10, 11, 8, -2, -14, -18, -12, -6, -1, 1, 1, 0)
TOE_OFF = 0.62
"""Share of the gait cycle at which the foot leaves the ground."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownMotion:
    """A sequence and its ground truth.

    Attributes:
        sequence: One person, skeleton BODY_25, in pixels.
        angles: Name -> float64[T], degrees.
        events: Name -> times in seconds, such as ``left_contact``, ``turn``, ``takeoff``.
        pixels_per_m: Scale of the image.
        values: Other truths by name, such as ``height_m`` of a jump.
    """

    sequence: PoseSequence
    angles: Mapping[str, np.ndarray]
    events: Mapping[str, np.ndarray] = field(default_factory=dict)
    pixels_per_m: float = 1.0
    values: Mapping[str, float] = field(default_factory=dict)

    def in_skeleton(self, skeleton: Skeleton) -> PoseSequence:
        """Return the same person with other keypoints."""
        sequence = self.sequence
        sources = BODY_25.mapping_to(skeleton)
        points = np.full((sequence.num_frames, 1, skeleton.num_keypoints, 2), np.nan)
        for k, source in enumerate(sources):
            if source:
                points[:, :, k] = sequence.keypoints[:, :, list(source)].mean(2)
        return PoseSequence.from_arrays(
            points, sequence.timestamps_s, skeleton, image_size=sequence.image_size, track_ids=sequence.track_ids
        )


def _direction(degrees: np.ndarray) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], -1)


def _chain(angles: Mapping[str, np.ndarray], *, front: bool = False) -> dict[str, np.ndarray]:
    """Return keypoints about the middle of the hips, in statures, y up, facing right (or the camera)."""
    t = len(next(iter(angles.values())))

    def angle(name: str) -> np.ndarray:
        return np.asarray(angles.get(name, np.zeros(t)), np.float64)

    lean = angle("trunk_lean")
    zero = np.zeros((t, 2))
    points = {"mid_hip": zero, "neck": _TRUNK * _direction(90 - lean)}
    head = _direction(90 - lean - angle("neck"))
    ear = points["neck"] + _HEAD * head
    ahead = np.stack([head[:, 1], -head[:, 0]], -1)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        # Face on, the left side is on the right of the image and each side opens outward.
        out = np.array([sign, 1.0]) if front else np.array([1.0, 1.0])
        across = np.array([1.0, 0.0]) if front else np.zeros(2)
        points[f"{side}_ear"] = ear + 0.04 * across * sign
        points[f"{side}_eye"] = ear + 0.02 * across * sign + (0.0 if front else 0.045) * ahead
        hip = zero + _HALF_HIPS * across * sign
        thigh = -90 - lean + angle(f"{side}_hip")
        shank = thigh - angle(f"{side}_knee")
        foot = shank + 90 + angle(f"{side}_ankle")
        knee = hip + _THIGH * _direction(thigh) * out
        ankle = knee + _SHANK * _direction(shank) * out
        along, under = _direction(foot), _direction(foot - 90)
        shoulder = points["neck"] + _HALF_SHOULDERS * across * sign
        arm = -90 - lean + angle(f"{side}_shoulder")
        elbow = shoulder + _UPPER_ARM * _direction(arm) * out
        points |= {
            f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle,
            f"{side}_heel": ankle + (_ANKLE_HEIGHT * under - _HEEL_BACK * along) * out,
            f"{side}_big_toe": ankle + (_ANKLE_HEIGHT * under + _TOE_FRONT * along) * out,
            f"{side}_small_toe": ankle + (_ANKLE_HEIGHT * under + 0.9 * _TOE_FRONT * along) * out,
            f"{side}_shoulder": shoulder, f"{side}_elbow": elbow,
            f"{side}_wrist": elbow + _FOREARM * _direction(arm + angle(f"{side}_elbow")) * out,
        }  # fmt: skip
    points["nose"] = ear - 0.01 * head + (0.0 if front else 0.06) * ahead
    return points


def _known(
    points: dict[str, np.ndarray],
    place: np.ndarray,
    times: np.ndarray,
    angles: Mapping[str, np.ndarray],
    events: Mapping[str, np.ndarray],
    stature_px: float,
    facing: str,
    stature_m: float,
    values: Mapping[str, float] | None = None,
) -> KnownMotion:
    """Place the person at ``place`` (statures, y up, of the middle of the hips) in an image."""
    stacked = np.stack([points[name] for name in BODY_25.keypoints], 1) + place[:, None]
    if facing == "left":
        stacked[..., 0] *= -1
    low, high = stacked.min((0, 1)), stacked.max((0, 1))
    pixels = np.stack([stacked[..., 0] - low[0], high[1] - stacked[..., 1]], -1) * stature_px + 40
    size = (int((high[0] - low[0]) * stature_px) + 80, int((high[1] - low[1]) * stature_px) + 80)
    sequence = PoseSequence.from_arrays(pixels, times, BODY_25, image_size=size)
    return KnownMotion(sequence, angles, events, stature_px / stature_m, values or {})


def _times(seconds: float, rate_hz: float) -> np.ndarray:
    return np.arange(round(seconds * rate_hz) + 1) / rate_hz


def _standing(points: dict[str, np.ndarray]) -> np.ndarray:
    """Return the place of the hips at which the lowest point of the feet is on the ground."""
    feet = np.stack([points[f"{s}_{part}"][:, 1] for s in ("left", "right") for part in ("heel", "big_toe")])
    return np.stack([np.zeros(feet.shape[1]), -feet.min(0)], -1)


def squatting(
    count: int = 5, *, depth_deg: float = 110, period_s: float = 2.5, rate_hz: float = 30, stature_px: float = 400,
    facing: str = "right", lead_s: float = 0.8,
) -> KnownMotion:  # fmt: skip
    """Simulate squats of a known number and depth (knee flexion), with a rest before and after.

    Example:
        >>> squats = squatting(3)
        >>> squats.sequence.num_people, len(squats.events["turn"])
        (1, 3)
    """
    times = _times(count * period_s + 2 * lead_s, rate_hz)
    inside = np.clip((times - lead_s) / period_s, 0, count)
    bend = (1 - np.cos(2 * np.pi * inside)) / 2
    knee = depth_deg * bend
    ankle = 0.28 * knee
    lean = 0.3 * knee
    # The shank leans by the ankle's dorsiflexion; thigh and trunk follow from keeping the foot flat.
    angles = {"trunk_lean": lean}
    for side in ("left", "right"):
        angles |= {f"{side}_knee": knee, f"{side}_ankle": ankle, f"{side}_hip": lean + knee - ankle}
        angles |= {f"{side}_shoulder": 80 * bend, f"{side}_elbow": 10 + 0 * bend}
    points = _chain(angles)
    place = _standing(points)
    place[:, 0] = -(points["left_ankle"][:, 0])  # feet stay where they are
    turns = lead_s + (np.arange(count) + 0.5) * period_s
    return _known(points, place, times, angles, {"turn": turns}, stature_px, facing, 1.75)


def pendulum_arms(
    *, seconds: float = 6, amplitude_deg: float = 50, frequency_hz: float = 1.0, rate_hz: float = 60,
    stature_px: float = 400, facing: str = "right",
) -> KnownMotion:  # fmt: skip
    """Simulate standing with both arms swinging like pendulums in antiphase; the elbows bend as they swing."""
    times = _times(seconds, rate_hz)
    swing = np.sin(2 * np.pi * frequency_hz * times)
    angles = {
        "left_shoulder": 20 + amplitude_deg * swing, "right_shoulder": 20 - amplitude_deg * swing,
        "left_elbow": 40 + 30 * swing, "right_elbow": 40 - 30 * swing,
        "trunk_lean": 5 + 0 * swing, "neck": 10 + 5 * swing,
    }  # fmt: skip
    angles |= {f"{side}_hip": angles["trunk_lean"] for side in ("left", "right")}
    points = _chain(angles)
    return _known(points, _standing(points), times, angles, {}, stature_px, facing, 1.75)


def jumping_jacks(
    count: int = 6, *, period_s: float = 1.2, rate_hz: float = 30, stature_px: float = 400, lead_s: float = 0.5
) -> KnownMotion:
    """Simulate jumping jacks seen from the front: arms up to 150 degrees, legs out to 25."""
    times = _times(count * period_s + 2 * lead_s, rate_hz)
    bend = (1 - np.cos(2 * np.pi * np.clip((times - lead_s) / period_s, 0, count))) / 2
    angles: dict[str, np.ndarray] = {}
    for side in ("left", "right"):
        angles |= {f"{side}_shoulder": 10 + 140 * bend, f"{side}_hip": 25 * bend, f"{side}_elbow": 5 + 10 * bend}
    points = _chain(angles, front=True)
    turns = lead_s + (np.arange(count) + 0.5) * period_s
    return _known(points, _standing(points), times, angles, {"turn": turns}, stature_px, "right", 1.75)


def walking(
    steps: int = 10, *, cadence_per_min: float = 110, rate_hz: float = 30, stature_px: float = 400,
    facing: str = "right", stature_m: float = 1.75, treadmill: bool = False,
) -> KnownMotion:  # fmt: skip
    """Simulate walking with the normal joint angles: contact at 0 % and toe-off at 62 % of each side's cycle.

    Events: ``left_contact``, ``right_contact``, ``left_release``, ``right_release``. The first contact is the left
    foot's at 0.4 s; the recording ends 0.4 s after the last of ``steps`` contacts.
    """
    step_s = 60 / cadence_per_min
    cycle_s = 2 * step_s
    lead = 0.4
    times = _times(2 * lead + (steps - 1) * step_s, rate_hz)
    phase = {"left": (times - lead) / cycle_s, "right": (times - lead) / cycle_s - 0.5}
    knots = np.linspace(0, 1, 21)

    def curve(values: tuple[int, ...]) -> CubicSpline:
        return CubicSpline(knots, [*values, values[0]], bc_type="periodic")

    angles: dict[str, np.ndarray] = {"trunk_lean": np.full(len(times), 3.0)}
    for side in ("left", "right"):
        at = phase[side] % 1.0
        angles[f"{side}_hip"] = curve(_HIP)(at)
        angles[f"{side}_knee"] = curve(_KNEE)(at)
        angles[f"{side}_ankle"] = curve(_ANKLE)(at)
        angles[f"{side}_shoulder"] = -5 + 20 * np.cos(2 * np.pi * (at - 0.5))
        angles[f"{side}_elbow"] = 25 + 8 * np.cos(2 * np.pi * (at - 0.5))
    points = _chain(angles)
    place = _standing(points)
    speed = 0.0 if treadmill else _stance_speed(curve(_HIP), curve(_KNEE), cycle_s)
    place[:, 0] = speed * times
    # Vertical: the standing foot carries the body; smooth over the change of feet.
    contacts = lead + step_s * np.arange(steps)
    first = lead - cycle_s
    releases = {
        "left": first + cycle_s * (np.arange(steps + 2) + TOE_OFF),
        "right": first + cycle_s * (np.arange(steps + 2) + TOE_OFF - 0.5),
    }
    inside = {side: r[(r >= times[0]) & (r <= times[-1])] for side, r in releases.items()}
    events = {
        "left_contact": contacts[0::2], "right_contact": contacts[1::2],
        "left_release": inside["left"], "right_release": inside["right"],
    }  # fmt: skip
    values = {"speed_m_s": speed * stature_m, "cadence": cadence_per_min}
    return _known(points, place, times, angles, events, stature_px, facing, stature_m, values)


def _stance_speed(hip: CubicSpline, knee: CubicSpline, cycle_s: float) -> float:
    """Return statures a second: how fast the ankle moves back under the hips in the middle of its stance."""
    at = np.linspace(0.1, 0.45, 50)
    thigh = -90 - 3.0 + hip(at)
    x = _THIGH * np.cos(np.radians(thigh)) + _SHANK * np.cos(np.radians(thigh - knee(at)))
    return float(-np.polyfit(at * cycle_s, x, 1)[0])


def jumping(
    count: int = 3, *, height_m: float = 0.35, rate_hz: float = 60, stature_px: float = 400, stature_m: float = 1.75,
    facing: str = "right",
) -> KnownMotion:  # fmt: skip
    """Simulate countermovement jumps: the hips fly on a parabola between ``takeoff`` and ``landing``, legs straight.

    The push-off lifts the heels before the toes leave the ground, as real people do.
    """
    flight_s = float(np.sqrt(8 * height_m / GRAVITY_M_S2))
    crouch_s, rest_s = 0.7, 0.8
    period = rest_s + crouch_s + flight_s + crouch_s
    times = _times(count * period + rest_s, rate_hz)
    heel_rise = 35.0
    knee, ankle, flying = np.zeros(len(times)), np.zeros(len(times)), np.zeros(len(times))
    takeoffs = rest_s + crouch_s + period * np.arange(count)
    for start in takeoffs:
        before = np.clip((times - (start - crouch_s)) / crouch_s, 0, 1)
        after = np.clip((times - (start + flight_s)) / crouch_s, 0, 1)
        air = np.clip((times - start) / flight_s, 0, 1)
        # Down and up again; the last tenth of a second before takeoff lifts the heels, the first after lands on them.
        knee += 80 * (np.sin(np.pi * before) ** 2 + np.sin(np.pi * after) ** 2)
        rise = np.clip((times - (start - 0.1)) / 0.1, 0, 1) * (1 - np.clip((times - start - flight_s) / 0.1, 0, 1))
        ankle -= heel_rise * rise
        flying += 4 * height_m / stature_m * air * (1 - air)
    lean = 0.3 * knee
    bend = 0.28 * knee
    angles = {"trunk_lean": lean}
    for side in ("left", "right"):
        angles |= {f"{side}_knee": knee, f"{side}_ankle": bend + ankle, f"{side}_hip": lean + knee - bend}
    points = _chain(angles)
    place = _standing(points)
    place[:, 1] += flying
    place[:, 0] = -points["left_ankle"][:, 0]
    events = {"takeoff": takeoffs, "landing": takeoffs + flight_s}
    values = {"height_m": height_m, "flight_s": flight_s}
    return _known(points, place, times, angles, events, stature_px, facing, stature_m, values)
