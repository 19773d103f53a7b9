"""Text files that grow record by record and stay readable if the process dies or the disk is full."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TextIO

from featherpose.errors import OutputError
from featherpose.files import PartFile, is_special, make_folder, output_error

__all__ = ["TextOutput"]


class TextOutput:
    """Text file, or an open stream, written in whole records that are handed to the system at once.

    A record that does not fit on the disk is cut off again, so that the file ends with the last whole one. An earlier
    file of the name is emptied by the first record, not before. Text is UTF-8 in every locale.

    Args:
        target: Path of a file, or an open stream, which is not closed.
        part: Write to this temporary file, which `close` gives the name ``target``.
        temporary: Leave the name of ``part`` as it is.
        head: Text before the first record, written with it.
        tail: Text that ends the file after every record; the next record overwrites it, so that the file is whole at
            any moment.
        keep: Bytes of the file that are already there and stay.

    Raises:
        OutputError: If the file cannot be opened.

    Attributes:
        begun: Whether anything was written.
        failed: Whether a record could not be written; nothing can be added afterwards.
    """

    def __init__(
        self,
        target: Path | TextIO,
        *,
        part: PartFile | None = None,
        temporary: bool = False,
        head: str = "",
        tail: str = "",
        keep: int = 0,
    ) -> None:
        self._file: FileIO | None = None
        self._stream: TextIO | None = None
        self._part = part
        self._temporary = temporary
        self._head = head.encode()
        self._tail = tail.encode()
        self._whole_bytes = keep
        self.begun = False
        self._can_seek = True
        self._made = False
        self.failed = False
        if not isinstance(target, Path):
            self._shown = Path(getattr(target, "name", "<stream>"))
            self._stream = target
            return
        self._shown = target
        if part is not None:
            self._file, self._can_seek = part.file, not part.special
            return
        make_folder(target.parent)
        self._can_seek = not is_special(target)
        try:
            if target.is_dir():
                raise IsADirectoryError
            self._made = not target.exists()
            # Not emptied yet: a run that fails before its first frame must not destroy the earlier result.
            self._file = FileIO(os.open(target, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "w")
        except OSError as error:
            raise output_error(self._shown, error) from error

    def write(self, record: str) -> None:
        """Append a record.

        Raises:
            OutputError: If the disk is full or the file went away.
        """
        data = record.encode()
        if not self.begun:
            data = self._head + data
        try:
            if self._stream is not None:
                self.begun = True
                _write_stream(self._stream, data)
            elif self._file is not None:
                self._append(self._file, data)
            else:
                raise OutputError(f"{self._shown} is closed after an earlier failure")
        except BrokenPipeError:
            raise  # the reader of a pipe left: not an error of the file
        except OSError as error:
            self.failed = True
            with contextlib.suppress(OutputError):
                self.close()
            raise output_error(self._shown, error) from error

    def _append(self, file: FileIO, data: bytes) -> None:
        if self._can_seek and not self.begun:
            file.truncate(self._whole_bytes)
        if self._can_seek and (self._tail or (not self.begun and self._whole_bytes)):
            file.seek(self._whole_bytes)
        self.begun = True
        rest = memoryview(data + self._tail if self._can_seek else data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # a device or pipe cannot be cut
                file.truncate(self._whole_bytes)
                if self._tail:  # fits: it stood here before
                    file.seek(self._whole_bytes)
                    file.write(self._tail)
            raise
        self._whole_bytes += len(data)

    def close(self) -> None:
        """Close the file; may be called twice.

        Raises:
            OutputError: If the file system reports a failure only now, or the file was removed while it was written.
        """
        stream, self._stream = self._stream, None
        if stream is not None and not self.failed:
            end = self._tail if self.begun else self._head + self._tail
            try:
                if end:
                    _write_stream(stream, end)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise output_error(self._shown, error) from error
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if not self.begun:
                self._append(file, self._head)
            if self._tail and not self._can_seek and not self.failed:
                file.write(self._tail)
            if self._part is not None:
                if not self._temporary:
                    self._part.commit()
            elif self._can_seek and not _is_still_there(file, self._shown):
                raise OutputError(
                    f"{self._shown} was removed or replaced while it was written", hint="run the command again"
                )
        except OSError as error:
            raise output_error(self._shown, error) from error
        finally:
            with contextlib.suppress(OSError):
                file.close()

    def abandon(self) -> None:
        """Close the file; one that has no record yet stays as it was before."""
        if self.begun:
            with contextlib.suppress(OutputError):
                self.close()
            return
        file, self._file, self._stream = self._file, None, None
        if self._part is not None:
            self._part.discard()
        elif file is not None:
            with contextlib.suppress(OSError):
                file.close()
                if self._made:
                    self._shown.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_stream(stream: TextIO, data: bytes) -> None:
    binary: BinaryIO | None = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(data.decode())
        stream.flush()
        return
    stream.flush()
    binary.write(data)
    binary.flush()


def _is_still_there(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
