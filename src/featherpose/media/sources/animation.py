"""Animated WebP and AVIF and multi-page TIFF: several images in a file that FFmpeg does not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import SourceError
from featherpose.media.decoding import BYTES_PER_PIXEL, check_budget, check_size, over_white, to_8_bit
from featherpose.media.headers import ImageHeader, read_header
from featherpose.media.headers.exif import upright
from featherpose.media.images import MAX_PIXELS, read_file
from featherpose.media.opencv_logs import suppress_decoder_output
from featherpose.media.sources.source import Frame, Source, Span

__all__ = ["AnimationSource"]

# Decoded at once: the decoder starts at the first frame each time, so many small pieces would take long.
_PIECE_BYTES = 256_000_000
_LEAST_DURATION_S = 0.01  # browsers show shorter ones longer; pages of a TIFF have none and get a second each


class AnimationSource(Source):
    """An animated WebP or AVIF with its own times, or the pages of a TIFF, a second each.

    Args:
        path: The file.
        span: The part that is wanted.
        strict: Raise if the file ends before it should, instead of noting it in ``errors``.
        max_pixels: Limit for one frame.

    Raises:
        SourceError: If the file is damaged, too large or not an animation.
    """

    def __init__(self, path: Path, *, span: Span, strict: bool = False, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(path.name, "video", strict=strict)
        self.path = path
        self._span = span
        self._data = read_file(path)
        header = read_header(self._data)
        if header is None:
            raise SourceError(f"{path} is not an animation")
        if header.size is not None:
            check_size(str(path), header.size, max_pixels)
        if header.damage or header.size is None:
            raise SourceError(
                f"{path} is a damaged {header.format}: {header.damage or 'it hides its size'}",
                hint="get the file again",
            )
        check_budget(str(path), header, max_pixels)
        self._header: ImageHeader = header
        width, height = header.size
        self._piece = max(1, int(_PIECE_BYTES // (width * height * BYTES_PER_PIXEL)))
        if header.format in ("WebP", "TIFF") and not (span.start_s or span.end_s):
            self.frame_count = -(-header.frames // span.frame_step)
        first = self._decoded(0, 1)
        if not first:
            raise SourceError(f"{path} is a {header.format} that cannot be decoded", hint="get the file again")
        self.size = (first[0][0].shape[1], first[0][0].shape[0])
        self.fps = 1 / first[0][1] / span.frame_step

    def __iter__(self) -> Iterator[Frame]:
        index, wanted, time_s, span = 0, 0, 0.0, self._span
        while True:
            piece = self._decoded(index, self._piece)
            for image, duration_s in piece:
                if span.end_s is not None and time_s >= span.end_s:
                    return
                if time_s >= (span.start_s or 0.0):
                    if wanted % span.frame_step == 0:
                        yield Frame(image, index, time_s, self.name, self.path)
                    wanted += 1
                index += 1
                time_s += duration_s
            if len(piece) < self._piece:
                break
        if index < self._header.frames:
            self._report(
                SourceError(
                    f"{self.path} is damaged: decoding ends after {index} of {self._header.frames} images",
                    hint="get the file again for the rest",
                )
            )

    def _decoded(self, start: int, count: int) -> list[tuple[UInt8[np.ndarray, "H W 3"], float]]:
        """Decode up to ``count`` frames from one on, each with its duration in seconds."""
        try:
            with suppress_decoder_output():
                whole, animation = cv2.imdecodeanimation(np.frombuffer(self._data, np.uint8), start=start, count=count)
        except (cv2.error, MemoryError):
            return []
        if not whole:
            return []
        frames = [self._as_bgr(np.asarray(frame)) for frame in animation.frames]
        durations = [max(_LEAST_DURATION_S, float(ms) / 1000) for ms in animation.durations]
        return list(zip(frames, durations, strict=False))

    def _as_bgr(self, image: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
        if image.dtype == np.uint16:
            image = to_8_bit(image, self._header.maximum)
        if image.ndim == 2 or image.shape[2] == 1:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        if image.shape[2] == 4:
            image = over_white(image)
        return upright(image, self._header.orientation) if self._header.format == "AVIF" else image
