"""People keep their ids from frame to frame (`PoseTracker`), and their joints stop trembling (`PoseSmoother`)."""

from __future__ import annotations

from featherpose.tracking.options import SmoothOptions, TrackOptions
from featherpose.tracking.smoothing import PoseSmoother
from featherpose.tracking.tracker import PoseTracker

__all__ = ["PoseSmoother", "PoseTracker", "SmoothOptions", "TrackOptions"]
