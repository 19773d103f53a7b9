"""C3D: the binary file of motion capture, by ezc3d (the ``motion`` extra)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featherpose.errors import MissingExtraError
from featherpose.files import replacing
from featherpose.motion.files.opensim import marker_names
from featherpose.motion.sequence import PoseSequence

__all__ = ["write_c3d"]

_MM_PER_M = 1000.0


def write_c3d(path: str | Path, sequence: PoseSequence, person: int = 0) -> None:
    """Write one person's keypoints as points: millimeters with a scale, else pixels.

    The file has one rate for all frames: resample a video of variable rate first. Missing points have residual -1,
    found ones 0; the first frame of the file is the first frame of the sequence.

    Args:
        path: Name ending in ``.c3d``.
        sequence: Poses over time.
        person: Place of the person.

    Raises:
        MissingExtraError: Without the ``motion`` extra.
        OutputError: If the file cannot be written.
    """
    try:
        import ezc3d
    except ImportError as error:
        raise MissingExtraError("C3D output", "motion") from error
    metric = sequence.unit == "m"
    points = sequence.keypoints[:, person] * (_MM_PER_M if metric else 1.0)
    there = np.isfinite(points[..., 0])
    data = np.ones((4, points.shape[1], len(points)))
    data[0], data[1] = np.where(there, points[..., 0], 0).T, np.where(there, points[..., 1], 0).T
    data[2] = 0.0
    file = ezc3d.c3d()
    file["parameters"]["POINT"]["UNITS"]["value"] = ["mm" if metric else "px"]
    file["parameters"]["POINT"]["LABELS"]["value"] = marker_names(sequence)
    file["parameters"]["POINT"]["RATE"]["value"] = [sequence.rate_hz if sequence.num_frames > 1 else 1.0]
    file["data"]["points"] = data
    file["data"]["meta_points"]["residuals"] = np.where(there, 0.0, -1.0).T[None]
    with replacing(Path(path)) as part:
        file.write(str(part))
