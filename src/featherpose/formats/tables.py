"""Tables: one row a person, for spreadsheets and data frames; CSV and Parquet have the same columns.

``source, frame, timestamp_s, person, id, score``, then ``<keypoint>_x, <keypoint>_y, <keypoint>_score`` for every
keypoint. A missing keypoint is empty in CSV and null in Parquet; ``id`` is empty without a tracker. A frame without
people has no row.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np

from featherpose.errors import MissingExtraError
from featherpose.formats.record import FrameRecord, coordinate_rows, person_ids
from featherpose.formats.textfile import TextOutput
from featherpose.media.atomic import make_folder, output_error, part_path
from featherpose.skeleton import Skeleton

__all__ = ["CsvWriter", "ParquetWriter", "table_columns"]

_ROWS_PER_GROUP = 5000


def table_columns(skeleton: Skeleton) -> list[str]:
    """Names of the columns.

    Example:
        >>> table_columns(Skeleton.create("dot", ["tip"], []))
        ['source', 'frame', 'timestamp_s', 'person', 'id', 'score', 'tip_x', 'tip_y', 'tip_score']
    """
    points = [f"{name}_{part}" for name in skeleton.keypoints for part in ("x", "y", "score")]
    return ["source", "frame", "timestamp_s", "person", "id", "score", *points]


def _rows(record: FrameRecord) -> list[list[Any]]:
    poses = record.poses
    ids = person_ids(poses)
    scores = np.round(poses.scores.astype(np.float64), 4).tolist()
    start = [record.source, record.frame, round(record.timestamp_s, 6)]
    return [
        [*start, p, ids[p], scores[p], *(v for x, y, s in person for v in ((x, y, s) if x == x else (None,) * 3))]
        for p, person in enumerate(coordinate_rows(poses))
    ]


class CsvWriter:
    """Writes CSV with a header line; every row is on the disk when `write` returns.

    Args:
        target: Path of a file, or an open text stream.
        skeleton: The keypoints; all frames have this one.

    Raises:
        OutputError: If the file cannot be written.
    """

    def __init__(self, target: Path | TextIO, skeleton: Skeleton) -> None:
        self._out = TextOutput(target)
        self._append([table_columns(skeleton)])

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame."""
        if len(record.poses):
            self._append(_rows(record))

    def _append(self, rows: list[list[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._out.write(text.getvalue())

    def close(self) -> None:
        """Close the file."""
        self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ParquetWriter:
    """Writes Parquet in groups of some thousand rows; the file gets its name when it is complete.

    Raises:
        MissingExtraError: Without the ``parquet`` extra.
        OutputError: If the file cannot be written.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("Parquet output", "parquet") from error
        if path.is_dir():
            raise output_error(path, IsADirectoryError())
        make_folder(path.parent)
        types = {
            "source": pa.string(), "frame": pa.int64(), "timestamp_s": pa.float64(),
            "person": pa.int32(), "id": pa.int64(),
        }  # fmt: skip
        self._schema = pa.schema(
            [(name, types.get(name, pa.float32())) for name in table_columns(skeleton)],
            metadata={"featherpose.skeleton": skeleton.name},
        )
        self._pa = pa
        self.path = path
        self._part = part_path(path)
        self._rows: list[list[Any]] = []
        self._closed = self._failed = False
        try:
            self._file = pq.ParquetWriter(str(self._part), self._schema)
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame."""
        self._rows += _rows(record)
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [self._pa.array(list(c), type=field.type) for c, field in zip(columns, self._schema, strict=True)]
        self._rows = []
        try:
            self._file.write_table(self._pa.table(arrays, schema=self._schema))
        except OSError as error:
            self._failed = True
            raise output_error(self.path, error) from error

    def close(self) -> None:
        """Write the last rows and the footer, and give the file its name."""
        if self._closed:
            return
        self._closed = True
        try:
            self._flush()
            self._file.close()
            self._part.replace(self.path)
        except OSError as error:
            if not self._failed:  # otherwise the reason has been told
                raise output_error(self.path, error) from error
        finally:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
