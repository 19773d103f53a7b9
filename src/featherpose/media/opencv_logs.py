"""Suppresses stderr output of the decoders' C code where our own exception states the reason better."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

from cv2.utils import logging as cv2_logging

__all__ = ["suppress_decoder_output", "suppress_opencv_logs"]

_lock = threading.Lock()
_inside = 0
_level_before: int = 0

# What libjpeg, libpng and FFmpeg write; none of them offers a switch that OpenCV passes on.
_DECODER_LINES = re.compile(
    rb"(?:libpng (?:warning|error)|Corrupt JPEG data|Premature end of JPEG|Invalid SOS param|Inconsistent progression|"
    rb"Unsupported marker|Application transferred|Warning: |Bogus |Unknown Adobe|Invalid progressive|\[\w+ @ 0x|"
    rb"Invalid JPEG file|Unsupported JPEG|Huffman table|Quantization table|JPEG datastream|Not a JPEG|"
    rb"Duplicate )[^\n]*\n"
)


@contextlib.contextmanager
def suppress_opencv_logs() -> Iterator[None]:
    """Suppress log lines of OpenCV inside the block, in every release.

    The level is global to the process: the first thread to enter lowers it, the last to leave restores it.
    """
    global _inside, _level_before
    with _lock:
        if _inside == 0:
            _level_before = cv2_logging.getLogLevel()
            cv2_logging.setLogLevel(cv2_logging.LOG_LEVEL_SILENT)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                cv2_logging.setLogLevel(_level_before)


class _StandardError:
    """Redirects descriptor 2 to a file while a decoder runs; lines of other code are passed on afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._read = 0
        self._real = -1
        self._file: int | None = None

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            try:
                if self._file is None:
                    self._file = _memory_file()
                self._real = os.dup(2)
                os.dup2(self._file, 2)
            except OSError:  # stderr is closed, or no descriptors are left: it stays as it is
                self._real = -1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._real < 0:
                return
            if self._users == 0:
                os.dup2(self._real, 2)
            self._pass_on()
            if self._users == 0:
                os.close(self._real)
                self._real = -1

    def _pass_on(self) -> None:
        assert self._file is not None
        length = os.lseek(self._file, 0, os.SEEK_END)
        if length == self._read:
            return
        os.lseek(self._file, self._read, os.SEEK_SET)
        text = os.read(self._file, length - self._read)
        if self._users == 0:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._read = 0
        else:
            self._read = length
        if rest := _DECODER_LINES.sub(b"", text):
            with contextlib.suppress(OSError):
                os.write(self._real, rest)


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("decoder-output")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_standard_error = _StandardError()


@contextlib.contextmanager
def suppress_decoder_output() -> Iterator[None]:
    """Suppress lines of OpenCV, libjpeg, libpng and FFmpeg on stderr inside the block.

    For decoders that return soon: what other threads write to stderr meanwhile comes out at the end of the block.
    """
    with suppress_opencv_logs():
        _standard_error.enter()
        try:
            yield
        finally:
            _standard_error.leave()
