"""One network at several input heights: large and small people, and every keypoint that any of them sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from featherpose.errors import OptionError
from featherpose.estimator import PendingPoses, PoseEstimator, StageTimes
from featherpose.poses import Candidates, Poses
from featherpose.tiling import merge_scales

__all__ = ["BEST_HEIGHTS", "SeveralHeights"]

BEST_HEIGHTS = (256, 512, 1024)
"""Heights that together hide the most heads: twice each other, so that every head is of a size that one sees well."""


class _Pending:
    """An image at all heights."""

    def __init__(self, parts: list[PendingPoses]) -> None:
        self._parts = parts

    def wait(self) -> None:
        """Return when the network is done."""
        for part in self._parts:
            part.wait()

    def timed_result(self) -> tuple[Poses, StageTimes]:
        """Everyone of all heights, each once, and where the time went."""
        results = [part.timed_result() for part in self._parts]
        found = [poses for poses, _ in results]
        poses = reduce(merge_scales, found[::-1])
        candidates = [one.candidates for one in found if one.candidates is not None]
        times = np.sum([list(t.by_stage().values()) for _, t in results], 0)
        joined = Candidates.joined(candidates) if candidates else None
        return replace(poses, candidates=joined), StageTimes(*times.tolist())


class SeveralHeights:
    """Estimators of one network at several input heights, as one.

    Args:
        model: As `featherpose.PoseEstimator` takes it.
        heights: Network input heights in pixels.
        candidates: As `featherpose.PoseEstimator` takes it.
        more: Further arguments of `featherpose.PoseEstimator`.

    Raises:
        OptionError: If there is no height.

    Example:
        >>> with_both = SeveralHeights(heights=(128, 256), candidates=0.05)
        >>> poses, _ = with_both.submit(np.full((240, 320, 3), 128, np.uint8)).timed_result()
        >>> len(poses), len(poses.candidates)
        (0, 0)
        >>> with_both.close()
    """

    def __init__(
        self, model: Any = None, *, heights: Sequence[int] = BEST_HEIGHTS, candidates: float | None = None, **more: Any
    ) -> None:
        if not heights:
            raise OptionError("no height", expected="one or more")
        first = PoseEstimator(model, height=heights[0], candidates=candidates, **more)
        self.estimators = [first, *(first.at_height(height) for height in heights[1:])]

    def submit(self, image: object) -> _Pending:
        """Start an image and return while its networks run."""
        return _Pending([estimator.submit(image) for estimator in self.estimators])

    def close(self) -> None:
        """Release the engine."""
        self.estimators[0].close()
