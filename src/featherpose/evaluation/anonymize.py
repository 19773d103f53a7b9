"""How well heads are hidden, measured on annotated photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featherpose.augment.bodies import head_sizes
from featherpose.augment.privacy.anonymize import hidden_area
from featherpose.augment.privacy.heads import Heads
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17

__all__ = ["HeadTruth", "HiddenShare", "heads_of_labels", "judge_heads", "summarize"]

_FACE = ("nose", "left_eye", "right_eye")


@dataclass(frozen=True, slots=True, eq=False)
class HeadTruth:
    """A labeled head.

    Attributes:
        points: float[n, 2], the labeled nose and eyes in pixels.
        size_px: Height of the head, from the labels as `featherpose.augment.bodies.head_sizes` estimates it.
    """

    points: np.ndarray
    size_px: float


@dataclass(frozen=True, slots=True)
class HiddenShare:
    """Heads of a range of sizes.

    Attributes:
        name: The range.
        heads: How many.
        hidden: How many have all labeled noses and eyes in the hidden area.
    """

    name: str
    heads: int
    hidden: int

    @property
    def share(self) -> float:
        """Share that is hidden; NaN without heads."""
        return self.hidden / self.heads if self.heads else float("nan")


def heads_of_labels(people: Sequence[np.ndarray]) -> list[HeadTruth]:
    """Return the heads of labeled people whose nose or an eye is labeled.

    Args:
        people: [17, 3] each, COCO's (x, y, visibility).
    """
    if not people:
        return []
    labels = np.asarray(people, np.float32).reshape(-1, 17, 3)
    seen = labels[..., 2] > 0
    points = np.where(seen[..., None], labels[..., :2], np.float32(np.nan))
    poses = Poses(points, seen.astype(np.float32), np.ones(len(labels), np.float32), COCO_17, (0, 0))
    sizes = head_sizes(poses)
    face = [COCO_17.index(name) for name in _FACE]
    return [
        HeadTruth(points[p, face][seen[p, face]].astype(np.float64), float(sizes[p]))
        for p in range(len(labels))
        if seen[p, face].any() and sizes[p] > 0
    ]


def judge_heads(
    truth: Sequence[HeadTruth], heads: Heads, size: tuple[int, int], unknown: Sequence[Sequence[float]] = ()
) -> tuple[list[bool], float]:
    """Tell which heads of an image are hidden, and how much of it is hidden for nothing.

    Args:
        truth: Labeled heads.
        heads: What is hidden.
        size: (width, height) of the image.
        unknown: Boxes (left, top, right, bottom) of people without labels, where nothing is known.

    Returns:
        For each labeled head whether all its points are hidden; and the share of the image that is hidden, lies
        further from every labeled head than its own height, and outside the boxes of people without labels.
    """
    area = hidden_area(heads, size)
    hidden = []
    for head in truth:
        at = np.rint(head.points).astype(int)
        inside = ((at >= 0) & (at < size)).all(-1)
        hidden.append(bool(area[at[inside, 1], at[inside, 0]].all()))
    rest = area.copy()
    for head in truth:
        center = head.points.mean(0)
        x0, y0 = (max(0, int(v)) for v in center - head.size_px)
        x1, y1 = (max(0, int(v) + 1) for v in center + head.size_px)
        rest[y0:y1, x0:x1] = False
    for box in unknown:
        left, top, right, bottom = (max(0, int(v)) for v in box)
        rest[top : bottom + 1, left : right + 1] = False
    return hidden, float(rest.mean())


def summarize(sizes: Sequence[float], hidden: Sequence[bool]) -> list[HiddenShare]:
    """Count heads by size: under 8 px, 8 to 16, 16 to 32, 32 and more, and all from 16."""
    values, done = np.asarray(sizes), np.asarray(hidden, bool)
    ranges = ((0, 8, "< 8 px"), (8, 16, "8-16 px"), (16, 32, "16-32 px"), (32, np.inf, ">= 32 px"),
              (16, np.inf, ">= 16 px"))  # fmt: skip
    return [
        HiddenShare(name, int(which.sum()), int(done[which].sum()))
        for low, high, name in ranges
        for which in [(values >= low) & (values < high)]
    ]
