"""Type of a file by its first bytes; the suffix decides only where they do not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from featherpose.media.headers import gif_frame_count, is_heif, read_header
from featherpose.media.images import IMAGE_SUFFIXES

__all__ = ["HEAD_BYTES", "JPEG_SUFFIXES", "VIDEO_SUFFIXES", "Content", "content_of_bytes", "content_of_file", "is_jpeg"]

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv",
        ".3gp", ".ogv", ".gif", ".vob", ".mjpeg", ".mjpg", ".h264", ".264", ".h265", ".hevc", ".265", ".y4m", ".ivf",
    ]
)  # fmt: skip
"""Suffixes by which videos are found in a folder; a file that is named itself is tried whatever its suffix."""

HEAD_BYTES = 4096
"""How much of a file is looked at; of those that may hold one image or several, all."""

Content = Literal["image", "animation", "video", "unknown"]
"""``animation``: several images that OpenCV's image decoders read, and FFmpeg does not."""

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
"""Suffixes of JPEG."""
_VIDEO_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01", b"OggS", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, of which WMV is one
    b"YUV4MPEG2 ", b"DKIF", b".RMF", b"\x06\x0e\x2b\x34", b"\x00\x00\x01\xba",  # a program stream
    b"\x00\x00\x01\xb3", b"\x00\x00\x01\xb0", b"\x00\x00\x01\xb5",  # raw MPEG-1, 2 and 4
)  # fmt: skip
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot", b"styp", b"moof")
# An H.264 or HEVC stream begins with parameters or a delimiter: the type stands behind the start code.
_H264_TYPES, _HEVC_TYPES = (6, 7, 9), (32, 33, 35, 39)
_TS_PACKET_BYTES = {188: 0, 192: 4, 204: 0}


def content_of_file(path: Path, *, thorough: bool = True) -> Content:
    """Return what a file holds.

    Args:
        path: A regular file.
        thorough: Look for further images behind the first of a JPEG, too, for which all of it is read.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        rest = b""
        if head.startswith((b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) or (
            head.startswith(b"\xff\xd8") and (thorough or path.suffix.lower() not in JPEG_SUFFIXES)
        ):
            rest = file.read()
    found = content_of_bytes(head + rest, is_start=not rest)
    if found != "unknown":
        return found
    suffix = path.suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else "unknown"


def is_jpeg(path: Path) -> bool:
    """Return whether a file begins with a JPEG.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def content_of_bytes(data: bytes, *, is_start: bool = False) -> Content:
    r"""Return what bytes hold.

    Args:
        data: A whole file, or the start of one.
        is_start: Whether more of it follows.

    Example:
        >>> content_of_bytes(b"YUV4MPEG2 W16 H16"), content_of_bytes(b"II*\0"), content_of_bytes(b"hello")
        ('video', 'image', 'unknown')
    """
    if is_heif(data[:12]):
        return "animation" if data[8:12] in (b"avis", b"msf1") else "image"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        frames = re.search(rb"\0\0\0\x08acTL(.{4})", data[:HEAD_BYTES], re.DOTALL)
        return "video" if frames is not None and int.from_bytes(frames[1]) > 1 else "image"
    if data.startswith(b"GIF8"):
        return "video" if gif_frame_count(data) > 1 else "image"
    if data.startswith(b"RIFF"):
        kind = data[8:12]
        if kind == b"WEBP":
            return "animation" if data[12:16] == b"VP8X" and len(data) > 20 and data[20] & 2 else "image"
        return "video" if kind in (b"AVI ", b"AVIX", b"CDXA") else "unknown"
    if data.startswith(b"\xff\xd8"):
        return "video" if not is_start and _is_motion_jpeg(data) else "image"
    if data.startswith(_VIDEO_STARTS) or data[4:8] in _BOXES or _is_elementary(data) or _is_transport(data):
        return "video"
    header = read_header(data)
    if header is None:
        return "unknown"
    return "animation" if header.format == "TIFF" and header.frames > 1 else "image"


def _is_motion_jpeg(data: bytes) -> bool:
    """Return whether an image of the same size follows; what telephones append (MPF) is smaller or announced."""
    end = data.find(b"\xff\xd9\xff\xd8\xff")
    if end < 0 or b"MPF\0" in data[:65536]:
        return False
    first, second = read_header(data[: end + 2]), read_header(data[end + 2 :])
    if first is None or second is None or first.size is None:
        return False
    return first.size == second.size


def _is_elementary(data: bytes) -> bool:
    start = re.match(rb"\0{2,3}\x01(.)(.)", data, re.DOTALL)
    if start is None:
        return False
    first = start[1][0]
    is_h264 = first & 0x80 == 0 and first & 0x1F in _H264_TYPES
    is_hevc = first & 0x81 == 0 and first >> 1 in _HEVC_TYPES and start[2][0] & 0xF8 == 0
    return is_h264 or is_hevc


def _is_transport(data: bytes) -> bool:
    """Return whether a synchronization byte is at the start of each packet."""
    return any(
        len(data) > at + 4 * length and all(data[at + i * length] == 0x47 for i in range(5))
        for length, at in _TS_PACKET_BYTES.items()
    )
