"""What the tests of batch runs share: summaries, and results in a form that can be compared."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import featherpose

__all__ = ["RunBatch", "keys_and_poses", "summary"]

RunBatch = Callable[..., "subprocess.CompletedProcess[str]"]


def summary(path: Path) -> dict[str, Any]:
    """What a run came to."""
    return dict(json.loads(path.read_text()))


def keys_and_poses(out: Path) -> tuple[list[str], dict[tuple[str, int], bytes]]:
    """Keys of all units in order, and the poses of each frame as bytes."""
    results = featherpose.read_results(str(out))
    keys = sorted(results.units().to_table(columns=["source"])["source"].to_pylist())
    poses = {(r.source, r.frame): r.poses.keypoints.tobytes() + r.poses.keypoint_scores.tobytes() for r in results}
    return keys, poses
