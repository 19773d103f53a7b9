"""Headers agree with the decoders behind them: no file shows one size to us and another to OpenCV."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from featherpose.errors import SourceError
from featherpose.media.headers import ImageHeader, read_header
from featherpose.media.headers.png import without_remarks
from featherpose.media.images import decode_image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo(astronaut: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(astronaut[:150, :240, ::-1]))


def header_of(data: bytes) -> ImageHeader:
    header = read_header(data)
    assert header is not None
    return header


def big_tiff(width: int, height: int, *, order: str = "<", pixels: bytes = b"") -> bytes:
    """A gray BigTIFF of one strip."""
    fields = [
        (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 16, 0), (277, 3, 1),
        (278, 4, height), (279, 16, len(pixels)),
    ]  # fmt: skip
    at = 16 + 8 + 20 * len(fields) + 8
    body = struct.pack(order + "Q", len(fields))
    for tag, kind, value in fields:
        value = at if tag == 273 else value
        packed = struct.pack(order + {3: "H", 4: "I", 16: "Q"}[kind], value).ljust(8, b"\0")
        body += struct.pack(order + "HHQ", tag, kind, 1) + packed
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HHHQ", 43, 8, 0, 16) + body + bytes(8) + pixels


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_tiff_states_its_size(order: str) -> None:
    pixels = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)
    data = big_tiff(60, 40, order=order, pixels=pixels.tobytes())
    assert header_of(data).size == (60, 40)
    assert np.array_equal(decode_image(data, "big.tif")[..., 0], pixels)
    with pytest.raises(SourceError, match="900 megapixels"):
        decode_image(big_tiff(30_000, 30_000, order=order), "big.tif")


def test_formats_of_opencv_state_their_size(astronaut: np.ndarray) -> None:
    for suffix in (".hdr", ".pic", ".pam", ".ras", ".sr", ".ppm", ".jp2"):
        image = astronaut[:40, :60].astype(np.float32) / 255 if suffix in (".hdr", ".pic") else astronaut[:40, :60]
        data = cv2.imencode(suffix, image)[1].tobytes()
        assert header_of(data).size == (60, 40), suffix
        assert decode_image(data, suffix).shape == (40, 60, 3), suffix
        with pytest.raises(SourceError, match="is 60x40 pixels"):
            decode_image(data, suffix, max_pixels=1000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PF\n60 40\n-1\n" + bytes(60 * 40 * 12), "damaged PFM"),
        (b"\xff\x0a" + bytes(50), "JPEG XL image, which is not read here"),
        (b"\x76\x2f\x31\x01" + bytes(50), "OpenEXR"),
        (b"8BPS" + bytes(50), "Photoshop"),
        (b"P5\n9 9 70000\n" + bytes(162), "its largest value is 70000"),
        (b"#?RADIANCE\n# -Y 16 +X 16\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n", "900 megapixels"),
        (b"P7\nWIDTH 9\nWIDTH 30000\nHEIGHT 30000\nDEPTH 3\nMAXVAL 255\nENDHDR\n", "damaged"),
        (b"\x59\xa6\x6a\x95" + struct.pack(">7I", 30_000, 30_000, 24, 0, 1, 0, 0), "900 megapixels"),
    ],
    ids=["pfm", "jxl", "exr", "psd", "pnm-maximum", "hdr-comment", "pam-twice", "sun"],
)
def test_what_cannot_be_measured_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        decode_image(data, "x")


def test_a_jpeg_2000_is_measured_by_its_code_stream(photo: Image.Image) -> None:
    data = bytearray(encode(photo, "JPEG2000"))
    at = data.index(b"ihdr") + 4
    data[at : at + 8] = struct.pack(">II", 3, 3)  # the box for readers that do not decode
    assert header_of(bytes(data)).size == photo.size


def test_an_os2_bitmap_is_read() -> None:
    rows = bytes(range(4 * 3)) * 2
    data = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + struct.pack("<IHHHH", 12, 4, 2, 1, 24) + rows
    assert header_of(data).size == (4, 2)
    assert decode_image(data, "os2.bmp").shape == (2, 4, 3)


def test_garbage_between_jpeg_segments_is_passed_over_as_libjpeg_does(photo: Image.Image) -> None:
    data = encode(photo, "JPEG")
    end = 4 + int.from_bytes(data[4:6], "big")
    for garbage in (b"\0\0\0", b"\xff\x00", b"\xff\xff\xff"):
        odd = data[:end] + garbage + data[end:]
        assert header_of(odd).size == photo.size
        assert np.array_equal(decode_image(odd, "odd.jpg"), decode_image(data, "plain.jpg"))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 5_000_000,
        b"\xff\xd8" + b"\xff\x00" * 2_000_000,
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 1_000_000,
        b"\xff\xd8" + b"\xff\xd0" * 2_000_000,
        b"\xff\xd8" + b"\0" * 5_000_000,
        b"RIFF\0\x12\x7a\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x09\0\0\x09\0\0" + b"ANMF\0\0\0\0" * 10**6,
        b"II*\0\x08\0\0\0\xff\xff" + bytes(70_000 * 12),
        b"GIF89a" + bytes(7) + b"!\xf9\0" * 1_000_000,
    ],
    ids=["fill", "no-markers", "segments", "restarts", "zeros", "webp-chunks", "tiff-entries", "gif-extensions"],
)  # fmt: skip
def test_headers_are_read_in_linear_time(data: bytes) -> None:
    header = read_header(data)  # a quadratic parser would take hours
    assert header is not None
    assert header.damage


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_png_of_empty_chunks_is_refused(photo: Image.Image) -> None:
    data = encode(photo, "PNG")
    with pytest.raises(SourceError, match=r"more than .* chunks"):
        decode_image(data[:33] + png_chunk(b"tEXt") * 200_000 + data[33:], "chunks.png")


def test_remarks_of_png_stay_silent(photo: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(photo, "PNG")
    odd = data[:33] + png_chunk(b"tEXt") * 20 + png_chunk(b"iCCP", b"x\0\0damaged") + data[33:]
    assert without_remarks(data) is data
    assert without_remarks(odd) == data
    assert np.array_equal(decode_image(odd, "odd.png"), decode_image(data, "plain.png"))
    assert capfd.readouterr().err == ""


def test_remarks_of_jpeg_stay_silent_and_others_do_not(photo: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encode(photo, "JPEG", quality=90))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)  # libjpeg warns and goes on
    decode_image(bytes(data), "dented.jpg")
    assert capfd.readouterr().err == ""


def test_many_scans_of_many_pixels_are_refused(photo: Image.Image) -> None:
    large = photo.resize((2400, 1500))
    data = encode(large, "JPEG", progressive=True)
    header = header_of(data)
    assert 2 <= header.scans <= 20
    start = data.index(b"\xff\xda")
    repeated = data[:start] + data[start:-2] * 40 + data[-2:]
    assert header_of(repeated).scans > 280
    with pytest.raises(SourceError, match=r"draws its 4 megapixels \d+ times"):
        decode_image(repeated, "scans.jpg")


def test_memory_is_counted_by_what_decoding_allocates() -> None:
    def png(width: int, height: int, depth: int, color: int) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
            + png_chunk(b"IEND")
        )  # fmt: skip

    with pytest.raises(SourceError, match=r"196 megapixels; decoding it takes 1,568 MB; expected at most 1,200 MB"):
        decode_image(png(14_000, 14_000, 8, 6), "rgba.png")
    with pytest.raises(SourceError, match="decoding it takes 2,400 MB"):
        decode_image(png(15_000, 10_000, 16, 6), "rgba16.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_the_estimate_of_memory_holds(kind: str, photo: Image.Image) -> None:
    image = photo.resize((1200, 900))
    data = encode(image.convert("P") if kind == "GIF" else image, kind)
    tracemalloc.start()
    decode_image(data, kind)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= header_of(data).bytes_per_pixel * 1200 * 900 + 3_000_000  # numpy's part of it


def test_a_tile_larger_than_the_image_counts(photo: Image.Image) -> None:
    fields = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
              (322, 4, 60_000), (323, 4, 60_000), (324, 4, 8), (325, 4, 9)]  # fmt: skip
    body = struct.pack("<H", len(fields)) + b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<H" if kind == 3 else "<I", value).ljust(4, b"\0")
        for tag, kind, value in fields
    )
    with pytest.raises(SourceError, match="decoding it takes"):
        decode_image(b"II*\0\x08\0\0\0" + body + bytes(40), "tile.tif")


@pytest.mark.parametrize(("bits", "white"), [(10, 1023), (12, 4095), (14, 16383), (16, 65535)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_few_bits_in_sixteen_are_not_black(bits: int, white: int, suffix: str, astronaut: np.ndarray) -> None:
    gray = cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY)
    stored = (gray.astype(np.uint32) * white // 255).astype(np.uint16)
    read = decode_image(cv2.imencode(suffix, stored)[1].tobytes(), f"{bits} bits")
    assert np.abs(read[..., 0].astype(int) - gray).max() <= 1


def test_a_pgm_says_what_white_is() -> None:
    samples = np.array([[0, 500, 1000]], ">u2")
    read = decode_image(b"P5\n3 1\n1000\n" + samples.tobytes(), "x.pgm")
    assert read[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_format(kind: str, mode: str, orientation: int, photo: Image.Image) -> None:
    from PIL import features

    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    image = photo.convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.pad(np.zeros((20, 20), np.uint8), ((0, 130), (0, 220)), constant_values=255)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 95} if kind in ("WEBP", "AVIF") else {}
    read = decode_image(encode(image, kind, exif=exif, **quality), "photo")
    upright = np.array(photo)[..., ::-1].copy()
    if mode == "RGBA":
        upright[:20, :20] = 255
    expected = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, -1), 7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: np.rot90(upright, 1),
    }[orientation]  # fmt: skip
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 6


def test_a_jpeg_without_its_end_mark_is_read(photo: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    for progressive in (False, True):
        data = encode(photo, "JPEG", progressive=progressive, quality=90)
        whole = decode_image(data, "whole.jpg")
        for missing in (1, 2):
            assert np.array_equal(decode_image(data[:-missing], "cut.jpg"), whole)
        for missing in (12, 200, len(data) // 2):
            with pytest.raises(SourceError, match="it is cut off"):
                decode_image(data[:-missing], "cut.jpg")
    assert capfd.readouterr().err == ""


def test_heic_through_its_extra(photo: Image.Image) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the heif extra is not installed")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo).save(buffer, quality=95)
    data = buffer.getvalue()
    assert header_of(data).format == "HEIC"
    read = decode_image(data, "phone.heic")
    assert read.shape == (150, 240, 3)
    assert np.abs(read.astype(int) - np.asarray(photo)[..., ::-1]).mean() < 6


def test_heic_without_its_extra_has_a_hint(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the heif extra is not installed")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo).save(buffer)
    monkeypatch.setattr("featherpose.media.decoding.find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r'HEIC image.*pip install "featherpose\[heif\]"'):
        decode_image(buffer.getvalue(), "phone.heic")
