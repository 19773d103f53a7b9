"""Stretches of time in which something holds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

__all__ = ["true_runs"]


def true_runs(holds: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """Return (first row, first row after it) of each stretch of True.

    Example:
        >>> true_runs(np.array([True, True, False, True]))
        [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(holds, prepend=False, append=False))
    return [(first, last) for first, last in edges.reshape(-1, 2).tolist()]
