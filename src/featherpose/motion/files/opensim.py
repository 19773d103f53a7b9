"""TRC (markers) and MOT (coordinates): the text files of OpenSim, also read by Pose2Sim, Mokka and Visual3D.

Axes are OpenSim's: x along the floor, y up, z to the right of a person walking along x; planar motion has z = 0.
OpenSim (4.6) reads missing markers if they are ``nan``; it refuses a row whose last cell is empty. For coordinates it
has no missing values: the reader behind *Load Motion* ends at the first one without a word. So MOT files have none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featherpose.errors import OutputError, SourceError
from featherpose.files import write_bytes
from featherpose.motion.angles import Angles
from featherpose.motion.sequence import PoseSequence
from featherpose.parsing import reason_of

__all__ = ["marker_names", "read_mot", "read_trc", "write_mot", "write_trc"]

_SPECIAL = {"neck": "Neck", "mid_hip": "Hip", "nose": "Nose", "head_top": "Head"}


def marker_names(sequence: PoseSequence) -> list[str]:
    """Return a keypoint's name in OpenSim models for OpenPose keypoints: ``right_knee`` is ``RKnee``.

    Example:
        >>> from featherpose.skeleton import LSP_14
        >>> marker_names(PoseSequence.from_arrays(np.zeros((1, 14, 2)), np.zeros(1), LSP_14))[:3]
        ['RAnkle', 'RKnee', 'RHip']
    """
    names = []
    for keypoint in sequence.skeleton.keypoints:
        side, _, part = keypoint.partition("_")
        if keypoint in _SPECIAL:
            names.append(_SPECIAL[keypoint])
        elif side in ("left", "right"):
            names.append(side[0].upper() + "".join(word.capitalize() for word in part.split("_")))
        else:
            names.append("".join(word.capitalize() for word in keypoint.split("_")))
    return names


def write_trc(path: str | Path, sequence: PoseSequence, person: int = 0) -> None:
    """Write one person's keypoints as markers.

    In meters the unit is ``m``. In pixels the unit is ``px`` and y points down, which OpenSim refuses and Sports2D
    reads (``load_trc_px``): scale first with `featherpose.motion.meters.to_meters` for OpenSim.

    Args:
        path: Name ending in ``.trc``.
        sequence: Poses over time.
        person: Place of the person.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    points = sequence.keypoints[:, person]
    names = marker_names(sequence)
    t, k, _ = points.shape
    rate = sequence.rate_hz if t > 1 else 0.0
    first = int(sequence.frames[0]) if t else 0
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate:.6f}\t{rate:.6f}\t{t}\t{k}\t{sequence.unit}\t{rate:.6f}\t{first}\t{t}",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\t" + "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, k + 1)),
    ]
    for row in range(t):
        cells = [f"{x:.6f}\t{y:.6f}\t0.000000" if x == x else "nan\tnan\tnan" for x, y in points[row].tolist()]
        lines.append(f"{int(sequence.frames[row])}\t{sequence.timestamps_s[row]:.6f}\t" + "\t".join(cells))
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def read_trc(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read a TRC file: marker names, times float64[T] and points float64[T, M, 3] (NaN where missing).

    Raises:
        SourceError: If the file is not a TRC file.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        names = [name for name in lines[3].split("\t")[2:] if name.strip()]
        rows = [line.split("\t") for line in lines[5:] if line.strip()]
        times = np.array([float(row[1]) for row in rows])
        values = np.full((len(rows), 3 * len(names)), np.nan)
        for i, row in enumerate(rows):
            for j, cell in enumerate(row[2 : 2 + 3 * len(names)]):
                if cell.strip():
                    values[i, j] = float(cell)
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise SourceError(f"{path} cannot be read as TRC: {reason_of(error)}") from error
    return [name.strip() for name in names], times, values.reshape(len(rows), len(names), 3)


def write_mot(path: str | Path, angles: Angles, person: int = 0) -> None:
    """Write one person's angles in degrees: the frames and angles that are known together.

    Frames in which an angle is missing are left out, and so are angles that are missing so often that more values would
    be lost with their frames than without them. Times go on as they are; tables (CSV, Parquet) hold everything.

    Raises:
        OutputError: If the file cannot be written or there is no angle.
    """
    path = Path(path)
    rows, columns = _without_gaps(np.isfinite(angles.values[:, person]))
    if not len(rows):
        raise OutputError(f"{path} would hold no angle", hint="take a skeleton with hips, knees and ankles")
    values, times = angles.values[rows, person][:, columns], angles.timestamps_s[rows]
    lines = [
        path.stem, "version=1", f"nRows={len(values)}", f"nColumns={values.shape[1] + 1}", "inDegrees=yes", "",
        "Units are S.I. units (second, meters, Newtons, ...)",
        "If the header above contains a line with 'inDegrees', this indicates whether rotational values are in degrees "
        "(yes) or radians (no).",
        "", "endheader", "time\t" + "\t".join(angles.names[column] for column in columns),
    ]  # fmt: skip
    for time, row in zip(times.tolist(), values.tolist(), strict=True):
        lines.append(f"{time:.6f}\t" + "\t".join(f"{v:.6f}" for v in row))
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _without_gaps(known: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return rows and columns of bool[T, C] that are True throughout, with as many values as possible."""
    if not known.size:
        return np.zeros(0, int), []
    often = np.argsort(-known.sum(0), kind="stable")
    together = np.logical_and.accumulate(known[:, often], axis=1)  # of each row, whether the first n are known
    best = int((together.sum(0) * np.arange(1, known.shape[1] + 1)).argmax())
    return np.flatnonzero(together[:, best]), sorted(often[: best + 1].tolist())


def read_mot(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read a MOT file: column names without ``time``, times float64[T], values float64[T, C].

    Raises:
        SourceError: If the file is not a MOT file.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        start = next(i for i, line in enumerate(lines) if line.strip() == "endheader") + 1
        names = lines[start].split("\t")[1:]
        values = np.array([[float(cell) for cell in line.split("\t")] for line in lines[start + 1 :] if line.strip()])
        return names, values[:, 0], values[:, 1:]
    except (OSError, UnicodeDecodeError, ValueError, IndexError, StopIteration) as error:
        raise SourceError(f"{path} cannot be read as MOT: {reason_of(error)}") from error
