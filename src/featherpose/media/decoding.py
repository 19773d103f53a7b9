"""Image bytes to pixels: OpenCV's decoders, bounded by what the header declares."""

from __future__ import annotations

import io
from importlib.util import find_spec

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from featherpose.errors import OutOfMemoryError, SourceError
from featherpose.media.headers import ImageHeader
from featherpose.media.headers.exif import upright
from featherpose.media.headers.png import without_remarks
from featherpose.media.headers.pnm import plain_pnm
from featherpose.media.opencv_logs import suppress_decoder_output

__all__ = [
    "BYTES_PER_PIXEL",
    "check_budget",
    "check_size",
    "decode_pixels",
    "out_of_memory",
    "over_white",
    "to_8_bit",
    "without_end_mark",
]

BYTES_PER_PIXEL = 6
"""What decoding an ordinary image takes for each pixel: the decoder's image and the one that is handed on."""

# Decoded without the pixel limit: up to 25 megapixels of the most expensive kind, 16-bit RGBA.
_FREE_BYTES = 400_000_000
# A scan of a megapixel costs a millisecond; real progressive JPEGs have about ten scans.
_FREE_SCANS = 20
_MAX_SCAN_PIXELS = 1_000_000_000
_STRIP_PIXELS = 1 << 16

_Image = UInt8[np.ndarray, "H W 3"]


