"""Thousands of mutated images: each is read, or refused with a clear error; nothing else may happen."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from featherpose.errors import SourceError
from featherpose.media.headers import gif_frame_count, read_header
from featherpose.media.images import decode_image

ROUNDS = 400
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, or a piece cut out, doubled, or the end lost; damage near the header more often."""
    mutated = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        length = len(mutated)
        if length < 2:
            break
        at = int(rng.integers(0, min(length, 64) if rng.random() < 0.5 else length))
        what = rng.integers(0, 6)
        if what <= 2:
            mutated[at] = int(rng.integers(0, 256))
        elif what == 3:
            mutated[at] ^= 1 << int(rng.integers(0, 8))
        elif what == 4:
            del mutated[at : at + int(rng.integers(1, 40))]
        elif rng.random() < 0.5:
            mutated[at:at] = mutated[at : at + int(rng.integers(1, 40))]
        else:
            del mutated[at:]
    return bytes(mutated)


@pytest.fixture(scope="module")
def small_photo(astronaut: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(astronaut[60:200:3, 150:300:3, ::-1]))


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_images(small_photo: Image.Image, kind: str) -> None:
    buffer = io.BytesIO()
    (small_photo.convert("P") if kind == "GIF" else small_photo).save(buffer, kind)
    original = buffer.getvalue()
    rng = np.random.default_rng(sum(kind.encode()))
    refused = 0
    messages: set[str] = set()
    for _ in range(ROUNDS):
        try:
            # The limit keeps the test quick: a mutated size may claim any number of pixels.
            image = decode_image(mutate(original, rng), "mutated", max_pixels=1_000_000)
        except SourceError as error:
            refused += 1
            messages.add(str(error))
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert image.flags.c_contiguous
    assert all(message.startswith("mutated ") and "\n" not in message for message in messages)
    assert 0 < refused < ROUNDS or kind == "PNG"  # a PNG has checksums: every change is noticed


def test_random_bytes_behind_every_signature() -> None:
    rng = np.random.default_rng(0)
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF....WEBPVP8X", b"II*\0", b"MM\0*",
              b"....ftypavif", b"\0\0\0\x0cjP  ", b"P6 9 9", b"")  # fmt: skip
    for i in range(3000):
        data = starts[i % len(starts)] + rng.bytes(int(rng.integers(0, 200)))
        read_header(data)
        gif_frame_count(data)
        with pytest.raises(SourceError):
            decode_image(data, "random", max_pixels=10_000)
