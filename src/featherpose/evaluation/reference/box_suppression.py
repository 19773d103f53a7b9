"""Greedy suppression of boxes in plain Python, to which the compiled kernel is held."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

__all__ = ["suppress_boxes"]


def suppress_boxes(
    boxes: Float32[np.ndarray, "N 4"], scores: Float32[np.ndarray, " N"], max_overlap: float
) -> list[int]:
    """Return the indices that stay, best first, as `featherpose.methods.boxes.box_suppression.suppress_boxes` does."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i)):
        if all(_overlap(boxes[i], boxes[j]) <= max_overlap for j in kept):
            kept.append(i)
    return kept


def _overlap(a: Float32[np.ndarray, "4"], b: Float32[np.ndarray, "4"]) -> float:
    """Intersection over union; 0 for boxes without extent."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    areas = float((a[2] - a[0]) * (a[3] - a[1])) + float((b[2] - b[0]) * (b[3] - b[1]))
    return shared / (areas - shared)
