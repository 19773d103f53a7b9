"""Joints that stop trembling: the One-Euro filter on real timestamps, one filter a joint, kept by track id.

Casiez, Roussel and Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012. A low-pass filter whose cut-off rises with speed: slow joints tremble less, fast ones lag less. Two changes:
speed is measured in body sizes a second (`featherpose.tracking.motion.pose_sizes`), so that the setting does not
depend on the resolution, and one speed serves x and y of a joint, so that a diagonal movement is not bent.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from featherpose.errors import OptionError, SkeletonError
from featherpose.poses import Poses
from featherpose.tracking.motion import pose_sizes
from featherpose.tracking.options import SmoothOptions

__all__ = ["PoseSmoother"]


class PoseSmoother:
    """Smooths the keypoints of tracked people.

    Separate from the tracker, which works on the detections themselves; only its ids are used. The first sight of a
    person or joint passes unchanged; so do people without an id (-1). A missing keypoint stays missing. Coordinates
    are smoothed as they are, never rounded before.

    Args:
        options: How much trembling is traded for how much delay.

    Example:
        >>> from featherpose.skeleton import LSP_14
        >>> smoother = PoseSmoother()
        >>> rng = np.random.default_rng(0)
        >>> still = rng.uniform(0, 200, (1, 14, 2))
        >>> def frame() -> Poses:
        ...     points = (still + rng.normal(0, 2, still.shape)).astype(np.float32)
        ...     poses = Poses(points, np.ones((1, 14), np.float32), np.ones(1, np.float32), LSP_14, (200, 200))
        ...     return poses.with_track_ids(np.zeros(1, np.int64))
        >>> out = [smoother.update(frame(), timestamp_s=i / 30).keypoints for i in range(60)]
        >>> bool(np.std(out[30:], axis=0).mean() < 1)  # of 2 pixels
        True
    """

    def __init__(self, options: SmoothOptions | None = None) -> None:
        self._options = options or SmoothOptions()
        self.reset()

    @property
    def options(self) -> SmoothOptions:
        """The setting."""
        return self._options

    def reset(self) -> None:
        """Forget everybody."""
        self._time_s = -math.inf
        self._ids = np.empty(0, np.int64)
        self._points = np.empty((0, 0, 2))
        self._speeds = np.empty((0, 0, 2))
        self._sizes = np.empty(0)
        self._seen_s = np.empty((0, 0))

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Smooth the next frame.

        Args:
            poses: Tracked people (``track_ids`` not None), in pixels of the source.
            timestamp_s: When the frame was taken, seconds; not before the previous frame's.

        Returns:
            The same people with smoothed keypoints; everything else is unchanged.

        Raises:
            OptionError: If the people have no ids, an id occurs twice, or time goes backwards.
            SkeletonError: If the skeleton is another than before.
        """
        if poses.track_ids is None:
            raise OptionError("poses without track ids", expected="the result of PoseTracker.update")
        if not math.isfinite(timestamp_s) or timestamp_s < self._time_s:
            raise OptionError(
                f"timestamp {timestamp_s} s after {self._time_s} s",
                expected="times that do not decrease",
                hint="call reset() when a source starts again",
            )
        self._time_s = timestamp_s
        k = poses.skeleton.num_keypoints
        if len(self._ids) == 0:
            self._points, self._speeds = np.empty((0, k, 2)), np.empty((0, k, 2))
            self._seen_s = np.empty((0, k))
        elif self._points.shape[1] != k:
            raise SkeletonError(
                f"poses with {k} keypoints", expected=f"{self._points.shape[1]} as in the frames before"
            )
        columns = np.flatnonzero(poses.track_ids >= 0)
        rows = self._rows_of(poses.track_ids[columns], k)
        raw = poses.keypoints[columns].astype(np.float64)
        found = ~np.isnan(raw[..., 0])

        sizes = np.maximum(self._sizes[rows], pose_sizes(poses.keypoints[columns]))
        elapsed = timestamp_s - self._seen_s[rows]
        # Two frames of one instant: a step of a microsecond leaves the filter where it was.
        step = np.maximum(elapsed, 1e-6)[..., None]
        restart = found & ~(elapsed <= self._options.max_gap_s)
        go_on = found & ~restart

        before = self._points[rows]
        speed = (raw - before) / (step * sizes[:, None, None])
        speed = self._speeds[rows] + _gain(self._options.derivative_cutoff_hz, step) * (speed - self._speeds[rows])
        cutoff = self._options.min_cutoff_hz + self._options.beta * np.hypot(speed[..., :1], speed[..., 1:])
        smooth = before + _gain(cutoff, step) * (raw - before)

        points = np.where(restart[..., None], raw, np.where(go_on[..., None], smooth, before))
        self._points[rows] = points
        self._speeds[rows] = np.where(restart[..., None], 0.0, np.where(go_on[..., None], speed, self._speeds[rows]))
        self._seen_s[rows] = np.where(found, timestamp_s, self._seen_s[rows])
        # A size that shrinks slowly: a person who loses a leg to a table does not become smaller at once.
        self._sizes[rows] = 0.98 * sizes
        self._drop_unseen(timestamp_s)

        keypoints = poses.keypoints.copy()
        keypoints[columns] = np.where(found[..., None], points, np.nan)
        return replace(poses, keypoints=keypoints)

    def _rows_of(self, ids: np.ndarray, k: int) -> np.ndarray:
        if len(np.unique(ids)) != len(ids):
            raise OptionError(f"track ids {ids.tolist()}", expected="each id once a frame")
        new = ids[~np.isin(ids, self._ids)]
        if n := len(new):
            self._ids = np.concatenate((self._ids, new))
            self._points = np.concatenate((self._points, np.full((n, k, 2), np.nan)))
            self._speeds = np.concatenate((self._speeds, np.zeros((n, k, 2))))
            self._sizes = np.concatenate((self._sizes, np.zeros(n)))
            self._seen_s = np.concatenate((self._seen_s, np.full((n, k), -np.inf)))
        order = np.argsort(self._ids)
        return np.asarray(order[np.searchsorted(self._ids, ids, sorter=order)])

    def _drop_unseen(self, now_s: float) -> None:
        keep = now_s - self._seen_s.max(1, initial=-np.inf) <= self._options.max_gap_s
        if not keep.all():
            self._ids, self._points, self._speeds = self._ids[keep], self._points[keep], self._speeds[keep]
            self._sizes, self._seen_s = self._sizes[keep], self._seen_s[keep]


def _gain(cutoff_hz: np.ndarray | float, step_s: np.ndarray) -> np.ndarray:
    """Weight of the newest value in a first-order low-pass filter, equation 4 to 6 of the paper."""
    time_constant = 1 / (2 * np.pi * np.asarray(cutoff_hz))
    return np.asarray(1 / (1 + time_constant / step_s))
