"""Rendered scenes with ground truth: people who walk, cross, occlude each other, leave and return.

A camera looks at a floor on which people walk. Their joints follow a plain gait; nearer people occlude farther ones.
Everything is computed from a seed, so a scene is the same everywhere, with exact identities. Misses and noise of a
network are added by `featherpose.evaluation.tracking.simulate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64

from featherpose.errors import OptionError
from featherpose.poses import Poses
from featherpose.skeleton import OPENPOSE_18, Skeleton

__all__ = ["FAMILIES", "Scene", "SceneFamily", "render_scene"]

SceneFamily = Literal["crossing", "occlusion", "returning", "crowd", "dropped"]
FAMILIES: tuple[SceneFamily, ...] = get_args(SceneFamily)

# The camera: 1280x720, 2.2 m above the floor, focal length and horizon in pixels.
_SIZE = (1280, 720)
_FOCAL_PX, _HORIZON_PX, _CAMERA_M = 900.0, 250.0, 2.2
_FPS = 25.0
# Ground truth counts a person from this many visible joints on, as a decoder does.
_MIN_VISIBLE = 3

# Parts that occlude: joints at the ends, radius as a fraction of the person's height.
_PARTS = (
    ("neck", "right_hip", 0.07), ("neck", "left_hip", 0.07), ("right_shoulder", "left_shoulder", 0.05),
    ("neck", "nose", 0.055), ("right_hip", "right_knee", 0.045), ("left_hip", "left_knee", 0.045),
    ("right_knee", "right_ankle", 0.035), ("left_knee", "left_ankle", 0.035),
    ("right_shoulder", "right_elbow", 0.03), ("left_shoulder", "left_elbow", 0.03),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """T frames of N people.

    Attributes:
        family: What makes it hard.
        timestamps_s: float64[T], seconds; uneven where frames were dropped.
        keypoints: float32[T, N, K, 2], where the joints are, seen or not, in pixels.
        visible: bool[T, N, K]: inside the image and not hidden.
        skeleton: What the K joints are.
        image_size: (width, height) in pixels.
    """

    family: SceneFamily
    timestamps_s: Float64[np.ndarray, " T"]
    keypoints: Float32[np.ndarray, "T N K 2"]
    visible: Bool[np.ndarray, "T N K"]
    skeleton: Skeleton = OPENPOSE_18
    image_size: tuple[int, int] = _SIZE

    def __repr__(self) -> str:
        frames, people = self.visible.shape[:2]
        return f"Scene({self.family}, {people} people, {frames} frames)"

    def truth(self, frame: int) -> Poses:
        """Return the people of whom enough is visible in a frame, with their true ids; hidden joints are missing."""
        visible = self.visible[frame]
        who = np.flatnonzero(visible.sum(1) >= _MIN_VISIBLE)
        keypoints = np.where(visible[who, :, None], self.keypoints[frame, who], np.float32(np.nan))
        return Poses(
            keypoints,
            visible[who].astype(np.float32),
            np.ones(len(who), np.float32),
            self.skeleton,
            self.image_size,
            who.astype(np.int64),
        )


def render_scene(family: SceneFamily, people: int, *, seed: int, seconds: float = 10.0) -> Scene:
    """Make a scene, the same for the same arguments.

    Args:
        family: ``crossing`` (people pass each other, some meet and turn back), ``occlusion`` (they walk behind
            pillars and people who stand), ``returning`` (they leave the image and come back), ``crowd`` (all people
            wander) or ``dropped`` (people cross, and two frames of five are missing, in bursts).
        people: How many.
        seed: Seed of the random numbers.
        seconds: Length.

    Raises:
        OptionError: If the family is unknown, or people or seconds are not positive.

    Example:
        >>> render_scene("crossing", 2, seed=0, seconds=2)
        Scene(crossing, 2 people, 50 frames)
    """
    if family not in FAMILIES:
        raise OptionError(f"scene family {family!r}", expected=f"one of {', '.join(FAMILIES)}")
    if people < 1 or not 0 < seconds <= 3600:
        raise OptionError(f"{people} people for {seconds} s", expected="at least one person and up to 3600 s")
    rng = np.random.default_rng([FAMILIES.index(family), people, seed])
    times = np.arange(round(seconds * _FPS)) / _FPS
    path = _PATHS[family](rng, people, times)
    heights = rng.uniform(1.55, 1.9, people)
    keypoints = _project(path, _walk(path, heights, times, rng))
    visible = _visible(keypoints, path, heights, _pillars(rng) if family == "occlusion" else ())
    scene = Scene(family, times, keypoints, visible)
    return _drop_frames(scene, rng) if family == "dropped" else scene


def _spread_depths(rng: np.random.Generator, people: int) -> np.ndarray:
    """Return lanes of distance to the camera, meters, no two the same: people never walk through each other."""
    return rng.permutation(np.linspace(5.5, 11.0, people) + rng.uniform(-0.2, 0.2, people))


def _crossing(rng: np.random.Generator, people: int, times: np.ndarray) -> np.ndarray:
    """Return float64[T, N, 2] floor positions (right, away), meters: people pass the middle at about one time."""
    depth = _spread_depths(rng, people)
    speed = rng.uniform(0.7, 1.6, people) * np.where(np.arange(people) % 2, 1, -1)
    middle_s = times[-1] / 2 + rng.normal(0, 0.8, people)
    x = (times[:, None] - middle_s) * speed
    # A quarter of them stop in the middle and go back.
    turn = rng.random(people) < 0.25
    x = np.where(turn & (times[:, None] > middle_s), -x * 0.9, x)
    pause = 0.35 * np.tanh(x / 0.35) * turn
    x = np.where(turn, np.where(np.abs(x) < 0.7, pause, x), x)
    z = depth + 0.15 * np.sin(times[:, None] * rng.uniform(0.3, 0.8, people))
    return np.stack((x, z), -1)


def _occlusion(rng: np.random.Generator, people: int, times: np.ndarray) -> np.ndarray:
    """Return positions where a third stand near the camera and the others walk to and fro behind them and pillars."""
    depth = np.sort(_spread_depths(rng, people))
    standing = np.arange(people) < people // 3
    depth = np.where(standing, depth, depth + 1.5)
    speed = rng.uniform(0.6, 1.3, people) * rng.choice([-1, 1], people)
    reach = 0.6 * depth
    start = rng.uniform(-1, 1, people) * reach
    x = _bounce(start + speed * times[:, None], reach)
    x = np.where(standing, rng.uniform(-0.5, 0.5, people) * depth + 0.05 * np.sin(times[:, None]), x)
    return np.stack((x, np.broadcast_to(depth, x.shape)), -1)


def _returning(rng: np.random.Generator, people: int, times: np.ndarray) -> np.ndarray:
    """Return positions of people who walk out of the image at a side, turn, and come back within about two seconds."""
    depth = _spread_depths(rng, people)
    speed = rng.uniform(0.8, 1.4, people) * rng.choice([-1, 1], people)
    edge = 640 / _FOCAL_PX * depth
    reach = edge + np.abs(speed) * rng.uniform(0.3, 0.9, people) + 0.25
    start = rng.uniform(-0.8, 0.8, people) * edge
    x = _bounce(start + speed * times[:, None], reach)
    return np.stack((x, np.broadcast_to(depth, x.shape)), -1)


def _crowd(rng: np.random.Generator, people: int, times: np.ndarray) -> np.ndarray:
    """Return positions of people who wander over the floor, turning slowly."""
    step = times[1] - times[0] if len(times) > 1 else 0.0
    heading = rng.uniform(0, 2 * np.pi, people) + np.cumsum(rng.normal(0, 0.6 * np.sqrt(step), (len(times), people)), 0)
    speed = rng.uniform(0.3, 1.4, people)
    z_start, x_start = rng.uniform(5.5, 13, people), rng.uniform(-1, 1, people)
    z = 9.25 + _bounce(z_start - 9.25 + np.cumsum(np.sin(heading) * speed * step, 0), np.full(people, 4.0))
    x = _bounce(x_start * 5 + np.cumsum(np.cos(heading) * speed * step, 0), np.full(people, 6.0))
    return np.stack((x, z), -1)


def _bounce(x: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Fold a path at ±reach: people turn around there."""
    folded = np.mod(x + reach, 4 * reach)
    return np.asarray(reach - np.abs(folded - 2 * reach))


