"""Synthetic crowds: the input of timings that need a known number of people.

Decoding time depends on how many people the maps show, which cannot be set for a network's maps. So the maps are
encoded from people placed here, and decoded by the same code as a network's.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32

from featherpose.errors import OptionError
from featherpose.skeleton import Skeleton

__all__ = ["lay_out_people"]

# A standing person, (x, y) as fractions of body height, feet at y = 1; left is the person's left, so larger x.
_STANDING = {
    "head_top": (0.00, 0.00), "nose": (0.00, 0.09), "neck": (0.00, 0.19), "mid_hip": (0.00, 0.53),
    "left_eye": (0.02, 0.07), "left_ear": (0.045, 0.08), "left_shoulder": (0.11, 0.19), "left_elbow": (0.15, 0.35),
    "left_wrist": (0.17, 0.50), "left_hip": (0.07, 0.53), "left_knee": (0.08, 0.75), "left_ankle": (0.09, 0.97),
    "left_big_toe": (0.12, 1.00), "left_small_toe": (0.14, 0.99), "left_heel": (0.08, 0.99),
}  # fmt: skip


def lay_out_people(
    count: int, skeleton: Skeleton, size: tuple[int, int], *, seed: int = 0
) -> Float32[np.ndarray, "P K 2"]:
    """Place people in rows that fill an image, each with limbs turned at random.

    Args:
        count: P people.
        skeleton: Its keypoints; those of unknown names are scattered over the body.
        size: (width, height) in pixels.
        seed: Of the poses.

    Returns:
        float32[P, K, 2], (x, y) in pixels.

    Raises:
        OptionError: If the count is negative.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> lay_out_people(3, COCO_17, (640, 360)).shape
        (3, 17, 2)
    """
    if count < 0:
        raise OptionError(f"{count} people", expected="none or more")
    width, height = size
    rng = np.random.default_rng(seed)
    body = np.array([_place(name, rng) for name in skeleton.keypoints], np.float32)
    # Cells about half as wide as high hold a person with the arms at the sides.
    columns = max(1, math.ceil(math.sqrt(count * width / height / 0.5)))
    rows = max(1, math.ceil(count / columns))
    cell = width / columns, height / rows
    tall = 0.9 * min(cell[1], 2.2 * cell[0])
    people = np.empty((count, len(body), 2), np.float32)
    for p in range(count):
        row, column = divmod(p, columns)
        person = body * tall * rng.uniform(0.85, 1.0)
        person += rng.normal(0, 0.012 * tall, person.shape)
        person[:, 0] += (column + 0.5) * cell[0]
        person[:, 1] += row * cell[1] + 0.5 * (cell[1] - tall)
        people[p] = person
    return people


def _place(name: str, rng: np.random.Generator) -> tuple[float, float]:
    if name in _STANDING:
        return _STANDING[name]
    mirrored = _STANDING.get("left_" + name.removeprefix("right_"))
    if mirrored is not None:
        return -mirrored[0], mirrored[1]
    return float(rng.uniform(-0.15, 0.15)), float(rng.uniform(0, 1))
