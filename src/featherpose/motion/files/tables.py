"""Long tables, CSV or Parquet: one row a number, the form that pandas, R and spreadsheets pivot.

``person, frame, timestamp_s, kind, name, value, unit``: kind is ``angle``, ``velocity`` (of the angle), ``x``, ``y``,
``score``, with a field ``field`` (``x``, ``y`` and ``speed`` on it), and of each repetition, in the frame of its turn,
``repetition`` (``depth_deg``, ``out_s`` ... and ``depth_deg_uncertainty`` ...). A missing value is an empty cell (CSV)
or null (Parquet).
"""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.errors import MissingExtraError, OptionError
from featherpose.files import replacing, write_bytes
from featherpose.motion.analysis import MotionReport

__all__ = ["TABLE_COLUMNS", "long_table", "write_table"]

TABLE_COLUMNS = ("person", "frame", "timestamp_s", "kind", "name", "value", "unit")
"""Names of the columns, in order."""


def long_table(report: MotionReport) -> dict[str, np.ndarray]:
    """Return the columns as arrays of one length: angles, velocities, coordinates, scores, a field, repetitions."""
    sequence = report.sequence if report.metric is None else report.metric
    angles = report.angles
    blocks = [("angle", angles.names, angles.values, "deg"), ("velocity", angles.names, angles.velocity, "deg/s")]
    keypoints = sequence.skeleton.keypoints
    blocks += [(axis, keypoints, sequence.keypoints[..., i], sequence.unit) for i, axis in enumerate("xy")]
    blocks.append(("score", keypoints, sequence.scores, ""))
    if report.tracks:
        places = np.stack([track.positions_m for track in report.tracks], 1)
        blocks += [("field", (axis,), places[..., i : i + 1], "m") for i, axis in enumerate("xy")]
        speeds = np.stack([track.speeds_m_s for track in report.tracks], 1)
        blocks.append(("field", ("speed",), speeds[..., None], "m/s"))
    t, p = sequence.num_frames, sequence.num_people
    columns: dict[str, list[np.ndarray]] = {name: [] for name in TABLE_COLUMNS}
    for kind, names, values, unit in blocks:
        n = len(names)
        size = t * p * n
        columns["person"].append(np.tile(np.repeat(np.asarray(sequence.track_ids, np.int64), n), t))
        columns["frame"].append(np.repeat(sequence.frames, p * n))
        columns["timestamp_s"].append(np.repeat(sequence.timestamps_s, p * n))
        columns["kind"].append(np.full(size, kind, object))
        columns["name"].append(np.tile(np.asarray(names, object), t * p))
        columns["value"].append(values.reshape(-1))
        columns["unit"].append(np.full(size, unit, object))
    for name, part in _repetitions(report).items():
        columns[name].append(part)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _repetitions(report: MotionReport) -> dict[str, np.ndarray]:
    sequence = report.sequence
    rows: list[tuple[int, int, float, str, str, float, str]] = []
    for person in report.people:
        for each in () if person.repetitions is None else person.repetitions.found:
            where = person.track_id, int(sequence.frames[each.turn]), float(sequence.timestamps_s[each.turn])
            for name in (field.name for field in fields(each.uncertainty)):
                unit = "deg" if name.endswith("_deg") else "s"
                rows.append((*where, "repetition", name, float(getattr(each, name)), unit))
                error = float(getattr(each.uncertainty, name))
                rows.append((*where, "repetition", f"{name}_uncertainty", error, unit))
    kinds = (np.int64, np.int64, np.float64, object, object, np.float64, object)
    return {
        name: np.array([row[i] for row in rows], kind)
        for i, (name, kind) in enumerate(zip(TABLE_COLUMNS, kinds, strict=True))
    }


def write_table(path: str | Path, report: MotionReport) -> None:
    """Write the long table.

    Args:
        path: ``.csv`` or ``.parquet``.
        report: The analysis.

    Raises:
        OptionError: If the suffix is another.
        MissingExtraError: For Parquet without the ``parquet`` extra.
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    table = long_table(report)
    if path.suffix.lower() == ".csv":
        rows = zip(*(_cells(name, table[name]) for name in TABLE_COLUMNS), strict=True)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(TABLE_COLUMNS)
        writer.writerows(rows)
        write_bytes(path, text.getvalue().encode())
    elif path.suffix.lower() == ".parquet":
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("Parquet output", "parquet") from error
        values = table["value"]
        arrays = {
            name: pa.array(values, mask=~np.isfinite(values)) if name == "value" else pa.array(column)
            for name, column in table.items()
        }
        with replacing(path) as part:
            pq.write_table(pa.table(arrays), str(part))
    else:
        raise OptionError(f"a table {path}", expected="a name with .csv or .parquet")


def _cells(name: str, column: np.ndarray) -> list[Any]:
    if name == "timestamp_s":
        return list(np.round(column, 6).tolist())
    if name == "value":
        return ["" if v != v else v for v in np.round(column, 4).tolist()]
    return list(column.tolist())
