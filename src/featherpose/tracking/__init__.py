"""Tracking: ids that persist from frame to frame (`PoseTracker`), and smoothed joints (`PoseSmoother`)."""

from __future__ import annotations

from featherpose.tracking.follower import Follower, warm_up
from featherpose.tracking.smoothing import PoseSmoother
from featherpose.tracking.track_options import SmoothOptions, TrackOptions
from featherpose.tracking.tracker import PoseTracker

__all__ = ["Follower", "PoseSmoother", "PoseTracker", "SmoothOptions", "TrackOptions", "warm_up"]
