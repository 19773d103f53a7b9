"""WebM and Matroska files that are complete after every frame.

Each frame is a cluster of its own with a known size: a process that is killed leaves a file that plays up to the last
frame. `finish` adds the duration and the index for seeking. Sources: RFC 8794 (EBML), RFC 9559 (Matroska).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from featherpose.media.sinks.packets import Appender, Packet

__all__ = ["MatroskaMuxer", "read_matroska"]

_SEGMENT, _SEEK_HEAD, _INFO, _TRACKS, _CLUSTER, _CUES = (
    0x18538067,
    0x114D9B74,
    0x1549A966,
    0x1654AE6B,
    0x1F43B675,
    0x1C53BB6B,
)
_TIMESTAMP, _SIMPLE_BLOCK = 0xE7, 0xA3
_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
_SEEK_ROOM = 64
_KEYFRAME = 0x80
_BT601 = 6


def _vint(value: int, length: int = 0) -> bytes:
    """Encode a size; ``length`` bytes, or as few as possible."""
    length = length or next(n for n in range(1, 9) if value < (1 << 7 * n) - 1)
    return (value | 1 << 7 * length).to_bytes(length, "big")


def _element(number: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + _vint(len(data)) + data


def _unsigned(number: int, value: int) -> bytes:
    return _element(number, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


class MatroskaMuxer:
    """Writes one video track.

    Args:
        file: Where to; at its beginning.
        doc_type: ``webm`` or ``matroska``.
        codec: ``V_VP8`` or ``V_VP9``.
        size: (width, height) in pixels.
        fps: Nominal rate.
        seekable: Whether `finish` can go back to complete the header.

    Raises:
        OSError: If it cannot be written, here and in the methods.
    """

    def __init__(
        self, file: FileIO, *, doc_type: str, codec: str, size: tuple[int, int], fps: float, seekable: bool
    ) -> None:
        self._out = Appender(file, seekable)
        self._cues: list[tuple[int, int]] = []
        self._end_ms = 0
        self._frame_ms = max(1, round(1000 / fps))
        head = _element(
            0x1A45DFA3, _unsigned(0x4286, 1), _unsigned(0x42F7, 1), _unsigned(0x42F2, 4), _unsigned(0x42F3, 8),
            _element(0x4282, doc_type.encode()), _unsigned(0x4287, 4), _unsigned(0x4285, 2),
        )  # fmt: skip
        head += _SEGMENT.to_bytes(4, "big") + _UNKNOWN_SIZE
        self._segment = len(head)
        head += _void(_SEEK_ROOM)
        self._info = len(head)
        duration = _element(0x4489, struct.pack(">d", 0.0))
        info = _element(
            _INFO, _unsigned(0x2AD7B1, 1_000_000), _element(0x4D80, b"featherpose"), _element(0x5741, b"featherpose"),
            duration,
        )  # fmt: skip
        head += info
        self._duration = len(head) - 8
        self._tracks = len(head)
        color = _element(
            0x55B0,
            _unsigned(0x55B1, _BT601),
            _unsigned(0x55B9, 1),
            _unsigned(0x55BA, _BT601),
            _unsigned(0x55BB, _BT601),
        )
        video = _element(0xE0, _unsigned(0xB0, size[0]), _unsigned(0xBA, size[1]), color)
        track = _element(
            0xAE, _unsigned(0xD7, 1), _unsigned(0x73C5, 1), _unsigned(0x83, 1), _unsigned(0x9C, 0),
            _unsigned(0x23E383, round(1e9 / fps)), _element(0x86, codec.encode()), video,
        )  # fmt: skip
        self._out.append(head + _element(_TRACKS, track))

    def write(self, packet: Packet) -> None:
        """Append a frame."""
        time_ms = round(packet.time_s * 1000)
        flags = _KEYFRAME if packet.keyframe else 0
        block = _element(_SIMPLE_BLOCK, b"\x81" + struct.pack(">hB", 0, flags), packet.data)
        if packet.keyframe:
            self._cues.append((time_ms, self._out.size - self._segment))
        self._end_ms = time_ms + self._frame_ms
        self._out.append(_element(_CLUSTER, _unsigned(_TIMESTAMP, time_ms), block))

    def finish(self) -> None:
        """Write the index, the duration and the size."""
        if not self._out.seekable:
            return
        cues_at = self._out.size - self._segment
        points = [
            _element(0xBB, _unsigned(0xB3, time_ms), _element(0xB7, _unsigned(0xF7, 1), _unsigned(0xF1, position)))
            for time_ms, position in self._cues
        ]
        self._out.append(_element(_CUES, *points))
        places = ((_INFO, self._info - self._segment), (_TRACKS, self._tracks - self._segment), (_CUES, cues_at))
        seek = _element(
            _SEEK_HEAD,
            *(
                _element(0x4DBB, _element(0x53AB, number.to_bytes(4, "big")), _unsigned(0x53AC, position))
                for number, position in places
            ),
        )
        self._out.patch(self._segment, seek + _void(_SEEK_ROOM - len(seek)))
        self._out.patch(self._duration, struct.pack(">d", float(self._end_ms)))
        self._out.patch(self._segment - 8, _vint(self._out.size - self._segment, 8))


def _void(length: int) -> bytes:
    return b"\xec" + _vint(length - 9, 8) + bytes(length - 9)


def read_matroska(path: Path) -> Iterator[Packet]:
    """Yield the whole frames of a file that `MatroskaMuxer` wrote, finished or not.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is another file.
    """
    with path.open("rb") as file:
        inside = False
        while (head := _read_head(file)) is not None:
            number, size = head
            if number == _SEGMENT:
                inside = True
                continue
            if number == _CUES:
                return
            data = file.read(size)
            if len(data) < size:
                return
            if number == 0x1A45DFA3:
                continue
            if not inside:
                raise ValueError("no Matroska file")
            if number == _CLUSTER:
                yield _cluster(data)


def _read_head(file: object) -> tuple[int, int] | None:
    read = file.read  # type: ignore[attr-defined]
    first = read(1)
    if not first or first == b"\0":
        return None
    length = 9 - first[0].bit_length()
    number = int.from_bytes(first + read(length - 1), "big")
    first = read(1)
    if not first or first == b"\0":
        return None
    length = 9 - first[0].bit_length()
    size = first + read(length - 1)
    return number, int.from_bytes(size, "big") & ((1 << 7 * len(size)) - 1)


def _cluster(data: bytes) -> Packet:
    length = data[1] & 0x7F
    time_ms = int.from_bytes(data[2 : 2 + length], "big")
    at = 2 + length + 1
    at += 9 - data[at].bit_length()
    return Packet(data[at + 4 :], time_ms / 1000, bool(data[at + 3] & _KEYFRAME))
