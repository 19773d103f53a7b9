"""Similarity of a generator's images to the real frames, on the last part of its video, beside two simple baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from featherpose.augment.bodies import named_points
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import Skeleton
from featherpose.transfer.footage import Footage, nearest_frame
from featherpose.transfer.generator_drawing import GeneratorArtist
from featherpose.transfer.puppet import Puppet, joints_of
from featherpose.transfer.retargeting import Body
from featherpose.transfer.similarity import psnr, ssim

__all__ = ["Likeness", "judge_generator", "person_box"]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Mean similarity to the real frames inside the person's box.

    Attributes:
        name: ``generator``, ``nearest frame``, ``nearest frame, shifted`` or ``puppet``.
        psnr_db: Peak signal to noise ratio.
        ssim: Structural similarity.
        frames: How many frames.
    """

    name: str
    psnr_db: float
    ssim: float
    frames: int


def person_box(points: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom around a pose, a tenth larger, inside an image of ``size`` (width, height)."""
    seen = points[np.isfinite(points[:, 0])]
    low, high = seen.min(0), seen.max(0)
    margin = 0.1 * float((high - low).max())
    x0, y0 = (int(max(0, v)) for v in low - margin)
    x1, y1 = (int(min(side, v + 1)) for v, side in zip(high + margin, size, strict=True))
    return x0, y0, x1, y1


def judge_generator(
    artist: GeneratorArtist, held_out: Footage
) -> tuple[list[Likeness], Iterator[UInt8[np.ndarray, "h w 3"]]]:
    """Compare the generator with two baselines on frames that were not used for training.

    Args:
        artist: The generator; its footage is what it was trained on.
        held_out: The frames that follow.

    Returns:
        The similarity of each; and for some frames pictures side by side: the real one, the generator, the nearest
        frame (shifted to lie on the person), the puppet.
    """
    training = artist.footage
    puppet = _best_puppet(training)
    sums: dict[str, list[tuple[float, float]]] = {}
    sheets = []
    drawn = artist.draw_all(held_out.points)
    rows = np.linspace(0, len(held_out.frames) - 1, 8).astype(int).tolist()
    for t, generated in enumerate(drawn):
        truth, points = held_out.frames[t], held_out.points[t]
        near, shift = nearest_frame(points, training)
        pose = joints_of(points, held_out.skeleton)
        pictures = {
            "generator": generated,
            "nearest frame": training.frames[near],
            "nearest frame, shifted": _shifted(training.frames[near], training.plate, shift),
        }
        if puppet is not None and "neck" in pose and "mid_hip" in pose:
            pictures["puppet"] = puppet.render(pose, background=training.plate)
        x0, y0, x1, y1 = person_box(points, held_out.size)
        for name, picture in pictures.items():
            a, b = picture[y0:y1, x0:x1], truth[y0:y1, x0:x1]
            sums.setdefault(name, []).append((psnr(a, b), ssim(a, b)))
        if t in rows:
            shown = [truth, generated, pictures["nearest frame, shifted"], pictures.get("puppet", truth)]
            sheets.append(np.vstack(shown))
    likeness = [
        Likeness(name, round(float(np.mean(values, 0)[0]), 3), round(float(np.mean(values, 0)[1]), 4), len(values))
        for name, values in sums.items()
    ]
    return likeness, iter(sheets)


def _shifted(
    frame: UInt8[np.ndarray, "H W 3"], plate: UInt8[np.ndarray, "H W 3"], shift: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    from featherpose.transfer.footage import Window
    from featherpose.transfer.generator_drawing import shifted_window

    height, width = frame.shape[:2]
    return shifted_window(frame, plate, Window(width, height), (0, 0), shift)


def _best_puppet(footage: Footage) -> Puppet | None:
    """Make the still-image puppet of the frame that shows the person most complete, upright and from the front."""
    names = named_points(footage.skeleton)

    def at(name: str) -> np.ndarray:
        return np.asarray(footage.points[:, list(names[name])].mean(1))

    limbs = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right")
             for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))]  # fmt: skip
    needed = {name for limb in limbs for name in limb}
    if not needed | {"neck", "mid_hip"} <= names.keys():
        return None
    trunk = np.hypot(*(at("neck") - at("mid_hip")).T)
    wide = np.abs((at("left_shoulder") - at("right_shoulder"))[:, 0]) / trunk
    down = np.mean([(at(b) - at(a))[:, 1] for a, b in limbs], 0) / trunk
    score = np.where(np.isfinite(wide + down), wide + down, -np.inf)
    row = int(np.argmax(score))
    if not np.isfinite(score[row]):
        return None
    return Puppet(footage.frames[row], joints_of(footage.points[row], footage.skeleton), background=footage.plate)


def body_of_footage(footage: Footage) -> Body:
    """Return the proportions and place of the person of a training video."""
    return Body.of(sequence_of(footage.points, footage.skeleton))


def sequence_of(points: np.ndarray, skeleton: Skeleton) -> PoseSequence:
    """Return keypoints [T, K, 2] as a sequence, 25 frames a second."""
    return PoseSequence.from_arrays(points, np.arange(len(points)) / 25, skeleton)