_PATHS: dict[SceneFamily, Callable[[np.random.Generator, int, np.ndarray], np.ndarray]] = {
    "crossing": _crossing,
    "occlusion": _occlusion,
    "returning": _returning,
    "crowd": _crowd,
    "dropped": _crossing,
}


def _pillars(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Return three pillars: left and right edge in pixels, distance in meters."""
    centers = rng.uniform(150, 1130, 3)
    widths = rng.uniform(40, 130, 3)
    depths = rng.uniform(5.0, 9.0, 3)
    return tuple(
        (float(c - w / 2), float(c + w / 2), float(d)) for c, w, d in zip(centers, widths, depths, strict=True)
    )


def _walk(path: np.ndarray, heights: np.ndarray, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return float64[T, N, K, 2]: joints about the person's floor position, meters (right, up): a plain gait."""
    frames, people = path.shape[:2]
    velocity = np.gradient(path, times, axis=0) if frames > 1 else np.zeros_like(path)
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    # A body turns in about a quarter of a second, not at once; a standing person faces the camera.
    facing = np.where(speed[..., None] > 0.15, velocity, [0.0, -0.3])
    window = np.hanning(13)[1:-1]
    kernel = window / window.sum()
    padded = np.pad(facing, ((5, 5), (0, 0), (0, 0)), mode="edge")
    facing = np.stack([np.apply_along_axis(np.convolve, 0, padded[..., c], kernel, "valid") for c in (0, 1)], -1)
    facing /= np.maximum(np.hypot(facing[..., :1], facing[..., 1:]), 1e-6)
    cos, sin = facing[..., 0], facing[..., 1]

    h = heights
    step = np.diff(times, prepend=times[0])[:, None]
    phase = rng.uniform(0, 2 * np.pi, people) + np.cumsum(2 * np.pi * speed / (0.85 * h) * step, 0)
    swing = np.minimum(speed / 1.2, 1.2)
    joints = np.zeros((frames, people, OPENPOSE_18.num_keypoints, 2))

    def put(name: str, forward: np.ndarray, left: np.ndarray, up: np.ndarray) -> None:
        joints[:, :, OPENPOSE_18.index(name)] = np.stack((forward * cos - left * sin, up), -1)

    zero = np.zeros((frames, people))
    bob = 0.012 * h * np.cos(2 * phase) * swing
    put("neck", zero, zero, 0.82 * h + bob)
    put("nose", 0.065 * h + zero, zero, 0.905 * h + bob)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        put(f"{side}_eye", 0.055 * h + zero, sign * 0.02 * h + zero, 0.925 * h + bob)
        put(f"{side}_ear", zero, sign * 0.045 * h + zero, 0.915 * h + bob)
        thigh = 0.42 * swing * np.sin(phase if sign > 0 else phase + np.pi)
        flex = swing * np.maximum(0, 0.8 * np.sin((phase if sign > 0 else phase + np.pi) - 0.9))
        hip = 0.515 * h + bob
        knee = (0.245 * h * np.sin(thigh), hip - 0.245 * h * np.cos(thigh))
        put(f"{side}_hip", zero, sign * 0.055 * h + zero, hip)
        put(f"{side}_knee", knee[0], sign * 0.06 * h + zero, knee[1])
        put(
            f"{side}_ankle",
            knee[0] + 0.245 * h * np.sin(thigh - flex),
            sign * 0.055 * h + zero,
            knee[1] - 0.245 * h * np.cos(thigh - flex),
        )
        arm = -0.8 * thigh
        elbow = (0.175 * h * np.sin(arm), 0.815 * h + bob - 0.175 * h * np.cos(arm))
        put(f"{side}_shoulder", zero, sign * 0.11 * h + zero, 0.815 * h + bob)
        put(f"{side}_elbow", elbow[0], sign * 0.13 * h + zero, elbow[1])
        put(
            f"{side}_wrist",
            elbow[0] + 0.15 * h * np.sin(arm + 0.3),
            sign * 0.13 * h + zero,
            elbow[1] - 0.15 * h * np.cos(arm + 0.3),
        )
    return joints


def _project(path: np.ndarray, joints: np.ndarray) -> Float32[np.ndarray, "T N K 2"]:
    scale = _FOCAL_PX / path[..., 1]
    x = _SIZE[0] / 2 + scale[..., None] * (path[..., :1] + joints[..., 0])
    y = _HORIZON_PX + scale[..., None] * (_CAMERA_M - joints[..., 1])
    return np.stack((x, y), -1).astype(np.float32)


def _visible(
    keypoints: np.ndarray,
    path: np.ndarray,
    heights: np.ndarray,
    pillars: tuple[tuple[float, float, float], ...],
) -> Bool[np.ndarray, "T N K"]:
    width, height = _SIZE
    x, y = keypoints[..., 0], keypoints[..., 1]
    visible = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    depth = path[..., 1]
    for left, right, distance in pillars:
        visible &= ~((x > left) & (x < right) & (depth[..., None] > distance))
    # The far side of a head cannot be seen, nor the face of a person who walks away.
    index = OPENPOSE_18.index
    for side, other in (("left", "right"), ("right", "left")):
        ear, eye = index(f"{side}_ear"), index(f"{side}_eye")
        hidden = np.abs(x[..., ear] - x[..., index("neck")]) < 0.02 * heights * _FOCAL_PX / depth
        outward = (x[..., index("nose")] - x[..., index("neck")]) * (x[..., ear] - x[..., index(f"{other}_ear")]) > 0
        away = x[..., index("left_shoulder")] < x[..., index("right_shoulder")]
        visible[..., ear] &= ~(hidden & outward)
        visible[..., eye] &= ~away
    visible[..., index("nose")] &= ~away
    parts = [(index(a), index(b), radius) for a, b, radius in _PARTS]
    low, high = keypoints.min(2) - 20, keypoints.max(2) + 20
    people = keypoints.shape[1]
    for front in range(people):
        for back in range(people):
            if front == back:
                continue
            near = (low[:, front] < high[:, back]).all(-1) & (low[:, back] < high[:, front]).all(-1)
            frames = np.flatnonzero(near & (depth[:, front] < depth[:, back]))
            if len(frames) == 0:
                continue
            points = keypoints[frames, back]
            scale = (heights[front] * _FOCAL_PX / depth[frames, front])[:, None]
            for a, b, radius in parts:
                start, end = keypoints[frames, front, a][:, None], keypoints[frames, front, b][:, None]
                along = end - start
                share = ((points - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-6)
                gap = points - start - np.clip(share, 0, 1)[..., None] * along
                visible[frames, back] &= np.hypot(gap[..., 0], gap[..., 1]) > radius * scale
    return np.asarray(visible)


def _drop_frames(scene: Scene, rng: np.random.Generator) -> Scene:
    frames = len(scene.timestamps_s)
    keep = np.ones(frames, np.bool_)
    at = 0
    while at < frames:
        at += int(rng.integers(2, 8))
        burst = int(rng.integers(1, 7))
        keep[at : at + burst] = False
        at += burst
    return replace(
        scene, timestamps_s=scene.timestamps_s[keep], keypoints=scene.keypoints[keep], visible=scene.visible[keep]
    )
