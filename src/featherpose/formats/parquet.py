"""Parquet: the columns of the CSV table, typed and compressed.

A Parquet file cannot be read before its last byte is written. The rows therefore go to a CSV file beside it first
(``poses.unfinished-1a2b3c4d.csv``), each frame as it comes, and become Parquet at the end.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, TextIO

from featherpose.errors import MissingExtraError, OutputError
from featherpose.files import PartFile, is_special, keep_interrupted, output_error, unfinished_parts
from featherpose.formats.csv_table import CsvTable, whole_rows
from featherpose.formats.record import FrameRecord, PoseWriter, Progress, WriterOptions
from featherpose.formats.tables import table_columns
from featherpose.skeleton import Skeleton

__all__ = ["ParquetWriter"]

_ROWS_SUFFIX = ".csv"
_ROWS_PER_GROUP = 5000
_NO_FLOATS = {"source": "string", "frame": "int64", "timestamp_s": "float64", "person": "int32", "id": "int64"}


class ParquetWriter(PoseWriter):
    """Writes Parquet in groups of some thousand rows; needs the ``parquet`` extra."""

    OPTION = "parquet"
    HELP = "Parquet table, one row a person"
    SUFFIXES = (".parquet",)
    MISSING = "null"
    STREAMS = False

    def __init__(self, target: Path | TextIO, skeleton: Skeleton, options: WriterOptions = WriterOptions()) -> None:  # noqa: B008 - frozen
        self.path = self._path(target)
        _pyarrow()
        self._skeleton = skeleton
        self._progress: Progress | None = None
        self._closed = False
        if not is_special(self.path):
            # A bad name is reported before the first frame, not after the last one.
            PartFile(self.path).discard()
        keep = 0
        if options.resume:
            self._progress = Progress(self.path, options.order)
            self._rows, keep = _resume(self.path, skeleton, self._progress)
        else:
            self._rows = PartFile(_rows_path(self.path), visible=True)
        try:
            self._table = CsvTable(self.path, skeleton, part=self._rows, keep=keep)
        except OutputError:
            self._rows.discard()
            raise

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame."""
        self._table.write(record)

    def holds(self, record: FrameRecord) -> bool:
        """Return True if the rows that are resumed are past this frame."""
        return self._progress is not None and self._progress.holds(record)

    @property
    def unfinished(self) -> Path | None:
        """The CSV file of the rows so far."""
        return self._rows.shown

    def close(self) -> None:
        """Turn the rows into Parquet and give the file its name.

        Raises:
            OutputError: If that fails; the rows then stay in a CSV file, which the message names.
        """
        if self._closed:
            return
        self._closed = True
        rows = self._rows
        try:
            if self._table.out.failed:  # the reason has already been reported
                with contextlib.suppress(OSError):
                    keep_interrupted(rows.part, self.path, _ROWS_SUFFIX)
                return
            if not self._table.out.begun:
                self._table.write_head()
            with PartFile(self.path) as file:
                _convert(rows.part, file, self._skeleton)
                file.commit()
            rows.discard()
        except (OSError, OutputError) as error:
            kept = ""
            with contextlib.suppress(OSError):
                kept = f"; its rows are in {keep_interrupted(rows.part, self.path, _ROWS_SUFFIX)}"
            failure = output_error(self.path, error) if isinstance(error, OSError) else error
            raise OutputError(f"{failure}{kept}") from error
        finally:
            with contextlib.suppress(OSError):
                rows.file.close()

    def abandon(self) -> None:
        """Close after a failure."""
        if self._table.out.begun:
            self.close()
        else:
            self._closed = True
            self._rows.discard()

    @classmethod
    def recover(cls, path: Path) -> list[Path]:
        """Give the rows of killed runs lasting names, as Parquet where possible."""
        found = []
        for part in unfinished_parts(_rows_path(path)):
            with contextlib.suppress(OSError):
                if part.read_bytes()[:65536].count(b"\n") < 2:  # no row
                    part.unlink()
                else:
                    found.append(keep_interrupted(part, path, _ROWS_SUFFIX))
        return found


def _rows_path(path: Path) -> Path:
    # A link's rows are beside its target, where there is room for the result as well.
    return (path.resolve() if path.is_symlink() and not is_special(path) else path).with_suffix(_ROWS_SUFFIX)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Parquet output", "parquet") from error
    return pyarrow


def _convert(rows: Path, into: PartFile, skeleton: Skeleton) -> None:
    """Turn a CSV table into Parquet, some thousand rows at a time."""
    pa = _pyarrow()
    columns = table_columns(skeleton)
    schema = pa.schema(
        [(name, pa.type_for_alias(_NO_FLOATS.get(name, "float32"))) for name in columns],
        metadata={"featherpose.skeleton": skeleton.name},
    )
    with rows.open("rb") as file:
        reading = pa.csv.open_csv(
            file,
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(column_types=schema, strings_can_be_null=False, null_values=[""]),
        )
        with pa.parquet.ParquetWriter(into.file, schema) as writer:
            for batch in reading:
                writer.write_table(
                    pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata),
                    row_group_size=_ROWS_PER_GROUP,
                )


def _resume(path: Path, skeleton: Skeleton, progress: Progress) -> tuple[PartFile, int]:
    """Continue the rows of a killed run, or those of the Parquet file that an interrupted one closed."""
    rows_path = _rows_path(path)
    parts = unfinished_parts(rows_path)
    if parts:
        keep = whole_rows(parts[-1], skeleton, progress)
        return PartFile(rows_path, visible=True, adopt=parts[-1]), keep
    part = PartFile(rows_path, visible=True)
    if not path.exists():
        return part, 0
    pa = _pyarrow()
    try:
        with pa.parquet.ParquetFile(path) as before, part.part.open("wb") as copy:
            if before.schema_arrow.names != table_columns(skeleton):
                raise OutputError(
                    f"{path} cannot be resumed: it has other columns", hint="choose another name, or leave out --resume"
                )
            copy.write((",".join(table_columns(skeleton)) + "\n").encode())
            options = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
            with pa.csv.CSVWriter(copy, before.schema_arrow, write_options=options) as writer:
                for batch in before.iter_batches(_ROWS_PER_GROUP):
                    writer.write_batch(batch)
        keep = whole_rows(part.part, skeleton, progress)
    except (OSError, pa.ArrowException) as error:
        part.discard()
        raise OutputError(f"{path} cannot be resumed: it holds something else than poses") from error
    except OutputError:
        part.discard()
        raise
    return part, keep
