"""Files that take a decoder long, or show it another size than us: refused at once, and the server goes on."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from pose_server import Running, Start

from featherpose.errors import SourceError
from featherpose.media.headers import ImageHeader, read_header
from featherpose.media.images import decode_image
from featherpose.server.http.costs import check_jpeg_scans, check_structure, without_png_text
from featherpose.server.http.uploads import decode_upload
from featherpose.server.options import ServeLimits, ServeOptions

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *between: bytes, depth: int = 8, color: int = 2) -> bytes:
    """Return a black PNG with further chunks before its pixels."""
    row = 1 + width * {0: 1, 2: 3, 6: 4}[color] * depth // 8
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = zlib.compress(bytes(row * height), 9)
    return SIGNATURE + head + b"".join(between) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1] if progressive else []
    whole, data = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8), options)
    assert whole
    return data.tobytes()


def jpeg_with_a_false_size(width: int, height: int) -> bytes:
    """Return a JPEG whose frame header of 16x16 is no header to libjpeg, which finds another one before it.

    A marker FF 01 stands alone; who takes it for one with a length skips the true headers.
    """
    true = jpeg(width, height)
    assert true[2:4] == b"\xff\xe0"  # as a length: 65,504
    assert len(true) < 65_504
    return b"\xff\xd8\xff\x01" + true[2:].ljust(65_504, b"\0") + jpeg(16, 16)[2:]


def many_scans(data: bytes, scans: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * scans + data[-2:]


@pytest.fixture(scope="module")
def careful(start: Start) -> Iterator[Running]:
    with start(ServeOptions(limits=ServeLimits(pixels=1_000_000))) as running:
        yield running


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"P5 " + b"# " * 40, "image"),
        (b"P5 " + b"# " * 100_000, ""),
        (b"P6\n" + b"#\n" * 50_000 + b"10 10\n255\n", ""),
        (jpeg_with_a_false_size(2000, 2000), "2000x2000"),
        (b"\xff\xd8" + b"\xff" * 500_000, "fill bytes"),
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 100_000 + jpeg(16, 16)[2:], "segments"),
        (many_scans(jpeg(900, 900, progressive=True), 100), "scans"),
        (png(8, 8, *[chunk(b"tEXt", b"")] * 100_000), "chunks"),
        (png(900, 900, depth=16, color=6), "8 bits a channel"),
        (png(900, 900)[:-30], "PNG"),
    ],
    ids=["comments", "more comments", "lines of comments", "false size", "fill", "segments", "scans", "chunks",
         "16 bits", "cut off"],
)  # fmt: skip
def test_they_are_refused_and_the_server_goes_on(careful: Running, photo: bytes, data: bytes, words: str) -> None:
    with careful.client() as client:
        answer = client.post("/v1/poses", content=data, headers={"Content-Type": "image/png"})
        assert answer.status_code == 400, answer.text
        assert words in answer.text
        assert client.post("/v1/poses", content=photo, headers={"Content-Type": "image/jpeg"}).status_code == 200
    assert "featherpose_internal_errors_total 0.0" in careful.service.metrics.text().decode()


def test_texts_are_not_unfolded(careful: Running) -> None:
    """A megabyte of zeros in a kilobyte, 500 times: left out before the decoder sees it."""
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))
    data = png(64, 64, *[bomb] * 500)
    assert without_png_text(data) == png(64, 64)
    with careful.client() as client:
        answer = client.post("/v1/poses", content=data, headers={"Content-Type": "image/png"})
    assert answer.json()["size"] == [64, 64]


def test_ordinary_files_are_left_as_they_are(photo: bytes, astronaut: np.ndarray) -> None:
    whole, data = cv2.imencode(".png", astronaut)
    assert whole
    progressive = cv2.imencode(".jpg", astronaut, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    for file in (photo, data.tobytes(), progressive):
        check_structure(file, "file", max_pixels=25_000_000)
        header = read_header(file)
        assert header is not None
        check_jpeg_scans(header, "file", max_pixels=25_000_000)
        assert without_png_text(file) is file


def test_a_png_without_texts_is_the_same_image(astronaut: np.ndarray) -> None:
    data = cv2.imencode(".png", astronaut)[1].tobytes()
    texts = [chunk(b"tEXt", b"Title\0an astronaut"), chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b"))]
    annotated = data[:33] + b"".join(texts) + data[33:]
    np.testing.assert_array_equal(decode_image(without_png_text(annotated), "file"), decode_image(data, "file"))


@pytest.mark.parametrize("cut", [3, 9, 20, 40])
def test_what_is_cut_off_is_somebody_elses_matter(cut: int) -> None:
    for data in (jpeg(64, 64), png(8, 8, chunk(b"tEXt", b"a"))):
        check_structure(data[:cut], "file", max_pixels=100)
        without_png_text(data[:cut])


def test_scans_are_bounded_by_their_pixels() -> None:
    check_jpeg_scans(ImageHeader("JPEG", (100, 100), scans=100), "file", max_pixels=1_000_000)
    with pytest.raises(SourceError, match="100 scans"):
        check_jpeg_scans(ImageHeader("JPEG", (1000, 1000), scans=100), "file", max_pixels=1_000_000)
    with pytest.raises(SourceError, match="201 scans"):
        check_jpeg_scans(ImageHeader("JPEG", None, scans=201), "file", max_pixels=1_000_000)


def test_scans_behind_the_only_one_are_not_decoded(photo: bytes) -> None:
    more = photo[:-2] + b"\xff\xda\0\x02" * 100_000 + b"\xff\xd9"
    np.testing.assert_array_equal(
        decode_upload(more, "file", max_pixels=10_000_000), decode_upload(photo, "file", max_pixels=10_000_000)
    )


def test_two_lengths_of_a_body_end_the_connection(careful: Running) -> None:
    request = (
        "POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", careful.port)) as connection:
        connection.sendall(request.encode())
        connection.settimeout(60)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()
