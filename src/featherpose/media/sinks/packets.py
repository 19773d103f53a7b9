"""Compressed frames, and a file that never holds a partial record."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from io import FileIO
from typing import Protocol

__all__ = ["Appender", "Muxer", "Packet"]


@dataclass(frozen=True, slots=True)
class Packet:
    """One compressed frame.

    Attributes:
        data: The frame as its codec writes it.
        time_s: When it is shown, seconds from the beginning of the file.
        keyframe: Whether it can be decoded without those before.
    """

    data: bytes
    time_s: float
    keyframe: bool


class Muxer(Protocol):
    """A container that takes packets one at a time and is readable after each."""

    def write(self, packet: Packet) -> None:
        """Append a frame.

        Raises:
            OSError: If it cannot be written; the file then ends with the frame before.
        """
        ...

    def finish(self) -> None:
        """Add what makes seeking fast; without it the file plays as well.

        Raises:
            OSError: If it cannot be written.
        """
        ...


class Appender:
    """Appends records to a file; one that does not fit is cut off again.

    Args:
        file: Unbuffered, at its end.
        seekable: Whether it can be cut and patched.

    Attributes:
        size: Bytes of whole records.
        seekable: As given.
    """

    def __init__(self, file: FileIO, seekable: bool) -> None:
        self._file = file
        self.seekable = seekable
        self.size = 0

    def append(self, record: bytes) -> None:
        """Write a record at the end.

        Raises:
            OSError: If the disk is full or the file went away.
        """
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            if self.seekable:
                with contextlib.suppress(OSError):
                    self._file.truncate(self.size)
                    self._file.seek(self.size)
            raise
        self.size += len(record)

    def patch(self, at: int, data: bytes) -> None:
        """Overwrite bytes that are there already.

        Raises:
            OSError: If that fails.
        """
        self._file.seek(at)
        self._file.write(data)
        self._file.seek(self.size)
