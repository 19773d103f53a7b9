"""People keep their ids from frame to frame (`PoseTracker`), and their joints stop trembling (`PoseSmoother`)."""

from __future__ import annotations

from featherpose.tracking.options import SmoothOptions, TrackOptions
from featherpose.tracking.smoothing import PoseSmoother
from featherpose.tracking.tracker import PoseTracker
from featherpose.tracking.warming import warm_up

__all__ = ["PoseSmoother", "PoseTracker", "SmoothOptions", "TrackOptions", "warm_up"]
