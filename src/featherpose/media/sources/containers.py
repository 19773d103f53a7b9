"""Completeness of video files: containers state their own length, decoders hide what is missing.

A truncated download or recording plays up to the cut and then ends like any other; only the container reveals it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes", "stated_duration_s"]

_MAX_BOXES = 10_000


def missing_bytes(path: Path) -> int:
    """Return how many bytes a video file lacks by its own header; 0 if complete, or if the container does not state it.

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
        if start[:4] == b"GIF8":
            file.seek(max(0, size - 16))
            return 0 if file.read().rstrip(b"\0").endswith(b";") else 1
    return 0


def stated_duration_s(path: Path) -> float | None:
    """Return how long the pictures of a video last by its own header, without sound and what an edit list leaves out.

    Only MP4, MOV and AVI state it; the length of other containers is that of their longest track.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
                return _duration_of_boxes(file, path.stat().st_size)
            if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
                file.seek(0)
                head = file.read(1 << 16)
                at = head.find(b"vids")
                if at > 0:
                    scale, rate, _, frames = struct.unpack_from("<IIII", head, at + 20)
                    return float(frames * scale / rate) if rate and frames else None
    except (OSError, struct.error, ValueError):
        pass
    return None


def _duration_of_boxes(file: BinaryIO, size: int) -> float | None:
    """Return the duration from the edit list, else from the media header, of the first video track."""

    def boxes(at: int, end: int) -> dict[bytes, list[tuple[int, int]]]:
        found: dict[bytes, list[tuple[int, int]]] = {}
        for _ in range(_MAX_BOXES):
            if at + 8 > end:
                break
            file.seek(at)
            head = file.read(16)
            length, kind = struct.unpack_from(">I4s", head)
            body = at + 8
            if length == 1:
                (length,) = struct.unpack_from(">Q", head, 8)
                body = at + 16
            elif length == 0:
                length = end - at
            if length < body - at:
                break
            found.setdefault(kind, []).append((body, at + length))
            at += length
        return found

    def header(at: int) -> tuple[int, int]:
        """Return (time scale, duration) of an mvhd or mdhd box."""
        file.seek(at)
        data = file.read(36)
        scale, duration = struct.unpack_from(">IQ", data, 20) if data[0] else struct.unpack_from(">II", data, 12)
        return int(scale), int(duration)

    top = boxes(0, size)
    if b"moov" not in top or b"moof" in top:  # a fragmented file has its lengths in the fragments
        return None
    movie = boxes(*top[b"moov"][0])
    if b"mvhd" not in movie or b"mvex" in movie:
        return None
    movie_scale, _ = header(movie[b"mvhd"][0][0])
    for track_at in movie.get(b"trak", []):
        track = boxes(*track_at)
        media = boxes(*track[b"mdia"][0]) if b"mdia" in track else {}
        if b"hdlr" not in media or b"mdhd" not in media:
            continue
        file.seek(media[b"hdlr"][0][0] + 8)
        if file.read(4) != b"vide":
            continue
        scale, duration = header(media[b"mdhd"][0][0])
        stated = duration / scale if scale else None
        edits = boxes(*track[b"edts"][0]).get(b"elst") if b"edts" in track else None
        if edits and movie_scale:
            file.seek(edits[0][0])
            data = file.read(min(edits[0][1] - edits[0][0], 1 << 20))
            (count,) = struct.unpack_from(">I", data, 4)
            layout = ">QqI" if data[0] else ">IiI"
            entries = [struct.unpack_from(layout, data, 8 + struct.calcsize(layout) * i) for i in range(count)]
            shown = sum(length for length, media_time, _ in entries if media_time >= 0) / movie_scale
            return min(shown, stated) if stated and shown else shown or stated
        return stated
    return None


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
        if kind != b"RIFF" or length == 0:  # an interrupted recorder leaves 0: unknown
            return 0
        at += 8 + length + (length & 1)
    # Writers differ on whether the last padding byte is there.
    return at - size if at - size > 1 else 0


def _missing_of_matroska(file: BinaryIO, size: int) -> int:
    def number(at: int, keep_marker: bool) -> tuple[int, int]:
        if at >= size:  # a length beyond the end, impossible in any file system
            return -1, at
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
