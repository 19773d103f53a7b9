"""Output of commands: JSON files for scripts, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featherpose.files import write_bytes
from featherpose.formats.textfile import TextOutput

__all__ = ["print_table", "write_json"]


def write_json(path: Path, data: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a result as JSON, complete or not at all; ``-`` is standard output.

    Raises:
        OutputError: If the file cannot be written.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if str(path) == "-":
        with TextOutput(sys.stdout) as out:
            out.write(text)
        return
    write_bytes(path, text.encode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table on standard output: drawn on a terminal, tab-separated in a pipe.

    Example:
        >>> print_table(["stage", "ms"], [["infer", 21.5]])
        stage	ms
        infer	21.5
    """
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *cells]:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    Console().print(table, markup=False)


def _is_number(text: str) -> bool:
    return not text or text.replace(".", "", 1).replace(",", "").lstrip("-").isdigit()
