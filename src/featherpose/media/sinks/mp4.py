"""MP4 files of VP9 that are readable after every frame and end as ordinary MP4.

While it grows the file is fragmented: each frame is a fragment of its own. `finish` appends an index of all frames and
turns the fragments into the data of an ordinary file by overwriting 16 bytes at the front, so nothing is copied.
Sources: ISO/IEC 14496-12 (boxes), "VP Codec ISO Media File Format Binding" 1.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import FileIO
from itertools import pairwise
from pathlib import Path

from featherpose.media.sinks.packets import Appender, Packet

__all__ = ["Mp4Muxer", "read_mp4"]

_CLOCK_HZ = 90_000
_SYNC, _NO_SYNC = 0x02000000, 0x01010000
_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_BT601 = 6


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


class Mp4Muxer:
    """Writes one VP9 track.

    Args:
        file: Where to; at its beginning.
        size: (width, height) in pixels.
        fps: Nominal rate, the time that the last frame is shown.
        quicktime: Call the file a QuickTime movie.
        seekable: Whether `finish` can make it an ordinary file.

    Raises:
        OSError: If it cannot be written, here and in the methods.
    """

    def __init__(
        self, file: FileIO, *, size: tuple[int, int], fps: float, quicktime: bool = False, seekable: bool = True
    ) -> None:
        self._out = Appender(file, seekable)
        self._size = size
        self._step = max(1, round(_CLOCK_HZ / fps))
        self._samples: list[tuple[int, int, int, bool]] = []  # position, bytes, time, keyframe
        brands = b"qt  " if quicktime else b"isomiso6mp41"
        file_type = _box(b"ftyp", b"qt  " if quicktime else b"isom", struct.pack(">I", 0x200), brands)
        self._place = len(file_type)
        self._out.append(file_type + _box(b"free", bytes(8)) + self._movie(fragmented=True))

    def write(self, packet: Packet) -> None:
        """Append a frame."""
        time = round(packet.time_s * _CLOCK_HZ)
        flags = _SYNC if packet.keyframe else _NO_SYNC
        number = len(self._samples) + 1

        def fragment(offset: int) -> bytes:
            return _box(
                b"moof",
                _full(b"mfhd", 0, 0, struct.pack(">I", number)),
                _box(
                    b"traf",
                    _full(b"tfhd", 0, 0x020000, struct.pack(">I", 1)),  # offsets count from this box
                    _full(b"tfdt", 1, 0, struct.pack(">Q", time)),
                    _full(b"trun", 0, 0x701, struct.pack(">IiIII", 1, offset, self._step, len(packet.data), flags)),
                ),
            )

        head = fragment(len(fragment(0)) + 8)
        position = self._out.size + len(head) + 8
        self._out.append(head + _box(b"mdat", packet.data))
        self._samples.append((position, len(packet.data), time, packet.keyframe))

    def finish(self) -> None:
        """Write the index and make the file an ordinary one."""
        if not self._out.seekable or not self._samples:
            return
        end = self._out.size
        self._out.append(self._movie(fragmented=False))
        self._out.patch(self._place, struct.pack(">I4sQ", 1, b"mdat", end - self._place))

    def _movie(self, *, fragmented: bool) -> bytes:
        width, height = self._size
        duration = 0 if fragmented else self._samples[-1][2] + self._step
        header = _full(
            b"mvhd", 1, 0, struct.pack(">QQIQIHHII", 0, 0, _CLOCK_HZ, duration, 0x10000, 0x100, 0, 0, 0), _MATRIX,
            bytes(24), struct.pack(">I", 2),
        )  # fmt: skip
        track_header = _full(
            b"tkhd", 1, 3, struct.pack(">QQIIQQHHHH", 0, 0, 1, 0, duration, 0, 0, 0, 0, 0), _MATRIX,
            struct.pack(">II", width << 16, height << 16),
        )  # fmt: skip
        media = _box(
            b"mdia",
            _full(b"mdhd", 1, 0, struct.pack(">QQIQHH", 0, 0, _CLOCK_HZ, duration, 0x55C4, 0)),
            _full(b"hdlr", 0, 0, struct.pack(">I4s12s", 0, b"vide", b""), b"video\0"),
            _box(
                b"minf",
                _full(b"vmhd", 0, 1, bytes(8)),
                _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1))),
                _box(b"stbl", self._description(), *self._tables(fragmented)),
            ),
        )
        extends = _box(b"mvex", _full(b"trex", 0, 0, struct.pack(">5I", 1, 1, 0, 0, 0))) if fragmented else b""
        return _box(b"moov", header, _box(b"trak", track_header, media), extends)

    def _description(self) -> bytes:
        width, height = self._size
        level = 31 if width * height <= 1280 * 720 else 41 if width * height <= 1920 * 1088 else 52
        # Profile 0, 8 bits, 4:2:0, limited range, and OpenCV's conversion of colors.
        codec = _full(b"vpcC", 1, 0, struct.pack(">BBBBBBH", 0, level, 8 << 4 | 1 << 1, _BT601, _BT601, _BT601, 0))
        entry = _box(
            b"vp09", bytes(6), struct.pack(">H", 1), bytes(16),
            struct.pack(">HHIIIH", width, height, 0x480000, 0x480000, 0, 1), bytes(32),
            struct.pack(">Hh", 24, -1), codec,
        )  # fmt: skip
        return _full(b"stsd", 0, 0, struct.pack(">I", 1), entry)

    def _tables(self, empty: bool) -> list[bytes]:
        samples = [] if empty else self._samples
        times = [sample[2] for sample in samples]
        steps = [after - before for before, after in pairwise(times)] + [self._step] * bool(times)
        runs: list[list[int]] = []
        for step in steps:
            if runs and runs[-1][1] == step:
                runs[-1][0] += 1
            else:
                runs.append([1, step])
        keys = [number for number, sample in enumerate(samples, 1) if sample[3]]
        count = len(samples)
        return [
            _full(b"stts", 0, 0, struct.pack(">I", len(runs)), *(struct.pack(">II", *run) for run in runs)),
            _full(b"stss", 0, 0, struct.pack(f">I{len(keys)}I", len(keys), *keys)),
            _full(
                b"stsc", 0, 0, struct.pack(">I", 1 if samples else 0), struct.pack(">3I", 1, 1, 1) if samples else b""
            ),
            _full(b"stsz", 0, 0, struct.pack(f">II{count}I", 0, count, *(sample[1] for sample in samples))),
            _full(b"co64", 0, 0, struct.pack(f">I{count}Q", count, *(sample[0] for sample in samples))),
        ]


def read_mp4(path: Path) -> Iterator[Packet]:
    """Yield the whole frames of a file that `Mp4Muxer` wrote, finished or not.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is another file.
    """
    with path.open("rb") as file:
        size, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if kind != b"ftyp":
            raise ValueError("no MP4 file")
        file.seek(size + 16)  # the fragments follow; the 16 bytes are ignored
        time, keyframe = 0, False
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            data = file.read(size - 8)
            if len(data) < size - 8:
                return
            if kind == b"moof":
                at = data.index(b"tfdt") + 8
                time = struct.unpack(">Q", data[at : at + 8])[0]
                keyframe = data[-4:] == struct.pack(">I", _SYNC)
            elif kind == b"mdat":
                yield Packet(data, time / _CLOCK_HZ, keyframe)
