"""Detect people on every n-th frame of a video, and follow them by the single-person network between.

Between detections a person's box comes from the pose of the frame before, as in single-person trackers (Bazarevsky et
al. 2020, "BlazePose", section 2): a crop costs a small part of the whole image's network while people are few.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from featherpose.errors import OptionError
from featherpose.estimator import PendingPoses, PoseEstimator, StageTimes
from featherpose.poses import Poses

__all__ = ["DetectEvery"]


class DetectEvery:
    """An estimator for one video: the whole network on every n-th frame, crops around known people on the others.

    Results must be taken in the order of the frames, as `featherpose.process_stream` does. A frame before which nobody
    is known, or with more people than the budget has crops, is detected as well; so the cost of a frame is bounded.
    What the result is depends on the frames alone, never on the clock.

    Args:
        estimator: With a refiner; not closed here.
        every: Detect on each ``every``-th frame; 1 on all.

    Raises:
        OptionError: If ``every`` is not positive, or the estimator has no refiner.

    Example:
        >>> blank = np.full((240, 320, 3), 128, np.uint8)
        >>> with PoseEstimator(height=128) as estimator:
        ...     video = DetectEvery(estimator, 5)
        ...     [len(video.submit(blank).timed_result()[0]) for _ in range(3)]
        [0, 0, 0]
    """

    def __init__(self, estimator: PoseEstimator, every: int) -> None:
        if not 1 <= every <= 1000:
            raise OptionError(f"detection on every {every}th frame", expected="1 to 1000")
        if estimator.refiner is None:
            raise OptionError(
                "detection on some frames only, without refinement",
                expected="an estimator that refines people",
                hint="leave --refine at auto or all, and choose another quality than fast",
            )
        self._estimator = estimator
        self._refiner = estimator.refiner
        self._every = every
        self._frames = 0
        self._last: Poses | None = None
        self.detections = 0

    def submit(self, image: np.ndarray) -> _Tracked:
        """Start a frame; the image must not be changed before its result was taken."""
        whole = self._frames % self._every == 0
        self._frames += 1
        # On frames between, whether somebody is known is seen when their turn comes.
        return _Tracked(self, image, self._estimator.submit(image) if whole else None)

    def _finish(self, image: np.ndarray, pending: PendingPoses | None) -> tuple[Poses, StageTimes]:
        known, budget = self._last, self._refiner.budget_crops
        if pending is None and known is not None and len(known) > 0 and (budget is None or len(known) <= budget):
            started = perf_counter()
            poses = self._refiner.follow(image, known)
            times = StageTimes(0.0, 0.0, 0.0, 1e3 * (perf_counter() - started))
        else:
            self.detections += 1
            poses, times = (self._estimator.submit(image) if pending is None else pending).timed_result()
        self._last = poses
        return poses, times


class _Tracked:
    """A frame whose result is taken in turn."""

    __slots__ = ("_image", "_owner", "_pending")

    def __init__(self, owner: DetectEvery, image: np.ndarray, pending: PendingPoses | None) -> None:
        self._owner, self._image, self._pending = owner, image, pending

    def timed_result(self) -> tuple[Poses, StageTimes]:
        """Return the people of the frame, and the times by stage."""
        return self._owner._finish(self._image, self._pending)
