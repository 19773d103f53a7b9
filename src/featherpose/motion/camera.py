"""Detection of camera motion from the background between frames.

Corners outside the boxes of people are followed by optical flow (Lucas & Kanade 1981, in pyramids); the similarity
that most of them agree on (RANSAC) is the movement of the camera. A moving camera makes lengths, speeds and floor
meaningless, which is reported and not corrected.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.poses import Poses

__all__ = ["CameraWatch"]

_WIDTH = 320
_EVERY_S = 0.2
# Share of the image width by which the background moves in one check; the shake of a hand-held camera stays below it.
_STILL = 0.004
_MIN_CORNERS = 12


class CameraWatch:
    """Checks a frame every fifth of a second, and returns at the end whether the camera moved.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> wall = cv2.GaussianBlur(rng.integers(0, 255, (240, 640, 3), np.uint8), (0, 0), 2)
        >>> watch = CameraWatch()
        >>> for i in range(10):
        ...     watch.look(np.ascontiguousarray(wall[:, 8 * i : 8 * i + 320]), None, i * 0.2)
        >>> watch.moves
        True
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._last_s = -np.inf
        self._shifts: list[float] = []

    def look(self, image: UInt8[np.ndarray, "H W 3"], poses: Poses | None, timestamp_s: float) -> None:
        """Check the next frame; most are skipped at once."""
        if timestamp_s - self._last_s < _EVERY_S:
            return
        self._last_s = timestamp_s
        scale = _WIDTH / image.shape[1]
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
        last, self._last = self._last, gray
        if last is None or last.shape != gray.shape:
            return
        mask = np.full(gray.shape, 255, np.uint8)
        for box in poses.boxes() if poses is not None else ():
            if np.isfinite(box).all():
                left, top, right, bottom = (box * scale).astype(int).tolist()
                grow = max(4, (right - left) // 4)
                mask[max(0, top - grow) : max(0, bottom + grow), max(0, left - grow) : max(0, right + grow)] = 0
        shift = _background_shift(last, gray, mask)
        if shift is not None:
            self._shifts.append(shift)

    @property
    def moves(self) -> bool | None:
        """Return True if the background moved in a fifth of the checks or more; None if it could not be followed."""
        if len(self._shifts) < 3:
            return None
        return bool(np.mean(np.array(self._shifts) > _STILL) >= 0.2)


def _background_shift(last: np.ndarray, gray: np.ndarray, mask: np.ndarray) -> float | None:
    """Return the median movement of the background in image widths."""
    corners = cv2.goodFeaturesToTrack(last, 120, 0.02, 6, mask=mask)
    if corners is None or len(corners) < _MIN_CORNERS:
        return None
    start = np.asarray(corners, np.float32)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(last, gray, start, np.empty_like(start))
    good = np.asarray(status).ravel() == 1
    if good.sum() < _MIN_CORNERS:
        return None
    a, b = start[good].reshape(-1, 2), np.asarray(moved)[good].reshape(-1, 2)
    matrix, inliers = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=1.0)
    if matrix is None or inliers is None or np.asarray(inliers).mean() < 0.4:
        return None
    chosen = np.asarray(inliers).ravel() == 1
    return float(np.median(np.hypot(*(b[chosen] - a[chosen]).T)) / gray.shape[1])
