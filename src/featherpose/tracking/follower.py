"""Tracker, smoother and clock of one source in one object, for streams and for sessions of the server."""

from __future__ import annotations

import logging
from functools import cache

import numpy as np

from featherpose.errors import OptionError
from featherpose.poses import Poses
from featherpose.skeleton import OPENPOSE_18
from featherpose.tracking.smoothing import PoseSmoother
from featherpose.tracking.tracker import PoseTracker

__all__ = ["Follower", "warm_up"]

_log = logging.getLogger(__name__)


class Follower:
    """Follows the people of one source: assigns ids, then smooths joints; used by one thread at a time.

    Args:
        tracker: Assigns the ids; a new one with default options unless given.
        smoother: Smooths joints by these ids; likewise.
        smoothing: Whether joints are smoothed.
        max_step_s: None for a clock that can be trusted, such as a file's: when it goes back, ids start anew. A number
            for a clock that may jump, such as a remote client's: it is read as steps of 0 to ``max_step_s`` seconds,
            so that ids survive a jump.

    Attributes:
        smoothing: May be changed between frames.

    Raises:
        OptionError: If ``max_step_s`` is not positive.

    Example:
        >>> import numpy as np
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
        >>> one = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (100, 100))
        >>> follower = Follower()
        >>> [follower.update(one, frame / 25)[0].id for frame in range(3)]
        [None, 0, 0]
    """

    def __init__(
        self,
        tracker: PoseTracker | None = None,
        smoother: PoseSmoother | None = None,
        *,
        smoothing: bool = True,
        max_step_s: float | None = None,
    ) -> None:
        if max_step_s is not None and not max_step_s > 0:
            raise OptionError(f"a step of {max_step_s:g} s", expected="a positive number of seconds")
        self.smoothing = smoothing
        self._tracker = PoseTracker() if tracker is None else tracker
        self._smoother = PoseSmoother() if smoother is None else smoother
        self._max_step_s = max_step_s
        self._clock_s = 0.0
        self._last_s: float | None = None

    @property
    def tracker(self) -> PoseTracker:
        """Return the tracker."""
        return self._tracker

    def reset(self) -> None:
        """Forget all people: ids start anew with the next frame."""
        self._tracker.reset()
        self._smoother.reset()

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Return the people of the next frame with ids, and with smooth joints if ``smoothing`` is set.

        Args:
            poses: The people as they were detected.
            timestamp_s: Time of the frame in seconds.
        """
        now_s = self._time(timestamp_s)
        poses = self._tracker.update(poses, now_s)
        return self._smoother.update(poses, now_s) if self.smoothing else poses

    def _time(self, timestamp_s: float) -> float:
        last_s, self._last_s = self._last_s, timestamp_s
        if self._max_step_s is not None:
            if last_s is not None:
                self._clock_s += min(max(timestamp_s - last_s, 0.0), self._max_step_s)
            return self._clock_s
        if last_s is not None and timestamp_s < last_s:
            _log.warning("the time of the source went back from %.3f s to %.3f s: ids start anew", last_s, timestamp_s)
            self.reset()
        return timestamp_s


@cache
def warm_up() -> None:
    """Load the compiled kernels of tracking and smoothing, and SciPy's assignment, before the first frame needs them.

    Takes seconds on the first run ever, when kernels are compiled, a fraction of a second in each later process and
    nothing when called again; see `featherpose.jit.kernels_are_cached`. The kernels serve every skeleton.
    """
    tracker, smoother = PoseTracker(), PoseSmoother()
    points = np.random.default_rng(0).uniform(0, 100, (2, OPENPOSE_18.num_keypoints, 2)).astype(np.float32)
    scores = np.ones(points.shape[:2], np.float32)
    poses = Poses(points, scores, scores[:, 0], OPENPOSE_18, (100, 100))
    for frame in range(3):
        smoother.update(tracker.update(poses, frame / 25), frame / 25)
