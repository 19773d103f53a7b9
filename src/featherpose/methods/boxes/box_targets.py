"""Training targets of boxes: everyone's box in a list of fixed length, and where nothing is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ConfigError
from featherpose.methods.gaussians import ignore_boxes
from featherpose.methods.method import Target

__all__ = ["KNOWN_STRIDE", "BoxTargets", "box_target", "visible_people"]

KNOWN_STRIDE = 8
"""Pixels per cell of the map of what is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTargets:
    """Form of the training targets.

    Attributes:
        max_people: Boxes of a view at most; of more the largest are taken.
        min_side_px: What lies in boxes with a shorter side, view pixels, is neither a person nor background.
        min_visible: The same for boxes of which a smaller part lies in the view.

    Raises:
        ConfigError: If a value is outside its range.
    """

    max_people: int = 24
    min_side_px: float = 6.0
    min_visible: float = 0.25

    def __post_init__(self) -> None:
        if self.max_people < 1 or self.min_side_px < 1 or not 0 <= self.min_visible <= 1:
            raise ConfigError(f"targets {self} are impossible", expected="at least 1, at least 1, from 0 to 1")


def visible_people(
    boxes: Float32[np.ndarray, "P 4"], size: tuple[int, int], targets: BoxTargets
) -> tuple[Float32[np.ndarray, "P 4"], list[int], list[int]]:
    """Cut boxes at the border of the view, and tell those to be learned from those to be ignored.

    Args:
        boxes: (left, top, right, bottom), view pixels, the center of the first one at 0.
        size: (width, height) of the view.
        targets: Form of the targets.

    Returns:
        The boxes, cut, in pixels counted from the edge of the first one; the numbers of those to be learned, the
        largest first; and of those to be ignored.

    Example:
        >>> boxes = np.array([[-40, 0, 9, 49], [19.5, 19.5, 39.5, 60], [200, 0, 210, 9]], np.float32)
        >>> cut, learned, ignored = visible_people(boxes, (50, 50), BoxTargets())
        >>> cut[1].tolist(), learned, ignored
        ([20.0, 20.0, 40.0, 50.0], [1], [0])
    """
    edges = boxes + np.float32(0.5)
    cut = np.clip(edges, 0, np.array([*size, *size], np.float32))
    sides, whole = cut[:, 2:] - cut[:, :2], edges[:, 2:] - edges[:, :2]
    areas = sides.prod(axis=1)
    inside = areas > 0
    large = sides.min(axis=1, initial=np.inf) >= targets.min_side_px
    learned = inside & large & (areas >= targets.min_visible * whole.prod(axis=1))
    order = np.argsort(-areas, kind="stable")
    chosen = [int(i) for i in order if learned[i]]
    ignored = [int(i) for i in np.flatnonzero(inside & ~learned)]
    return cut, chosen[: targets.max_people], [*ignored, *chosen[targets.max_people :]]


def box_target(
    boxes: Float32[np.ndarray, "P 4"],
    ignore: Float32[np.ndarray, "n 4"],
    size: tuple[int, int],
    targets: BoxTargets,
) -> tuple[Target, list[int]]:
    """Write the boxes of the people as a detector answers them.

    Args:
        boxes: Of the people, view pixels.
        ignore: Boxes in which nothing is known, except inside of ``boxes``.
        size: (width, height) of the view.
        targets: Form of the targets.

    Returns:
        ``boxes`` float32[1, N, 4] and ``scores`` float32[1, N, 1], 1 for a person and 0 for an empty row, with the map
        of what is known as their mask; and the number of each person in the rows.
    """
    cut, learned, ignored = visible_people(boxes, size, targets)
    rows = np.zeros((1, targets.max_people, 4), np.float32)
    scores = np.zeros((1, targets.max_people, 1), np.float32)
    rows[0, : len(learned)] = cut[learned]
    scores[0, : len(learned)] = 1
    known = ignore_boxes(np.concatenate([ignore, boxes[ignored]]), size, KNOWN_STRIDE)
    inside = 1 - ignore_boxes(boxes[learned], size, KNOWN_STRIDE)
    known = np.maximum(known, inside)
    return Target({"boxes": rows, "scores": scores}, {"boxes": known, "scores": known}), learned
