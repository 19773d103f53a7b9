"""Of several boxes of one person the best stays: greedy suppression by intersection over union, compiled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from featherpose.jit import kernel
from featherpose.option_ranges import check_within

__all__ = ["PeopleRowOptions", "best_rows", "likely_rows", "suppress_boxes"]

# Suppression is quadratic; a crowd has hundreds of people, of each of whom a dozen rows speak.
_MOST_ROWS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleRowOptions:
    """Rules by which rows of boxes and keypoints become people.

    Attributes:
        min_score: Rows of lower score are nobody.
        max_overlap: Of two boxes with a larger intersection over union the better one stays.
        min_keypoint_score: Keypoints of lower score are missing.
        min_keypoints: People with fewer keypoints are dropped.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_score: float = 0.05
    max_overlap: float = 0.6
    min_keypoint_score: float = 0.02
    min_keypoints: int = 1

    def __post_init__(self) -> None:
        for name in ("min_score", "max_overlap", "min_keypoint_score"):
            check_within(name, getattr(self, name), 0, 1)
        check_within("min_keypoints", self.min_keypoints, 1, 1000)


@kernel
def _suppress(boxes, order, limit, kept):  # type: ignore[no-untyped-def]
    """Write the indices that stay into ``kept`` and return their number."""
    count = 0
    areas = np.zeros(len(boxes), np.float32)
    for i in range(len(boxes)):
        areas[i] = max(boxes[i, 2] - boxes[i, 0], np.float32(0)) * max(boxes[i, 3] - boxes[i, 1], np.float32(0))
    for i in order:
        alone = True
        for n in range(count):
            j = kept[n]
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            if shared > limit * (areas[i] + areas[j] - shared):
                alone = False
                break
        if alone:
            kept[count] = i
            count += 1
    return count


def likely_rows(scores: Float32[np.ndarray, " N"], min_score: float) -> Int64[np.ndarray, " n"]:
    """Choose the rows of a detector that may be somebody, in their order: those of a score, the best of very many.

    Example:
        >>> likely_rows(np.float32([0.1, 0.6, np.nan, 0.4]), 0.3).tolist()
        [1, 3]
    """
    chosen = np.flatnonzero(scores >= max(min_score, 1e-6))  # False for NaN
    if len(chosen) > _MOST_ROWS:
        chosen = np.sort(chosen[np.argsort(-scores[chosen], kind="stable")[:_MOST_ROWS]])
    return chosen


def suppress_boxes(
    boxes: Float32[np.ndarray, "N 4"], scores: Float32[np.ndarray, " N"], max_overlap: float
) -> Int64[np.ndarray, " n"]:
    """Choose the boxes that stay, best first.

    Args:
        boxes: (left, top, right, bottom).
        scores: Of equal ones the first box counts as better.
        max_overlap: A box whose intersection over union with a better one is larger is dropped.

    Example:
        >>> boxes = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
        >>> suppress_boxes(boxes, np.float32([0.5, 0.9, 0.7]), 0.5).tolist()
        [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.empty(len(boxes), np.int64)
    count = _suppress(np.ascontiguousarray(boxes, np.float32), order, np.float32(max_overlap), kept)
    return kept[:count]


def best_rows(
    boxes: Float32[np.ndarray, "N 4"], scores: Float32[np.ndarray, " N"], *, min_score: float, max_overlap: float
) -> Int64[np.ndarray, " n"]:
    """Choose the rows of a detector that are people, best first; rows without a finite box are nobody.

    Args:
        boxes: (left, top, right, bottom).
        scores: Of the boxes.
        min_score: Rows of lower score are nobody.
        max_overlap: Of two boxes with a larger intersection over union the better one stays.

    Example:
        >>> boxes = np.float32([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [np.nan, 0, 50, 10]])
        >>> best_rows(boxes, np.float32([0.5, 0.9, 0.7, 1.0]), min_score=0.3, max_overlap=0.5).tolist()
        [1, 2]
    """
    finite = np.isfinite(boxes).all(axis=1)
    rows = likely_rows(np.where(finite, scores, np.float32(np.nan)), min_score)
    return np.asarray(rows[suppress_boxes(boxes[rows], scores[rows], max_overlap)], np.int64)
