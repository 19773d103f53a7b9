"""CSV: one row a person, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, TextIO

from featherpose.errors import OutputError
from featherpose.files import PartFile, output_error
from featherpose.formats.record import FrameRecord, PoseWriter, Progress, WriterOptions
from featherpose.formats.tables import table_columns, table_rows
from featherpose.formats.textfile import TextOutput
from featherpose.skeleton import Skeleton

__all__ = ["CsvTable", "CsvWriter", "whole_rows"]


class CsvTable:
    """A growing table with a header line, under its own name or a temporary one.

    Args:
        target: Path of the file, or an open text stream.
        skeleton: The keypoints; all frames have this skeleton.
        part: A temporary file to write to, which keeps its name; ``target`` is then used in messages only.
        keep: Bytes that are there already and stay.
    """

    def __init__(
        self, target: Path | TextIO, skeleton: Skeleton, *, part: PartFile | None = None, keep: int = 0
    ) -> None:
        head = "" if keep else _lines([table_columns(skeleton)])
        self.out = TextOutput(target, part=part, temporary=True, keep=keep, head=head)

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame."""
        if len(record.poses) or not self.out.begun:
            self.out.write(_lines(table_rows(record)))

    def write_head(self) -> None:
        """Write the header line of a table that stays empty."""
        self.out.write("")


def _lines(rows: list[list[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class CsvWriter(PoseWriter):
    """Writes CSV with a header line; every row is handed to the system when `write` returns."""

    OPTION = "csv"
    HELP = "CSV table, one row a person"
    SUFFIXES = (".csv",)
    MISSING = "empty cells"

    def __init__(self, target: Path | TextIO, skeleton: Skeleton, options: WriterOptions = WriterOptions()) -> None:  # noqa: B008 - frozen
        self._progress: Progress | None = None
        keep = 0
        if options.resume and isinstance(target, Path) and target.exists():
            self._progress = Progress(target, options.order)
            keep = whole_rows(target, skeleton, self._progress)
        self._table = CsvTable(target, skeleton, keep=keep)

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame."""
        self._table.write(record)

    def holds(self, record: FrameRecord) -> bool:
        """Return True if the file that is resumed is past this frame."""
        return self._progress is not None and self._progress.holds(record)

    def abandon(self) -> None:
        """Close after a failure."""
        self._table.out.abandon()

    def close(self) -> None:
        """Close the file."""
        self._table.out.close()


def whole_rows(path: Path, skeleton: Skeleton, progress: Progress) -> int:
    """Read the frames of a table that an earlier run left.

    Returns:
        The bytes up to the end of the last whole row; 0 for an empty file.

    Raises:
        OutputError: If it is another table, or of other sources.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, io.SEEK_END)
            whole = size = file.tell()
            while whole:  # a torn last row: back to the end of the one before
                begin = max(0, whole - 65536)
                file.seek(begin)
                block = file.read(whole - begin)
                if (end := block.rfind(b"\n")) >= 0:
                    whole = begin + end + 1
                    break
                whole = begin
        if not whole:
            return 0
        with path.open(encoding="utf-8", newline="") as text:
            rows = csv.reader(_Bounded(text, size - whole))
            if next(rows) != table_columns(skeleton):
                raise OutputError(
                    f"{path} cannot be resumed: it has other columns", hint="choose another name, or leave out --resume"
                )
            for row in rows:
                if len(row) > 1:
                    progress.note(row[0], int(row[1]))
    except OSError as error:
        raise output_error(path, error) from error
    except (ValueError, StopIteration, csv.Error) as error:
        raise OutputError(f"{path} cannot be resumed: it holds something else than poses") from error
    return whole


class _Bounded:
    """Yield the lines of a text, without an incomplete last one."""

    def __init__(self, text: TextIO, torn: int) -> None:
        self._text = text
        self._torn = torn

    def __iter__(self) -> _Bounded:
        return self

    def __next__(self) -> str:
        line = next(self._text)
        if self._torn and not line.endswith("\n"):
            raise StopIteration
        return line
