"""Task-aligned assignment of cells to people, one by one in plain Python, to which the vectorized form is held."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

__all__ = ["assign"]

_SCORE_POWER, _OVERLAP_POWER, _CELLS = 1.0, 6.0, 10


def assign(
    boxes: Sequence[Sequence[float]],
    scores: Sequence[float],
    people: Sequence[Sequence[float]],
    centers: Sequence[Sequence[float]],
) -> tuple[list[int], Float64[np.ndarray, " N"]]:
    """Choose what each cell of one image learns, as `featherpose.methods.boxes.box_loss.assign` does.

    Args:
        boxes: What the cells answer: (left, top, right, bottom).
        scores: Likewise.
        people: Boxes of the people.
        centers: Of the cells, (x, y).

    Returns:
        For each cell the person, -1 for background, and the score to learn.
    """
    candidates: list[list[int]] = []
    for left, top, right, bottom in people:
        inside = [n for n, (x, y) in enumerate(centers) if left < x < right and top < y < bottom]
        middle = ((left + right) / 2, (top + bottom) / 2)
        away = [(x - middle[0]) ** 2 + (y - middle[1]) ** 2 for x, y in centers]
        if not inside:
            inside = sorted(range(len(centers)), key=lambda n: away[n])[:2]
        candidates.append(inside)
    fits = [{n: _fit(boxes[n], scores[n], person) for n in own} for own, person in zip(candidates, people, strict=True)]
    wanted = [sorted(fit, key=lambda n: -fit[n])[:_CELLS] for fit in fits]
    owners = [-1] * len(centers)
    for n in range(len(centers)):
        takers = [p for p in range(len(people)) if n in wanted[p]]
        if takers:
            owners[n] = max(takers, key=lambda p: _overlap(boxes[n], people[p]))
    levels = np.zeros(len(centers))
    for p, person in enumerate(people):
        own = [n for n in range(len(centers)) if owners[n] == p]
        if own:
            best = max(fits[p][n] for n in own)
            closest = max(_overlap(boxes[n], person) for n in own)
            for n in own:
                levels[n] = fits[p][n] / max(best, 1e-12) * closest
    return owners, levels


def _fit(box: Sequence[float], score: float, person: Sequence[float]) -> float:
    return float(score**_SCORE_POWER * _overlap(box, person) ** _OVERLAP_POWER)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
