"""Smoothed joints: the One-Euro filter on real timestamps, one filter a joint, kept by track id.

Casiez, Roussel and Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012. A low-pass filter whose cut-off rises with speed: slow joints jitter less, fast ones lag less. Two changes:
speed is measured in body sizes a second (`featherpose.tracking.motion.pose_sizes`), so that the setting does not
depend on the resolution, and one speed serves x and y of a joint, so that a diagonal movement is not bent.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from featherpose.errors import OptionError, SkeletonError
from featherpose.jit import kernel
from featherpose.poses import Poses
from featherpose.tracking.motion import pose_sizes
from featherpose.tracking.track_options import SmoothOptions

__all__ = ["PoseSmoother"]

_NOBODY, _NEW = -1, -2


class PoseSmoother:
    """Smooths the keypoints of tracked people.

    Separate from the tracker, which works on the detections themselves; only its ids are used. The first detection of a
    person or joint passes unchanged; so do people without an id (-1), and all people when the size of the image has
    changed. A missing keypoint stays missing. Coordinates are not rounded before.

    Args:
        options: The trade between jitter and delay.

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
        """Return the options."""
        return self._options

    def reset(self) -> None:
        """Forget all people."""
        self._time_s = -math.inf
        self._image_size = (0, 0)
        self._ids = np.empty(0, np.int64)
        self._points = np.empty((0, 0, 2))
        self._speeds = np.empty((0, 0, 2))
        self._sizes = np.empty(0)
        self._seen_s = np.empty((0, 0))

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Smooth the next frame.

        Args:
            poses: Tracked people (``track_ids`` not None), in pixels of the source.
            timestamp_s: Time of the frame, seconds; not before the previous frame's.

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
        if poses.image_size != self._image_size:
            self.reset()  # the known positions are in other pixels
        self._time_s, self._image_size = timestamp_s, poses.image_size
        k = poses.skeleton.num_keypoints
        if len(self._ids) == 0:
            self._points, self._speeds = np.empty((0, k, 2)), np.empty((0, k, 2))
            self._seen_s = np.empty((0, k))
        elif self._points.shape[1] != k:
            raise SkeletonError(
                f"poses with {k} keypoints", expected=f"{self._points.shape[1]} as in the frames before"
            )
        ids = np.ascontiguousarray(poses.track_ids, np.int64)
        rows = np.empty(len(ids), np.int64)
        if self._find(ids, rows):
            self._extend(ids[rows == _NEW])
            self._find(ids, rows)
        options = self._options
        keypoints = np.array(poses.keypoints, np.float32, order="C")
        _filter(
            keypoints, rows, pose_sizes(poses.keypoints), float(timestamp_s),
            self._points, self._speeds, self._sizes, self._seen_s,
            float(options.min_cutoff_hz), float(options.beta), float(options.derivative_cutoff_hz),
            float(options.max_gap_s),
        )  # fmt: skip
        self._drop_unseen(timestamp_s)
        return replace(poses, keypoints=keypoints)

    def _find(self, ids: np.ndarray, rows: np.ndarray) -> int:
        """Fill in the row of each id; return how many have none."""
        new = int(_rows_of(ids, self._ids, rows))
        if new < 0:
            raise OptionError(f"track ids {ids.tolist()}", expected="each id once a frame")
        return new

    def _extend(self, ids: np.ndarray) -> None:
        n, k = len(ids), self._points.shape[1]
        self._ids = np.concatenate((self._ids, ids))
        self._points = np.concatenate((self._points, np.full((n, k, 2), np.nan)))
        self._speeds = np.concatenate((self._speeds, np.zeros((n, k, 2))))
        self._sizes = np.concatenate((self._sizes, np.zeros(n)))
        self._seen_s = np.concatenate((self._seen_s, np.full((n, k), -np.inf)))

    def _drop_unseen(self, now_s: float) -> None:
        keep = np.empty(len(self._ids), np.bool_)
        if _recent(self._seen_s, float(now_s - self._options.max_gap_s), keep) < len(keep):
            self._ids, self._points, self._speeds = self._ids[keep], self._points[keep], self._speeds[keep]
            self._sizes, self._seen_s = self._sizes[keep], self._seen_s[keep]


@kernel
def _rows_of(ids: np.ndarray, known: np.ndarray, rows: np.ndarray) -> int:
    """Set rows[j] to the index of ids[j] in ``known``, _NEW if it is new, _NOBODY below 0; return how many are new.

    A handful of people: comparing all pairs takes less than sorting does. -1 if an id occurs twice.
    """
    new = 0
    for j in range(len(ids)):
        if ids[j] < 0:
            rows[j] = _NOBODY
            continue
        for i in range(j):
            if ids[i] == ids[j]:
                return -1
        rows[j] = _NEW
        for i in range(len(known)):
            if known[i] == ids[j]:
                rows[j] = i
        new += rows[j] == _NEW
    return new


@kernel
def _recent(seen_s: np.ndarray, since_s: float, keep: np.ndarray) -> int:
    """Mark the people who have a joint that was seen since then; return their number."""
    count = 0
    for i in range(len(keep)):
        keep[i] = False
        for k in range(seen_s.shape[1]):
            if seen_s[i, k] >= since_s:
                keep[i] = True
        count += keep[i]
    return count


@kernel
def _gain(cutoff_hz: float, step_s: float) -> float:
    """Return the weight of the newest value in a first-order low-pass filter, equations 4 to 6 of the paper."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * step_s))


@kernel
def _filter(
    keypoints: np.ndarray,
    rows: np.ndarray,
    found_sizes: np.ndarray,
    now_s: float,
    points: np.ndarray,
    speeds: np.ndarray,
    sizes: np.ndarray,
    seen_s: np.ndarray,
    min_cutoff_hz: float,
    beta: float,
    derivative_cutoff_hz: float,
    max_gap_s: float,
) -> None:
    for j in range(len(rows)):
        i = rows[j]
        if i < 0:  # people without an id have no history
            continue
        size = max(sizes[i], found_sizes[j])
        # A size that shrinks slowly: a person whose leg is occluded does not become smaller at once.
        sizes[i] = 0.98 * size
        for k in range(points.shape[1]):
            x, y = keypoints[j, k, 0], keypoints[j, k, 1]
            if x != x:  # missing stays missing
                continue
            elapsed = now_s - seen_s[i, k]
            seen_s[i, k] = now_s
            if not elapsed <= max_gap_s:
                points[i, k, 0], points[i, k, 1] = x, y
                speeds[i, k, 0] = speeds[i, k, 1] = 0.0
                continue
            # Two frames of one instant: a step of a microsecond leaves the filter almost unchanged.
            step = max(elapsed, 1e-6)
            offset_x, offset_y = x - points[i, k, 0], y - points[i, k, 1]
            gain = _gain(derivative_cutoff_hz, step)
            speeds[i, k, 0] += gain * (offset_x / (step * size) - speeds[i, k, 0])
            speeds[i, k, 1] += gain * (offset_y / (step * size) - speeds[i, k, 1])
            gain = _gain(min_cutoff_hz + beta * np.hypot(speeds[i, k, 0], speeds[i, k, 1]), step)
            points[i, k, 0] += gain * offset_x
            points[i, k, 1] += gain * offset_y
            keypoints[j, k, 0], keypoints[j, k, 1] = points[i, k, 0], points[i, k, 1]
