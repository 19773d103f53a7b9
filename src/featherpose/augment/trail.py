"""Where a joint was in the last moments."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

__all__ = ["Trail"]


class Trail:
    """Rows of (seconds, x, y) in the order of time, kept in one array.

    Example:
        >>> trail = Trail()
        >>> for second in range(4):
        ...     trail.add(second, 10.0 * second, 5.0)
        >>> trail.forget(2.0)
        >>> trail.rows.tolist()
        [[2.0, 20.0, 5.0], [3.0, 30.0, 5.0]]
    """

    __slots__ = ("_end", "_start", "_store")

    def __init__(self) -> None:
        self._store = np.empty((32, 3))
        self._start = self._end = 0

    @property
    def rows(self) -> Float64[np.ndarray, "n 3"]:
        """float64[n, 3], oldest first; a view that the next change may overwrite."""
        return self._store[self._start : self._end]

    def add(self, now_s: float, x: float, y: float) -> None:
        """Add the present place."""
        if self._end == len(self._store):
            # What is left moves to the front; a store that is more than half full doubles.
            kept = self.rows.copy()
            if 2 * len(kept) > len(self._store):
                self._store = np.empty((2 * len(self._store), 3))
            self._store[: len(kept)] = kept
            self._start, self._end = 0, len(kept)
        self._store[self._end] = now_s, x, y
        self._end += 1

    def forget(self, before_s: float) -> None:
        """Remove places that are older than a moment."""
        while self._start < self._end and self._store[self._start, 0] < before_s:
            self._start += 1

    def clear(self) -> None:
        """Remove all places."""
        self._start = self._end = 0
