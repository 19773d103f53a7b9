"""Text that grows record by record: what was written stays readable if the process dies or the disk is full."""

from __future__ import annotations

import contextlib
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from featherpose.errors import OutputError
from featherpose.media.atomic import make_folder, output_error

__all__ = ["TextOutput"]


class TextOutput:
    """A text file, or a stream that is already open, written in whole records that are on the disk at once.

    A record that does not fit on the disk is cut off again, so that the file ends with the last whole one.

    Args:
        target: Path of a file, which is replaced, or an open stream, which is not closed.
        shown: What messages call the file, if not by its path.

    Raises:
        OutputError: If the file cannot be opened.

    Attributes:
        failed: Whether a record could not be written; nothing can be added afterwards.
    """

    def __init__(self, target: Path | TextIO, *, shown: Path | None = None) -> None:
        self._file: FileIO | None = None
        self._stream: TextIO | None = None
        self._whole_bytes = 0
        self.failed = False
        if isinstance(target, Path):
            self._shown = shown or target
            make_folder(target.parent)
            try:
                self._file = FileIO(target, "w")
            except OSError as error:
                raise output_error(self._shown, error) from error
        else:
            self._shown = shown or Path(getattr(target, "name", "<stream>"))
            self._stream = target

    def write(self, record: str) -> None:
        """Append a record.

        Raises:
            OutputError: If the disk is full or the file went away.
        """
        try:
            if self._stream is not None:
                self._stream.write(record)
                self._stream.flush()
            elif self._file is not None:
                self._append(record.encode())
            else:
                raise OutputError(f"{self._shown} is closed after an earlier failure")
        except BrokenPipeError:
            raise  # the reader of a pipe went away: no error of the file
        except OSError as error:
            self.failed = True
            with contextlib.suppress(OutputError):
                self.close()
            raise output_error(self._shown, error) from error

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # a device or pipe cannot be cut
                self._file.truncate(self._whole_bytes)
            raise
        self._whole_bytes += len(data)

    def close(self) -> None:
        """Close the file; may be called twice.

        Raises:
            OutputError: If the file system reports a failure only now.
        """
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise output_error(self._shown, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
