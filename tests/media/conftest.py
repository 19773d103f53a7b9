"""Small real videos: photographs that move, with times, rotation and sound of choice."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def _write_video(
    path: Path,
    image: np.ndarray,
    times_s: Sequence[float],
    *,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> None:
    """An H.264 video of a photograph rolling to the left, frame i shown at ``times_s[i]``."""
    with av.open(str(path), "w", options=options or {}) as file:
        stream = file.add_stream("libx264", rate=30, options={"preset": "ultrafast", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        track = file.add_stream("aac", rate=48_000) if sound else None
        for i, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(image, -8 * i, 1)), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 90_000), Fraction(1, 90_000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if track is not None:
            length = int(times_s[-1] * 48_000)
            tone = (0.3 * np.sin(np.arange(length) * 2 * np.pi * 440 / 48_000)).astype(np.float32)
            for start in range(0, length - 1024, 1024):
                piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 48_000, start, Fraction(1, 48_000)
                file.mux(track.encode(piece))
            file.mux(track.encode())


def _set_rotation(path: Path, degrees: int) -> None:
    """Write a rotation into the display matrix of an MP4's track header, as telephones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of times, ids and volume
    one = 0x10000
    cosine, sine = {0: (one, 0), 90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    data[at : at + 36] = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 0x40000000)
    path.write_bytes(bytes(data))


@pytest.fixture(scope="session")
def write_video() -> Callable[..., None]:
    """The function that makes a video."""
    return _write_video


@pytest.fixture(scope="session")
def set_rotation() -> Callable[[Path, int], None]:
    """The function that turns a video."""
    return _set_rotation
