"""What a picture file says of itself before it is decoded: format, size, transparency, and whether its end is there.

Decoders allocate first and complain later: a file of 400 KB can claim 20,000 x 20,000 pixels, and a cut JPEG may come
back half grey without a word. Reading the few bytes of the header answers both questions for nothing.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

__all__ = ["PictureHeader", "gif_frame_count", "read_header"]


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """The header of a picture file.

    Attributes:
        format: Name for people.
        size: (width, height) in pixels as stored, before any EXIF rotation; None where the format hides it.
        alpha: True if the pixels carry transparency.
        damage: What is wrong with the file as a whole, or None.
    """

    format: str
    size: tuple[int, int] | None
    alpha: bool = False
    damage: str | None = None


def read_header(data: bytes) -> PictureHeader | None:
    """Recognise a picture by its first bytes.

    Args:
        data: The whole file.

    Returns:
        None if the bytes belong to no known picture format.

    Example:
        >>> read_header(b"BM" + bytes(16) + struct.pack("<ii", 640, -480) + bytes(26))
        PictureHeader(format='BMP', size=(640, 480), alpha=False, damage=None)
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            damage = None if gif_frame_count(data, stop=1) else "it is cut off"
            return PictureHeader("GIF", struct.unpack_from("<HH", data, 6), damage=damage)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return PictureHeader("BMP", (abs(width), abs(height)))
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith((b"II*\0", b"MM\0*")):
            return _tiff(data)
        if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
            return _heif(data)
        if data.startswith(b"\0\0\0\x0cjP  "):
            at = data.find(b"ihdr")
            height, width = struct.unpack_from(">II", data, at + 4) if at > 0 else (0, 0)
            return PictureHeader("JPEG 2000", (width, height) if at > 0 else None)
        if match := re.match(rb"P([1-6])\s+(?:#[^\n]*\s+)*(\d+)\s+(\d+)", data[:1024]):
            return PictureHeader("PNM", (int(match[2]), int(match[3])))
    except (struct.error, IndexError, ValueError):
        return PictureHeader("picture", None, damage="its header is cut off or damaged")
    return None


def _jpeg(data: bytes) -> PictureHeader:
    size: tuple[int, int] | None = None
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFFFF:  # padding before a marker
            at += 1
            continue
        if marker >> 8 != 0xFF:
            return PictureHeader("JPEG", size, damage="its header is damaged")
        kind = marker & 0xFF
        # Start-of-frame markers; C4, C8 and CC are tables that share the range.
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        if kind == 0xDA:
            break
        at += 2 + length
    # The scan ends with FF D9; looking behind the start of the scan skips the thumbnail inside the EXIF block.
    whole = data.rfind(b"\xff\xd9") > at
    return PictureHeader("JPEG", size, damage=None if whole else "it is cut off")


def _png(data: bytes) -> PictureHeader:
    width, height, _depth, colour = struct.unpack_from(">IIBB", data, 16)
    at, alpha, damage = 8, colour in (4, 6), "it is cut off"
    view = memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            damage = f"its {kind.decode('latin-1')!r} chunk is damaged"
            break
        alpha |= kind == b"tRNS"
        if kind == b"IEND":
            damage = ""
            break
        at = end + 4
    return PictureHeader("PNG", (width, height), alpha=alpha, damage=damage or None)


def _webp(data: bytes) -> PictureHeader:
    kind = data[12:16]
    declared = struct.unpack_from("<I", data, 4)[0] + 8
    damage = "it is cut off" if declared > len(data) else None
    if kind == b"VP8X":
        size = (int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1)
        return PictureHeader("WebP", size, alpha=bool(data[20] & 0x10), damage=damage)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        size = ((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
        return PictureHeader("WebP", size, alpha=bool(bits >> 28 & 1), damage=damage)
    width, height = struct.unpack_from("<HH", data, 26)
    return PictureHeader("WebP", (width & 0x3FFF, height & 0x3FFF), damage=damage)


def _tiff(data: bytes) -> PictureHeader:
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return PictureHeader("TIFF", None, damage="it is cut off")
    (entries,) = struct.unpack_from(order + "H", data, at)
    fields: dict[int, int] = {}
    for i in range(entries):
        tag, kind, _count = struct.unpack_from(order + "HHI", data, at + 2 + 12 * i)
        fields[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 10 + 12 * i)[0]
    size = (fields[256], fields[257]) if {256, 257} <= fields.keys() else None
    return PictureHeader("TIFF", size, alpha=fields.get(277) == 4 and 338 in fields)


def _heif(data: bytes) -> PictureHeader:
    name = "AVIF" if data[8:11] == b"avi" or b"avif" in data[8:64] else "HEIC"
    # Thumbnails and tiles have a size property of their own; the picture is the largest.
    sizes = [struct.unpack_from(">II", data, m.end() + 4) for m in re.finditer(b"ispe", data[:65536])]
    return PictureHeader(name, max(sizes, key=lambda s: s[0] * s[1], default=None))


def gif_frame_count(data: bytes, *, stop: int = 2) -> int:
    """Number of whole pictures in a GIF, counted up to ``stop``; one picture is a photograph, two are a film.

    Example:
        >>> gif_frame_count(b"GIF89a" + bytes(7) + b";")
        0
    """

    def skip_blocks(at: int) -> int:
        while data[at]:
            at += data[at] + 1
        return at + 1

    count = 0
    try:
        at = 13 + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
        while count < stop:
            if data[at] == 0x21:  # extension
                at = skip_blocks(at + 2)
            elif data[at] == 0x2C:  # picture
                flags = data[at + 9]
                at = skip_blocks(at + 11 + (3 * (2 << (flags & 7)) if flags & 0x80 else 0))
                count += 1
            else:
                break
    except IndexError:
        pass
    return count
