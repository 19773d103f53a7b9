"""Grouping by tags in plain Python with scipy's assignment, to which the compiled kernels are held."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from scipy.optimize import linear_sum_assignment

__all__ = ["find_peaks", "group"]


def find_peaks(heatmap: Float32[np.ndarray, "h w"], threshold: float, limit: int) -> list[tuple[int, int, float]]:
    """Find the cells that are highest of the 5x5 around them: (x, y, height), best first, at most ``limit``."""
    height, width = heatmap.shape
    found = []
    for y in range(height):
        for x in range(width):
            value = float(heatmap[y, x])
            around = heatmap[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            earlier = [
                (v, u)
                for v in range(max(y - 2, 0), min(y + 3, height))
                for u in range(max(x - 2, 0), min(x + 3, width))
                if (v, u) < (y, x) and heatmap[v, u] == value
            ]
            if value > threshold and value >= np.nanmax(around) and not earlier:
                found.append((x, y, value))
    return sorted(found, key=lambda peak: -peak[2])[:limit]


def group(
    peaks: Sequence[Sequence[tuple[float, float]]], order: Sequence[int], max_distance: float
) -> list[dict[int, int]]:
    """Join peaks to people (Newell et al. 2017, section 3.3).

    Args:
        peaks: For each keypoint (height, tag) of its peaks.
        order: In which keypoints are taken.
        max_distance: A peak whose tag is farther from a person's mean tag starts a person of its own.

    Returns:
        For each person the number of its peak by keypoint.
    """
    people: list[dict[int, int]] = []
    tags: list[list[float]] = []
    for k in order:
        here = peaks[k]
        chosen: dict[int, int] = {}
        if people and here:
            means = np.array([np.mean(known) for known in tags])
            distances = np.abs(np.array([tag for _, tag in here])[:, None] - means[None])
            costs = np.rint(distances) * 100 - np.array([height for height, _ in here])[:, None]
            rows, columns = linear_sum_assignment(np.pad(costs, ((0, 0), (0, len(here))), constant_values=1e6))
            chosen = {
                int(i): int(p)
                for i, p in zip(rows, columns, strict=True)
                if p < len(people) and distances[i, p] < max_distance
            }
        for i, (_, tag) in enumerate(here):
            if i in chosen:
                people[chosen[i]][k] = i
                tags[chosen[i]].append(tag)
            else:
                people.append({k: i})
                tags.append([tag])
    return people
