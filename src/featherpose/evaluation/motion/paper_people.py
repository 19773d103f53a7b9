"""Drawn people of known joints and proportions, for tests and benchmarks of motion transfer."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import COCO_17
from featherpose.transfer.retargeting import BONES

__all__ = ["Proportions", "dancing", "drawn_person", "standing_joints"]

# Direction of each bone of somebody who stands with arms a little away from the body, in degrees from down, positive
# to the right of the image; and its length for a trunk of 1.
_REST = {
    "neck": (180, 1.0), "nose": (180, 0.40), "left_eye": (140, 0.09), "right_eye": (-140, 0.09),
    "left_ear": (60, 0.12), "right_ear": (-60, 0.12), "left_shoulder": (82, 0.34), "right_shoulder": (-82, 0.34),
    "left_elbow": (14, 0.55), "right_elbow": (-14, 0.55), "left_wrist": (10, 0.5), "right_wrist": (-10, 0.5),
    "left_hip": (90, 0.2), "right_hip": (-90, 0.2), "left_knee": (5, 0.8), "right_knee": (-5, 0.8),
    "left_ankle": (2, 0.8), "right_ankle": (-2, 0.8),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proportions:
    """A body.

    Attributes:
        trunk_px: Length of the trunk.
        arms: Length of the arms, 1 for usual.
        legs: Likewise.
        root: (x, y) of the middle of the hips when the person stands.
    """

    trunk_px: float
    arms: float
    legs: float
    root: tuple[float, float]

    def length(self, joint: str) -> float:
        """Return the length of the bone that carries a joint, pixels."""
        part = joint.split("_", 1)[-1]
        factor = self.arms if part in ("elbow", "wrist") else self.legs if part in ("knee", "ankle") else 1.0
        return self.trunk_px * factor * _REST[joint][1]


def standing_joints(body: Proportions, turns: dict[str, float] | None = None) -> dict[str, np.ndarray]:
    """Return where the joints are, with some bones turned by degrees; turns pass on to what they carry.

    Example:
        >>> joints = standing_joints(Proportions(100, 1, 1, (200, 300)))
        >>> joints["neck"].round(3).tolist()
        [200.0, 200.0]
    """
    turns = turns or {}
    joints = {"mid_hip": np.array(body.root, float)}
    total: dict[str, float] = {"mid_hip": 0.0}
    for joint, parent in BONES.items():
        if joint not in _REST or parent not in joints:
            continue
        total[joint] = total[parent] * (parent != "mid_hip" or joint not in _REST) + turns.get(joint, 0.0)
        angle = np.radians(_REST[joint][0] + total[joint])
        joints[joint] = joints[parent] + body.length(joint) * np.array([np.sin(angle), np.cos(angle)])
    return joints


def dancing(body: Proportions, frames: int = 60, *, step: float = 0.5) -> PoseSequence:
    """Return a dance: arms swing, knees bend, the body sways; the lower foot stays on the floor.

    Args:
        body: Who dances.
        frames: Frames, 30 a second.
        step: How far the body moves sideways, for a trunk of 1.
    """
    floor = max(standing_joints(body)[name][1] for name in ("left_ankle", "right_ankle"))
    points = np.full((frames, 17, 2), np.nan)
    for t in range(frames):
        phase = 2 * np.pi * t / 45
        turns = {
            "left_elbow": 70 + 70 * np.sin(phase), "right_elbow": -70 - 70 * np.sin(phase + 1),
            "left_wrist": 40 * np.sin(2 * phase), "right_wrist": 40 * np.cos(2 * phase),
            "left_knee": 20 + 20 * np.sin(phase), "right_knee": -20 - 20 * np.cos(phase),
            "left_ankle": -25 - 25 * np.sin(phase), "right_ankle": 25 + 25 * np.cos(phase), "nose": 10 * np.sin(phase),
        }  # fmt: skip
        joints = standing_joints(body, turns)
        lowest = max(joints[name][1] for name in ("left_ankle", "right_ankle"))
        shift = np.array([step * body.trunk_px * np.sin(phase / 2), floor - lowest])
        for k, name in enumerate(COCO_17.keypoints):
            points[t, k] = joints[name] + shift
    return PoseSequence.from_arrays(points, np.arange(frames) / 30, COCO_17)


def drawn_person(
    size: tuple[int, int], body: Proportions, turns: dict[str, float] | None = None
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"], dict[str, np.ndarray]]:
    """Draw a person in bright clothes before a smooth background.

    Args:
        size: (width, height) of the image in pixels.
        body: Who.
        turns: Bones turned, as `standing_joints` takes them.

    Returns:
        The image, its mask, and the joints with ``head``.
    """
    width, height = size
    joints = standing_joints(body, turns)
    joints["head"] = np.mean([joints[n] for n in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")], 0)
    y, x = np.mgrid[0:height, 0:width]
    image = np.dstack((150 + 60 * x / width, 130 + 70 * y / height, 120 + 40 * x / width)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    unit = body.trunk_px

    def limb(names: tuple[str, ...], wide: float, color: tuple[int, int, int]) -> None:
        points = np.rint(np.array([joints[name] for name in names]) * 16).astype(np.int32)
        for target, ink in ((image, color), (mask, (255,))):
            cv2.polylines(target, [points], False, ink, max(1, round(wide * unit)), cv2.LINE_AA, 4)

    for side, shade in (("left", 0), ("right", 30)):
        limb((f"{side}_hip", f"{side}_knee", f"{side}_ankle"), 0.28, (120, 60 + shade, 30))
    corners = np.rint(
        np.array([joints[n] for n in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]) * 16
    ).astype(np.int32)
    for target, ink in ((image, (40, 60, 210)), (mask, (255,))):
        cv2.fillPoly(target, [corners], ink, cv2.LINE_AA, 4)
        cv2.polylines(target, [corners], True, ink, max(1, round(0.22 * unit)), cv2.LINE_AA, 4)
    limb(("neck", "head"), 0.2, (140, 170, 220))
    for target, ink in ((image, (140, 170, 220)), (mask, (255,))):
        center = np.rint(joints["head"] * 16).astype(np.int32).tolist()
        cv2.circle(target, center, round(0.3 * unit * 16), ink, cv2.FILLED, cv2.LINE_AA, 4)
    for side, shade in (("left", 0), ("right", 40)):
        limb((f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"), 0.2, (60, 170 + shade, 60))
    for side in ("left", "right"):
        hand = np.rint(joints[f"{side}_wrist"] * 16).astype(np.int32).tolist()
        cv2.circle(image, hand, round(0.05 * unit * 16), (250, 250, 250), cv2.FILLED, cv2.LINE_AA, 4)
    return image, mask, joints