def check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image or a frame without pixels, or with more than the limit.

    Raises:
        SourceError: If the size is refused.
    """
    width, height = size
    if width < 1 or height < 1:
        raise SourceError(f"{name} claims to be {width}x{height} pixels", expected="at least 1x1")
    if width * height > max_pixels:
        raise SourceError(
            f"{name} is {width}x{height} pixels, {width * height / 1e6:,.0f} megapixels",
            expected=f"at most {max_pixels / 1e6:,.0f} megapixels",
            hint="shrink it first, or raise the limit (--max-megapixels, max_pixels=)",
        )


def check_budget(name: str, header: ImageHeader, max_pixels: int) -> None:
    """Refuse an image that takes more memory or time to decode than the pixel limit allows.

    Raises:
        SourceError: If it is too expensive.
    """
    assert header.size is not None
    pixels = header.size[0] * header.size[1]
    needed, allowed = pixels * header.bytes_per_pixel, max(_FREE_BYTES, BYTES_PER_PIXEL * max_pixels)
    if needed > allowed:
        raise SourceError(
            f"{name} is a {header.format} of {pixels / 1e6:,.0f} megapixels; decoding it takes {needed / 1e6:,.0f} MB",
            expected=f"at most {allowed / 1e6:,.0f} MB at a limit of {max_pixels / 1e6:,.0f} megapixels",
            hint="save it without transparency and with 8 bits, shrink it, or raise the limit "
            "(--max-megapixels, max_pixels=)",
        )
    if header.scans > _FREE_SCANS and header.scans * pixels > _MAX_SCAN_PIXELS:
        raise SourceError(
            f"{name} is a {header.format} that draws its {pixels / 1e6:,.0f} megapixels {header.scans} times",
            expected=f"at most {max(_FREE_SCANS, _MAX_SCAN_PIXELS // pixels)} scans",
            hint="save it anew",
        )


def decode_pixels(data: bytes, header: ImageHeader, name: str) -> UInt8[np.ndarray, "H W 3"] | None:
    """Decode an image whose header was accepted.

    Returns:
        uint8[H, W, 3], BGR, upright; None if the decoder refuses it.

    Raises:
        SourceError: If a package is missing, or there is not enough memory.
    """
    try:
        if header.format == "HEIC":
            return _heic(data, name)
        if header.format == "PNG":
            data = without_remarks(data)
        elif header.format == "PNM":
            data = plain_pnm(data)
        deep = header.depth > 8
        if header.alpha:
            flags = cv2.IMREAD_UNCHANGED
        elif header.format == "AVIF":
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # its boxes state the rotation, not its EXIF
        elif deep:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        else:
            flags = cv2.IMREAD_COLOR
        image = _opencv(data, flags)
        if image is not None and image.ndim == 3 and image.shape[2] == 4:
            # OpenCV leaves images with transparency as they are stored; but TIFFs it turns.
            orientation = header.orientation if header.format != "TIFF" else 1
            return upright(over_white(image, header.maximum), orientation)
        if header.alpha:
            image = _opencv(data, cv2.IMREAD_COLOR)
        if image is None:
            return None
        if image.dtype == np.uint16:
            image = to_8_bit(image, header.maximum)
        if image.dtype != np.uint8 or image.ndim != 3:
            return None
        return upright(image, header.orientation) if header.format == "AVIF" else image
    except MemoryError as error:
        raise out_of_memory(name, header) from error


def out_of_memory(name: str, header: ImageHeader | None) -> OutOfMemoryError:
    """Return the error for a machine without enough memory for an image; it never calls the file damaged."""
    needed = ""
    if header is not None and header.size is not None:
        megabytes = header.size[0] * header.size[1] * header.bytes_per_pixel / 1e6
        needed = f": {header.size[0]}x{header.size[1]} pixels take about {megabytes:,.0f} MB"
    return OutOfMemoryError(
        f"there is not enough memory for {name}{needed}",
        hint="shrink it, close other programs, or allow less (--max-megapixels)",
    )


def enough_memory(header: ImageHeader) -> bool:
    """Return whether the memory that decoding needs is available now: decoders report both causes alike."""
    assert header.size is not None
    try:
        np.empty(int(header.size[0] * header.size[1] * header.bytes_per_pixel), np.uint8)
    except MemoryError:
        return False
    return True


def without_end_mark(data: bytes) -> UInt8[np.ndarray, "H W 3"] | None:
    """Decode a JPEG that lacks only its end mark, which some cameras never write; None if pixels are missing, too.

    The decoder fills missing data silently. If the data is complete, bytes appended to it make no difference; otherwise
    they change pixels.
    """
    data = data.rstrip(b"\xff")
    plain = _opencv(data + b"\xff\xd9", cv2.IMREAD_COLOR)
    noise = bytes(range(1, 255)) * 8
    other = _opencv(data + noise + b"\xff\xd9", cv2.IMREAD_COLOR)
    same = plain is not None and other is not None and np.array_equal(plain, other)
    return plain if same else None


def over_white(image: UInt8[np.ndarray, "H W 4"] | UInt16[np.ndarray, "H W 4"], maximum: int | None = None) -> _Image:
    """Blend transparent pixels over white, in strips so that no array of wide numbers is as large as the image.

    Args:
        image: uint8 or uint16[H, W, 4], BGRA.
        maximum: The value of white and of opaque, where the file states it.
    """
    height, width = image.shape[:2]
    result = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    bits = _bits(image) if image.dtype == np.uint16 else 8
    for top in range(0, height, rows):
        strip = image[top : top + rows]
        if strip.dtype != np.uint8:
            strip = _narrowed(strip, maximum, bits)
        alpha = strip[..., 3:]
        lowest = int(alpha.min())
        if lowest == 255:
            result[top : top + rows] = strip[..., :3]
            continue
        if lowest == 0 and int(alpha.max()) == 0:
            result[top : top + rows] = 255
            continue
        wide = alpha.astype(np.uint16)
        mixed = strip[..., :3] * wide
        mixed += (255 - wide) * np.uint16(255)
        # Rounded division by 255 without dividing; exact for all products of two bytes.
        mixed += 128
        mixed += mixed >> 8
        mixed >>= 8
        result[top : top + rows] = mixed
    return result


def to_8_bit(image: UInt16[np.ndarray, "H W ..."], maximum: int | None = None) -> UInt8[np.ndarray, "H W ..."]:
    """Convert samples of 16 bits to 8.

    Cameras and microscopes store 10, 12 or 14 bits in 16 without scaling them: read as 16 bits they are nearly black.
    If the file does not state the value of white, the largest sample decides the depth.

    Args:
        image: uint16[H, W, ...].
        maximum: The value of white, where the file states it.

    Example:
        >>> to_8_bit(np.array([[[0], [2048], [4095]]], np.uint16)).ravel().tolist()
        [0, 128, 255]
    """
    return _narrowed(image, maximum, _bits(image))


def _bits(image: UInt16[np.ndarray, "H W ..."]) -> int:
    largest = int(image.max(initial=0))
    return next(bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)


def _narrowed(image: UInt16[np.ndarray, "H W ..."], maximum: int | None, bits: int) -> UInt8[np.ndarray, "H W ..."]:
    if maximum is not None and 255 < maximum < 65535:
        return np.asarray(cv2.convertScaleAbs(image, alpha=255 / maximum), np.uint8).reshape(image.shape)
    if bits == 16:  # the upper bytes, four times as fast as a shift
        return np.ascontiguousarray(image.astype("<u2", copy=False).view(np.uint8).reshape(*image.shape, 2)[..., 1])
    return (image >> (bits - 8)).astype(np.uint8)


def _opencv(data: bytes, flags: int) -> np.ndarray | None:
    try:
        with suppress_decoder_output():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem or "Insufficient memory" in str(error):
            raise MemoryError from error
        return None
    # OpenCV's annotation states an array; it returns None for bytes that it cannot read.
    found: np.ndarray | None = image
    return found


def _heic(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"] | None:
    if find_spec("pillow_heif") is None:
        raise SourceError(
            f"{name} is a HEIC image, which OpenCV cannot read",
            hint='run: pip install "featherpose[heif]", or convert it to JPEG or PNG',
        )
    import pillow_heif  # a third of a second that other images need not wait for

    try:
        found = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        pixels = np.asarray(found)  # turned as its boxes say
    except (ValueError, OSError, RuntimeError, SyntaxError):
        return None
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    if pixels.shape[2] == 4:
        return over_white(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)))
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
