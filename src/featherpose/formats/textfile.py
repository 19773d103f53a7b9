"""Text that grows record by record: what was written stays readable if the process dies."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from featherpose.errors import OutputError
from featherpose.media.atomic import make_folder, output_error

__all__ = ["TextOutput"]


class TextOutput:
    """A text file, or a stream that is already open, written in whole records and flushed after each.

    Args:
        target: Path of a file, which is replaced, or an open stream, which is not closed.

    Raises:
        OutputError: If the file cannot be opened.
    """

    def __init__(self, target: Path | TextIO) -> None:
        self._owned = isinstance(target, Path)
        if isinstance(target, Path):
            make_folder(target.parent)
            self.path = target
            try:
                self._file: TextIO = target.open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise output_error(target, error) from error
        else:
            self.path = Path(getattr(target, "name", "<stream>"))
            self._file = target
        self._closed = False

    def write(self, text: str) -> None:
        """Append and flush.

        Raises:
            OutputError: If the disk is full or the file went away.
        """
        if self._closed:
            raise OutputError(f"{self.path} is closed, after an earlier failure perhaps")
        try:
            self._file.write(text)
            self._file.flush()
        except BrokenPipeError:
            raise  # the reader of a pipe went away: no error of the file
        except OSError as error:
            self._abandon()
            raise output_error(self.path, error) from error

    def close(self) -> None:
        """Close the file; may be called twice.

        Raises:
            OutputError: If the last bytes do not fit on the disk.
        """
        if self._closed or not self._owned:
            return
        self._closed = True
        try:
            self._file.close()
        except OSError as error:
            raise output_error(self.path, error) from error

    def _abandon(self) -> None:
        # The buffer still holds what did not fit; closing would fail a second time and hide the first reason.
        if self._owned and not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
