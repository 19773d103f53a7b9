"""BVH: a planar rig for Blender and game engines, one rotation a joint about the axis of view.

Bones keep one length, the median over time, and take their direction from the keypoints; so joints lie where the
keypoints are as far as a rigid skeleton can (the middle of the hips exactly). A bone whose keypoints are missing keeps
its last direction, because the format knows no gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featherpose.errors import OutputError
from featherpose.files import write_bytes
from featherpose.motion.body_points import body_points
from featherpose.motion.sequence import PoseSequence

__all__ = ["write_bvh"]

# Child -> parent; directions of the rest pose, y up, as in a person who stands with arms down, facing +x.
_TREE = {
    "neck": "mid_hip", "head": "neck",
    **{f"{s}_{part}": parent.format(s=s)
       for s in ("left", "right")
       for part, parent in (
           ("shoulder", "neck"), ("elbow", "{s}_shoulder"), ("wrist", "{s}_elbow"),
           ("hip", "mid_hip"), ("knee", "{s}_hip"), ("ankle", "{s}_knee"), ("big_toe", "{s}_ankle"),
       )},
}  # fmt: skip
_REST = {"neck": (0.0, 1.0), "head": (0.0, 1.0), "big_toe": (1.0, 0.0), "shoulder": (1.0, 0.0), "hip": (1.0, 0.0)}
_MIN_LENGTH = 1e-6


@dataclass(slots=True)
class _Joint:
    name: str
    offset: tuple[float, float]
    rotation: np.ndarray
    children: list[_Joint] = field(default_factory=list)
    end: tuple[float, float] | None = None


def write_bvh(path: str | Path, sequence: PoseSequence, person: int = 0) -> None:
    """Write one person as a planar rig: centimeters with a scale, else pixels; y up, z = 0.

    A joint that carries several bones (hips, neck) turns with the trunk; its other bones get a joint of their own.

    Args:
        path: Name ending in ``.bvh``.
        sequence: Poses over time; its median rate is the file's.
        person: Place of the person.

    Raises:
        OutputError: If the file cannot be written, or hips and trunk are never seen.
    """
    path = Path(path)
    factor = 100.0 if sequence.unit == "m" else 1.0
    up = 1.0 if sequence.unit == "m" else -1.0
    points = _points(sequence, person, factor, up)
    if "mid_hip" not in points or "neck" not in points or not len(points["mid_hip"]):
        raise OutputError(f"{path} cannot be written: hips and shoulders are never seen", hint="choose another person")
    directions, lengths = _bones(points)
    root = _joint("mid_hip", np.zeros(sequence.num_frames), (0.0, 0.0), directions, lengths)
    lines = ["HIERARCHY"]
    columns: list[np.ndarray] = [points["mid_hip"][:, 0], points["mid_hip"][:, 1], np.zeros(sequence.num_frames)]
    _describe(root, 0, lines, columns)
    step = 1 / sequence.rate_hz if sequence.num_frames > 1 else 0.04
    lines += ["MOTION", f"Frames: {sequence.num_frames}", f"Frame Time: {step:.8f}"]
    table = np.stack(columns, -1)
    lines += [" ".join(f"{value:.6f}" for value in row) for row in table.tolist()]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _points(sequence: PoseSequence, person: int, factor: float, up: float) -> dict[str, np.ndarray]:
    """Return coordinates with y up, gaps filled with the last known value (the first one before it)."""
    names = {*_TREE, "mid_hip", "head_top", "mid_ear", "nose"} - {"head"}
    out = {}
    for name, value in body_points(sequence, sorted(names)).items():
        points = value[:, person] * np.array([factor, up * factor])
        known = np.flatnonzero(np.isfinite(points[:, 0]))
        if len(known):
            last = np.maximum.accumulate(np.where(np.isfinite(points[:, 0]), np.arange(len(points)), -1))
            out[name] = points[np.where(last < 0, known[0], last)]
    for name in ("head_top", "mid_ear", "nose"):
        if name in out:
            out["head"] = out[name]
            break
    return out


def _bones(points: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the direction of each bone in degrees, unwrapped over time, and its length."""
    directions, lengths = {}, {}
    for child, parent in _TREE.items():
        if child in points and parent in points:
            vector = points[child] - points[parent]
            lengths[child] = max(float(np.median(np.hypot(*vector.T))), _MIN_LENGTH)
            directions[child] = np.degrees(np.unwrap(np.arctan2(vector[:, 1], vector[:, 0])))
    return directions, lengths


def _rest(name: str) -> tuple[float, float]:
    return _REST.get(name.split("_", 1)[-1] if name not in _REST else name, (0.0, -1.0))


def _joint(
    name: str, turned: np.ndarray, offset: tuple[float, float],
    directions: dict[str, np.ndarray], lengths: dict[str, float],
) -> _Joint:  # fmt: skip
    """Yield the lines of the joint at the start of bones; ``turned`` is the rotation of its parents."""
    children = [child for child, parent in _TREE.items() if parent == name and child in directions]
    if len(children) == 1:
        return _with_bone(_Joint(name, offset, np.zeros_like(turned)), children[0], turned, directions, lengths)
    # Several bones: the joint itself does not turn; each bone begins in a separate joint at the same place.
    joint = _Joint(name, offset, np.zeros_like(turned))
    for child in children:
        own = _Joint(f"{name}_to_{child}", (0.0, 0.0), np.zeros_like(turned))
        joint.children.append(_with_bone(own, child, turned, directions, lengths))
    if not children:
        joint.end = (0.0, 0.0)
    return joint


def _with_bone(
    joint: _Joint, child: str, turned: np.ndarray, directions: dict[str, np.ndarray], lengths: dict[str, float]
) -> _Joint:
    rest = _rest(child)
    rest_angle = float(np.degrees(np.arctan2(rest[1], rest[0])))
    joint.rotation = (directions[child] - rest_angle - turned + 180) % 360 - 180
    joint.rotation = np.degrees(np.unwrap(np.radians(joint.rotation)))
    offset = (rest[0] * lengths[child], rest[1] * lengths[child])
    total = turned + joint.rotation
    if any(parent == child and grand in directions for grand, parent in _TREE.items()):
        joint.children.append(_joint(child, total, offset, directions, lengths))
    else:
        joint.end = offset
    return joint


def _describe(joint: _Joint, depth: int, lines: list[str], columns: list[np.ndarray]) -> None:
    pad = "\t" * depth
    lines += [f"{pad}{'ROOT' if depth == 0 else 'JOINT'} {joint.name}", f"{pad}{{"]
    lines.append(f"{pad}\tOFFSET {joint.offset[0]:.6f} {joint.offset[1]:.6f} 0.000000")
    if depth == 0:
        lines.append(f"{pad}\tCHANNELS 4 Xposition Yposition Zposition Zrotation")
    else:
        lines.append(f"{pad}\tCHANNELS 1 Zrotation")
    columns.append(joint.rotation)
    for child in joint.children:
        _describe(child, depth + 1, lines, columns)
    if joint.end is not None:
        lines += [
            f"{pad}\tEnd Site",
            f"{pad}\t{{",
            f"{pad}\t\tOFFSET {joint.end[0]:.6f} {joint.end[1]:.6f} 0.000000",
            f"{pad}\t}}",
        ]
    lines.append(f"{pad}}}")
