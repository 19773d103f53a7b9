"""Images of every odd kind become uint8 BGR, or one clear error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from featherpose.errors import OutputError, SourceError
from featherpose.media.headers import read_header
from featherpose.media.images import decode_image, read_image, write_image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo(astronaut: np.ndarray) -> Image.Image:
    return Image.fromarray(astronaut[:300, :, ::-1])


def close_to(image: np.ndarray, other: np.ndarray, tolerance: float = 4.0) -> bool:
    return image.shape == other.shape and float(np.abs(image.astype(float) - other).mean()) < tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(photo: Image.Image, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = decode_image(encode(photo, kind, exif=exif), "photo")
    upright = np.asarray(photo)[..., ::-1]
    # EXIF 2.32, tag Orientation: where row 0 and column 0 of the stored image lie.
    expected = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, -1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, 1),
    }[orientation]
    assert close_to(read, expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "RGB", "I;16", "CMYK"])
def test_every_pixel_format_becomes_bgr(photo: Image.Image, mode: str) -> None:
    gray = np.asarray(photo.convert("L"))
    if mode == "I;16":
        data = encode(Image.fromarray(gray.astype(np.uint16) * 257), "PNG")
    elif mode == "CMYK":
        data = encode(photo.convert("CMYK"), "JPEG", quality=95)
    else:
        data = encode(photo.convert(mode), "PNG")
    image = decode_image(data, mode)
    assert image.dtype == np.uint8
    assert image.shape == (300, 512, 3)
    expected = np.repeat(gray[..., None], 3, 2)
    if mode not in ("L", "LA", "I;16"):
        expected = np.asarray(photo.convert(mode if mode in ("P", "1") else "RGB").convert("RGB"))[..., ::-1]
    assert close_to(image, expected)


def test_sixteen_bit_color_and_tiff(astronaut: np.ndarray) -> None:
    for suffix in (".png", ".tiff"):
        data = cv2.imencode(suffix, astronaut.astype(np.uint16) * 257)[1].tobytes()
        assert np.array_equal(decode_image(data, suffix), astronaut)


def test_transparent_pixels_show_white() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 10, 10, 0))
    clear.putpixel((1, 1), (200, 10, 10, 255))
    image = decode_image(encode(clear, "PNG"), "clear.png")
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[1, 1].tolist() == [10, 10, 200]


def test_one_pixel() -> None:
    assert decode_image(encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), "dot.png").tolist() == [[[3, 2, 1]]]


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(
        SourceError, match=r"bomb.png is 20000x20000 pixels, 400 megapixels.*at most 200.*raise the limit"
    ):
        decode_image(png_of_size(20_000, 20_000), "bomb.png")


def test_the_limit_can_be_changed(photo: Image.Image) -> None:
    data = encode(photo, "PNG")
    with pytest.raises(SourceError, match="512x300"):
        decode_image(data, "photo.png", max_pixels=1000)
    assert decode_image(data, "photo.png", max_pixels=512 * 300).shape == (300, 512, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.98])
def test_a_cut_image_is_an_error(
    photo: Image.Image, kind: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(photo.convert("P") if kind == "GIF" else photo, kind)
    with pytest.raises(SourceError, match="cut"):
        decode_image(data[: max(1, int(len(data) * share))], "cut")
    assert capfd.readouterr().err == ""  # the exception says it, C code is silent


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000"])
def test_headers_know_the_size(photo: Image.Image, kind: str) -> None:
    header = read_header(encode(photo.convert("P") if kind == "GIF" else photo, kind))
    assert header is not None
    assert header.size == (512, 300)
    assert header.damage is None


def test_header_of_progressive_and_thumbnailed_jpeg(photo: Image.Image) -> None:
    thumbnail = encode(photo.resize((64, 40)), "JPEG")
    data = encode(photo, "JPEG", progressive=True, comment=thumbnail[:2000])
    header = read_header(data)
    assert header is not None
    assert header.size == (512, 300)
    # A whole thumbnail in front must not vouch for the image behind it.
    cut = read_header(data[: len(data) // 2])
    assert cut is not None
    assert cut.damage == "it is cut off"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is a text file and no image at all", "is not an image"),
        (b"\0" * 5000, "is not an image"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"GIF89a", "damaged"),
        (b"P6 3 x", "damaged"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "damaged HEIC"),
    ],
)
def test_what_is_no_image(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        read_image(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(SourceError, match="is a folder"):
        read_image(tmp_path)


def test_a_real_jpeg(grace_hopper: Path) -> None:
    image = read_image(grace_hopper)
    assert image.shape == (600, 512, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_write_and_read_back(astronaut: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new folder" / f"photo{suffix}"
    write_image(path, astronaut)
    assert close_to(read_image(path), astronaut)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_unwritable_images(astronaut: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.xyz is not an image format"):
        write_image(tmp_path / "photo.xyz", astronaut)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        write_image(tmp_path / "taken.png", astronaut)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        write_image(tmp_path / "file" / "photo.png", astronaut)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.png"]


def _jpeg_that_hides_its_size(photo: Image.Image, standalone: bytes) -> bytes:
    """A real JPEG behind a marker that has no length; a parser that reads one skips to the false 16x16 frame."""
    real = encode(photo, "JPEG")
    skipped = int.from_bytes(real[2:4], "big")  # what stands where the length would be
    false = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 16, 16) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    end = 4 + skipped
    return real[:2] + standalone + real[2:end] + false + real[end:]


@pytest.mark.parametrize("standalone", [b"\xff\x01", b"\xff\x00", *(bytes([0xFF, 0xD0 + i]) for i in range(8))])
def test_markers_without_a_length_hide_no_size(photo: Image.Image, standalone: bytes) -> None:
    data = _jpeg_that_hides_its_size(photo, standalone)
    header = read_header(data)
    assert header is not None
    assert header.size == photo.size or header.damage
    with pytest.raises(SourceError):
        decode_image(data, "photo", max_pixels=1000)


@pytest.mark.parametrize(
    "data",
    [b"P5 " + b"# " * 40, b"P6\n" + b"#\n " * 5000, b"P4 " + b" " * 100_000, b"P2 " + b"1" * 100_000, b"P3 # no end"],
    ids=["comments", "lines", "spaces", "digits", "open-comment"],
)
def test_a_pnm_header_is_scanned_in_linear_time(data: bytes) -> None:
    header = read_header(data)
    assert header is not None
    assert header.damage


def test_a_pnm_header_with_comments_is_read(photo: Image.Image) -> None:
    pixels = np.asarray(photo)
    head = f"P6 # made by hand\n#\n{photo.width}# width\n {photo.height}\n255\n".encode()
    assert close_to(decode_image(head + pixels.tobytes(), "photo"), pixels[..., ::-1], 0.1)
