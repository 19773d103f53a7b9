"""From the first bytes of a file to the parser of its format; small formats are parsed here."""

from __future__ import annotations

import re
import struct

from featherpose.media.headers.gif import gif_frame_count
from featherpose.media.headers.header import CUT_OFF, ImageHeader
from featherpose.media.headers.heif import read_heif
from featherpose.media.headers.jpeg import read_jpeg
from featherpose.media.headers.png import read_png
from featherpose.media.headers.pnm import PNM_SPACE, read_pam, read_pnm
from featherpose.media.headers.tiff import read_tiff
from featherpose.media.headers.webp import read_webp

__all__ = ["is_heif", "read_header"]

_TEXT_HEADER_BYTES = 4096
_HEIF_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx")


def is_heif(start: bytes) -> bool:
    """Return whether a file that begins with these bytes is an AVIF or HEIC image and not a video of the same boxes."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def read_header(data: bytes) -> ImageHeader | None:
    """Recognize an image by its first bytes.

    Args:
        data: The whole file.

    Returns:
        None if the bytes belong to no image format that is known here.

    Example:
        >>> header = read_header(b"BM" + bytes(12) + struct.pack("<iii", 40, 640, -480) + bytes(26))
        >>> header.format, header.size
        ('BMP', (640, 480))
    """
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError):
        return ImageHeader("image", None, damage="its header is cut off or damaged")


def _read(data: bytes) -> ImageHeader | None:
    if data.startswith(b"\xff\xd8"):
        return read_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        count = gif_frame_count(data)
        damage = None if count else CUT_OFF
        size = struct.unpack_from("<HH", data, 6)
        return ImageHeader("GIF", (size[0], size[1]), damage=damage, bytes_per_pixel=8, frames=max(1, count))
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return read_webp(data)
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return read_tiff(data)
    if is_heif(data[:12]):
        return read_heif(data)
    if data.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):
        return _jpeg_2000(data)
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] in PNM_SPACE:
        return read_pnm(data)
    if data.startswith(b"P7\n"):
        return read_pam(data)
    if data.startswith((b"#?RGBE", b"#?RADIANCE")):
        return _radiance(data)
    if data.startswith(b"\x59\xa6\x6a\x95"):
        width, height, depth = struct.unpack_from(">III", data, 4)
        damage = None if depth in (1, 8, 24, 32) else f"it has {depth} bits a pixel"
        return ImageHeader("Sun raster", (width, height), damage=damage)
    return _without_reader(data)


def _without_reader(data: bytes) -> ImageHeader | None:
    """Recognize formats that some builds of OpenCV decode and whose size is not read here: they are refused by name."""
    if data.startswith((b"PF\n", b"Pf\n", b"PF ", b"Pf ", b"PF\r", b"Pf\r")):
        return ImageHeader("PFM", None, damage="its values have no range that an image could be shown by")
    for start, name in (
        (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"\x76\x2f\x31\x01", "OpenEXR"),
        (b"8BPS", "Photoshop"), (b"DDS ", "DDS"), (b"\x53\x80\xf6\x34", "Softimage PIC"), (b"\0\0\x01\0", "icon"),
    ):  # fmt: skip
        if data.startswith(start):
            return ImageHeader(name, None)
    return None


def _bmp(data: bytes) -> ImageHeader:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:  # the header of OS/2 and Windows 2
        width, height, _planes, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _planes, bits = struct.unpack_from("<iiHH", data, 18)
    alpha_free = 6.0 if bits <= 24 else 8.0
    return ImageHeader("BMP", (abs(width), abs(height)), bytes_per_pixel=alpha_free)


def _radiance(data: bytes) -> ImageHeader:
    # OpenCV's reader takes the line behind the first empty one, also inside comments.
    _, blank, rest = data[:_TEXT_HEADER_BYTES].partition(b"\n\n")
    found = re.match(rb"-Y (\d{1,9}) \+X (\d{1,9})\n", rest) if blank else None
    if found is None:
        raise ValueError("no size")
    return ImageHeader("Radiance HDR", (int(found[2]), int(found[1])), bytes_per_pixel=15)


def _jpeg_2000(data: bytes) -> ImageHeader:
    # The code stream counts: the size in the boxes around it is for readers that do not decode.
    at = 0 if data.startswith(b"\xff\x4f") else data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return ImageHeader("JPEG 2000", None, damage=CUT_OFF)
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    (components,) = struct.unpack_from(">H", data, at + 40)
    bits = (data[at + 42] & 0x7F) + 1
    damage = None if 1 <= components <= 4 else f"it has {components} components"
    return ImageHeader(
        "JPEG 2000", (right - left, bottom - top), damage=damage, depth=16 if bits > 8 else 8,
        bytes_per_pixel=4 * components + (4 if bits <= 8 else 12),
    )  # fmt: skip
