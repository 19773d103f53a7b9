"""Lists of inputs: text with a name a line, CSV, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from featherpose.cluster.retries import retried
from featherpose.cluster.storage import Location
from featherpose.errors import SourceError

__all__ = ["LIST_SUFFIXES", "read_list"]

LIST_SUFFIXES = (".txt", ".lst", ".csv", ".parquet")
"""Suffixes by which a list of inputs is known."""

_COLUMNS = ("uri", "url", "path", "file", "file_name", "filename", "image", "source", "video")
_LONGEST = 8192
_LONGEST_LINE = 2**20
_ROWS = 10_000


def read_list(place: Location, suffix: str, patience_s: float) -> Iterator[str]:
    """Yield the entries of a list.

    A text file has an entry a line; empty lines and those that begin with ``#`` are left out. A table has them in the
    first of the columns uri, url, path, file, file_name, filename, image, source and video that it has, or in its only
    column.

    Raises:
        SourceError: If it cannot be read, or has no such column.
    """
    try:
        with retried(place.open, place.shown, patience_s) as file:
            entries = _parquet(file, place) if suffix == ".parquet" else _text(file, place, suffix == ".csv")
            for entry in entries:
                if len(entry) > _LONGEST or "\0" in entry:
                    raise SourceError(f"{place.shown} holds an entry that is no name", expected="one path a row")
                yield entry
    except FileNotFoundError as error:
        raise SourceError(f"there is no list {place.shown}") from error
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors and UnicodeDecodeError are ValueErrors
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"the list {place.shown} cannot be read: {reason}", expected="text, CSV or Parquet"
        ) from error


def _text(file: Any, place: Location, table: bool) -> Iterator[str]:
    with io.TextIOWrapper(io.BufferedReader(file) if not isinstance(file, io.BufferedReader) else file, "utf-8-sig",
                          newline="") as text:  # fmt: skip
        if not table:
            for line in _lines(text, place):
                name = line.strip()
                if name and not name.startswith("#"):
                    yield name
            return
        rows = csv.reader(_lines(text, place))
        head = next(rows, [])
        column = _column([name.strip() for name in head], place)
        for row in rows:
            if len(row) > column and row[column].strip():
                yield row[column].strip()


def _lines(text: io.TextIOWrapper, place: Location) -> Iterator[str]:
    """Yield lines; a file without line ends would be one of any length."""
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and line[-1] not in "\r\n":
            raise SourceError(f"{place.shown} has a line that is too long for a list", expected="one path a row")
        yield line


def _parquet(file: Any, place: Location) -> Iterator[str]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    name = table.schema_arrow.names[_column(list(table.schema_arrow.names), place)]
    for batch in table.iter_batches(_ROWS, columns=[name]):
        for value in batch.column(0).to_pylist():
            if value is not None:
                yield str(value)


def _column(names: list[str], place: Location) -> int:
    lower = [name.lower() for name in names]
    for known in _COLUMNS:
        if known in lower:
            return lower.index(known)
    if len(names) == 1:
        return 0
    raise SourceError(
        f"the list {place.shown} has the columns {', '.join(names[:8]) or 'none'}",
        expected=f"one of {', '.join(_COLUMNS)}",
    )
