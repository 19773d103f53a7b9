"""Motion JPEG in AVI, readable after every frame.

Every frame is a JPEG of its own at a constant rate. Files over a gigabyte go on in further RIFF chunks (OpenDML).
Sources: Microsoft, "AVI RIFF File Reference"; Matrox, "OpenDML AVI File Format Extensions" 1.02.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from featherpose.media.sinks.packets import Appender, Packet

__all__ = ["AviMuxer", "read_avi"]

_OPEN_SIZE = 0x7FFFFFFF  # size of a chunk that still grows: readers stop at the end of the file
_PART_BYTES = 1_000_000_000
_HAS_INDEX, _KEYFRAME = 0x10, 0x10


class AviMuxer:
    """Writes one Motion JPEG track; the times of packets are ignored.

    Args:
        file: Where to; at its beginning.
        size: (width, height) in pixels.
        fps: Rate.
        seekable: Whether the header can be completed at the end.

    Raises:
        OSError: If it cannot be written, here and in the methods.
    """

    def __init__(self, file: FileIO, *, size: tuple[int, int], fps: float, seekable: bool = True) -> None:
        self._out = Appender(file, seekable)
        self._index: list[tuple[int, int]] = []
        self._frames = 0
        self._parts = 0
        width, height = size
        rate, scale = round(fps * 1000), 1000
        main = struct.pack(
            "<14I", round(1e6 / fps), 0, 0, _HAS_INDEX, 0, 0, 1, width * height * 3, width, height, 0, 0, 0, 0
        )
        stream = struct.pack(
            "<4s4sIHHIIIIIIIIHHHH", b"vids", b"MJPG", 0, 0, 0, 0, scale, rate, 0, 0, width * height * 3, 0xFFFFFFFF,
            0, 0, 0, width & 0xFFFF, height & 0xFFFF,
        )  # fmt: skip
        image = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
        tracks = _list(b"strl", _chunk(b"strh", stream), _chunk(b"strf", image))
        head = struct.pack("<4sI4s", b"RIFF", _OPEN_SIZE, b"AVI ")
        header = _list(b"hdrl", _chunk(b"avih", main), tracks)
        self._riff = 0
        self._frames_at = (len(head) + 12 + 8 + 16, len(head) + 12 + len(_chunk(b"avih", main)) + 12 + 8 + 32)
        self._list_at = len(head) + len(header)
        self._out.append(head + header + struct.pack("<4sI4s", b"LIST", _OPEN_SIZE - 1000, b"movi"))

    def write(self, packet: Packet) -> None:
        """Append a frame."""
        if self._out.size - self._riff > _PART_BYTES:
            self._end_part()
            self._riff, self._list_at = self._out.size, self._out.size + 12
            self._out.append(
                struct.pack("<4sI4s4sI4s", b"RIFF", _OPEN_SIZE, b"AVIX", b"LIST", _OPEN_SIZE - 1000, b"movi")
            )
        if self._parts == 0:
            self._index.append((self._out.size - self._list_at - 8, len(packet.data)))
        self._out.append(_chunk(b"00dc", packet.data))
        self._frames += 1

    def _end_part(self) -> None:
        seekable = self._out.seekable
        if seekable:
            self._out.patch(self._list_at + 4, struct.pack("<I", self._out.size - self._list_at - 8))
        if self._parts == 0:
            entries = (struct.pack("<4sIII", b"00dc", _KEYFRAME, *entry) for entry in self._index)
            self._out.append(_chunk(b"idx1", *entries))
        if seekable:
            self._out.patch(self._riff + 4, struct.pack("<I", self._out.size - self._riff - 8))
        self._parts += 1

    def finish(self) -> None:
        """Write the index and the sizes."""
        self._end_part()
        if self._out.seekable:
            for at in self._frames_at:
                self._out.patch(at, struct.pack("<I", self._frames))


def _chunk(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(kind: bytes, *parts: bytes) -> bytes:
    return _chunk(b"LIST", kind, *parts)


def read_avi(path: Path) -> Iterator[Packet]:
    """Yield the whole frames of a file that `AviMuxer` wrote, finished or not; their times are all 0.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is another file.
    """
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            kind, size = struct.unpack("<4sI", head)
            if kind == b"RIFF":
                file.seek(4, 1)
            elif kind == b"LIST":
                if file.read(4) == b"hdrl":
                    file.seek(size - 4, 1)
            else:
                data = file.read(size + size % 2)
                if len(data) < size + size % 2:
                    return
                if kind == b"00dc":
                    yield Packet(data[:size], 0.0, True)
                elif kind != b"idx1":
                    raise ValueError("no AVI file of this program")
