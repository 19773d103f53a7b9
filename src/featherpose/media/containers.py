"""Whether a video file is all there: containers state their own length, decoders hide what is missing.

A download or a recording that broke off plays until the cut and then ends like any other; a reader that wants to
report it has to ask the container.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes"]


def missing_bytes(path: Path) -> int:
    """How many bytes a video file lacks by its own account; 0 if whole, or if the container does not say.

    MP4, MOV and M4V (top-level boxes), AVI (RIFF chunks) and Matroska/WebM (the segment) are understood.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "cut.avi"
        ...     _ = path.write_bytes(b"RIFF" + struct.pack("<I", 1000) + b"AVI " + bytes(88))
        ...     missing_bytes(path)
        908
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(0)
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
            return _missing_of_boxes(file, size)
        if start[:4] == b"RIFF":
            return _missing_of_riff(file, size)
        if start[:4] == b"\x1a\x45\xdf\xa3":
            return _missing_of_matroska(file, size)
    return 0


def _missing_of_boxes(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int(struct.unpack_from(">I", head)[0])
        if length == 1 and len(head) == 16:
            length = int(struct.unpack_from(">Q", head, 8)[0])
        elif length == 0:  # "to the end of the file"
            return 0
        if length < 8:
            return 0  # not a box: trailing bytes of some other kind
        at += length
    return max(0, at - size)


def _missing_of_riff(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length == 0:  # an interrupted recorder leaves 0: nothing is said
            return 0
        at += 8 + length + (length & 1)
    # Writers differ on whether the last padding byte is there.
    return at - size if at - size > 1 else 0


def _missing_of_matroska(file: BinaryIO, size: int) -> int:
    def number(at: int, keep_marker: bool) -> tuple[int, int]:
        file.seek(at)
        raw = file.read(8)
        if not raw or not raw[0]:
            return -1, at
        length = 9 - raw[0].bit_length()
        value = int.from_bytes(raw[:length])
        if not keep_marker:
            value &= (1 << 7 * length) - 1
            if value == (1 << 7 * length) - 1:  # all ones: a live recording of unknown length
                value = -1
        return value, at + length

    at = 0
    for _ in range(2):  # the EBML header, then the segment that holds everything else
        _identity, at = number(at, keep_marker=True)
        length, at = number(at, keep_marker=False)
        if length < 0:
            return 0
        at += length
    return max(0, at - size)
