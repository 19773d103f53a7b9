"""Everything that the first tracked frame would otherwise wait for: compiled kernels, and SciPy's assignment."""

from __future__ import annotations

from functools import cache

import numpy as np

from featherpose.poses import Poses
from featherpose.skeleton import OPENPOSE_18
from featherpose.tracking.smoothing import PoseSmoother
from featherpose.tracking.tracker import PoseTracker

__all__ = ["warm_up"]


@cache
def warm_up() -> None:
    """Load the kernels of tracking and smoothing, or compile them on the first run ever.

    Takes seconds on the first run ever, a fraction of one in each process and nothing when called again; see
    `featherpose.codecs.paf.compiling.kernels_are_cached`. The kernels serve every skeleton.
    """
    tracker, smoother = PoseTracker(), PoseSmoother()
    points = np.random.default_rng(0).uniform(0, 100, (2, OPENPOSE_18.num_keypoints, 2)).astype(np.float32)
    scores = np.ones(points.shape[:2], np.float32)
    poses = Poses(points, scores, scores[:, 0], OPENPOSE_18, (100, 100))
    for frame in range(3):
        smoother.update(tracker.update(poses, frame / 25), frame / 25)
