"""Video files as a source: rotation tag applied, every frame with its real time and number.

OpenCV's FFmpeg reader gives the presentation time of each frame, so variable frame rates and animated GIFs need no
special case; nothing here multiplies an index by a nominal rate unless the container has no times at all. What it
cannot decode is left to PyAV where that is installed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutOfMemoryError, SourceError
from featherpose.media.decoding import check_size
from featherpose.media.images import MAX_PIXELS
from featherpose.media.opencv_logs import suppress_decoder_output, suppress_opencv_logs
from featherpose.media.sources.containers import missing_bytes, stated_duration_s
from featherpose.media.sources.content import VIDEO_SUFFIXES
from featherpose.media.sources.pyav_capture import PyAvCapture, frames_before, has_pyav
from featherpose.media.sources.source import Frame, Source, Span
from featherpose.media.sources.storage import deinterlaced, looks_interlaced, pixel_aspect, square_size

__all__ = ["VIDEO_SUFFIXES", "Capture", "Reading", "VideoSource", "as_bgr", "open_capture", "timed_frames"]

_log = logging.getLogger(__name__)

_Image = UInt8[np.ndarray, "H W 3"]
_Timed = Generator[tuple[int, float, _Image | None], None, None]

# Below this the frames before the start are decoded and dropped, which is exact; above it a seek saves the time.
_SEEK_FROM_S = 4.0
# OpenCV reports "no frame" for a damaged frame and at the end. At the end it does so at once, so more attempts are
# free.
_MAX_DAMAGED_IN_A_ROW = 250
# A video that states its length and ends this far before it is truncated.
_WHOLE_SHARE = 0.9


class Capture(Protocol):
    """The methods of ``cv2.VideoCapture`` that are used."""

    def get(self, propId: int, /) -> float: ...  # noqa: D102, N803
    def set(self, propId: int, value: float, /) -> bool: ...  # noqa: D102, N803
    def grab(self) -> bool: ...  # noqa: D102
    def retrieve(self) -> tuple[bool, np.ndarray]: ...  # noqa: D102
    def release(self) -> None: ...  # noqa: D102


class Reading:
    """Facts of reading a video.

    Attributes:
        grabbed: Frames that the decoder gave.
        frames: Those of them that are in the wanted part.
        last_s: Time of the last one.
        damaged: Frames that could not be decoded, with others behind them.
        damage_s: Time of the frame before the first of these.
    """

    def __init__(self) -> None:
        self.grabbed = self.frames = self.damaged = 0
        self.last_s = -1.0
        self.damage_s = 0.0

    def note_damage(self, frames: int, before_s: float) -> None:
        """Record that some frames after a time are damaged."""
        if not self.damaged:
            self.damage_s = max(0.0, before_s)
        self.damaged += frames


def open_capture(what: str | int, backend: int, parameters: list[int] | None = None) -> cv2.VideoCapture | None:
    """Open a video, camera or stream without OpenCV's lines on stderr; None if it does not open."""
    try:
        with suppress_opencv_logs():
            if isinstance(what, int):  # two overloads, the same call
                capture = cv2.VideoCapture(what, backend, parameters or [])
            else:
                capture = cv2.VideoCapture(what, backend, parameters or [])
    except cv2.error:
        return None
    return capture if capture.isOpened() else None


class VideoSource(Source):
    """Video file or animated GIF.

    Args:
        path: The file.
        span: The part that is wanted.
        strict: Raise if the file is damaged or ends before it should, instead of noting it in ``errors``.
        max_pixels: Limit for one frame.

    Raises:
        SourceError: If the file is no video, its frames are too large, or it is cut off so that it cannot be opened.
    """

    def __init__(self, path: Path, *, span: Span, strict: bool = False, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(path.name, "video", strict=strict)
        self.path = path
        self._span = span
        self._max_pixels = max_pixels
        self._by_pyav = False
        capture = self._open()
        self._capture: Capture | None = capture
        stored = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        self._pixel_aspect = pixel_aspect(capture)
        self.size = square_size(stored, self._pixel_aspect)
        if self.size != stored:
            check_size(str(path), self.size, max_pixels)
        self._said_interlaced = False
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._rate = rate if 0 < rate < 1000 else 25.0
        self.fps = self._rate / span.frame_step
        self.frame_count = span.frames_of(int(count), self._rate) if 0 < count < 1e12 else None

    def _open(self) -> Capture:
        path = self.path
        assert path is not None
        _check_file(path)
        capture: Capture | None = None
        if not self._by_pyav:
            # The absolute path: FFmpeg would take "a:b.mp4" for a protocol.
            with suppress_decoder_output():
                name = str(path.absolute())
                capture = open_capture(name, cv2.CAP_FFMPEG) or open_capture(name, cv2.CAP_ANY)
        if capture is None and has_pyav():
            with contextlib.suppress(OSError, ValueError):
                capture = PyAvCapture(path)
                self._by_pyav = True
        if capture is not None:
            size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
            if size != (0, 0):
                try:
                    check_size(str(path), size, self._max_pixels)
                except SourceError:
                    capture.release()
                    raise
            return capture
        if lacking := missing_bytes(path):
            raise SourceError(
                f"{path} is a cut-off video: its last {lacking:,} bytes are missing, and with them the index",
                hint="get the file again",
            )
        raise SourceError(
            f"{path} is not a video that can be read",
            expected="a whole video in a common format",
            hint=None if has_pyav() else 'rare formats need: pip install "featherpose[video]"',
        )

    def __iter__(self) -> Iterator[Frame]:
        capture = self._capture or self._open()
        self._capture = None  # a second iteration starts anew
        reading = Reading()
        try:
            yield from self._frames(capture, reading)
            if reading.grabbed == 0 and not self._by_pyav and has_pyav() and self._reopens_by_pyav():
                yield from self._frames(self._open(), reading)
        except MemoryError as error:
            raise OutOfMemoryError(f"there is not enough memory to decode {self.path}", hint="shrink it") from error
        self._check_end(reading)

    def _frames(self, capture: Capture, reading: Reading) -> Iterator[Frame]:
        with contextlib.closing(self._from_start(capture, reading)) as timed:
            for index, timestamp_s, image in timed:
                if image is not None:
                    yield Frame(self._as_shown(image), index, timestamp_s, self.name, self.path)

    def _as_shown(self, image: _Image) -> _Image:
        """One moment, in square pixels; most videos are so and pass through."""
        if looks_interlaced(image):
            image = deinterlaced(image)
            if not self._said_interlaced:
                self._said_interlaced = True
                _log.warning("%s is interlaced: every second row is replaced where limbs are combed", self.path)
        if self._pixel_aspect != 1:
            height, width = image.shape[:2]
            image = np.asarray(cv2.resize(image, square_size((width, height), self._pixel_aspect)), np.uint8)
        return image

    def _reopens_by_pyav(self) -> bool:
        assert self.path is not None
        try:
            PyAvCapture(self.path).release()
        except (OSError, ValueError):
            return False
        self._by_pyav = True
        return True

    def _from_start(self, capture: Capture, reading: Reading) -> _Timed:
        assert self.path is not None
        start_s = self._span.start_s or 0.0
        first = 0
        if start_s > _SEEK_FROM_S:
            capture.set(cv2.CAP_PROP_POS_MSEC, (start_s - 1) * 1000)
            landed_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if capture.grab() else start_s
            # Some containers seek imprecisely, and only counting gives the number of the frame after a seek.
            number = frames_before(self.path, landed_s) if landed_s < start_s else None
            if number is None:
                capture.release()
                capture = self._open()
            else:
                first = number + 1
        return timed_frames(capture, self._span, first=first, rate_hz=self._rate, reading=reading)

    def _check_end(self, reading: Reading) -> None:
        assert self.path is not None
        last_s = max(reading.last_s, 0.0)
        if reading.damaged:
            some = "a frame" if reading.damaged == 1 else f"{reading.damaged} frames"
            self._report(
                SourceError(
                    f"{self.path} is damaged: {some} could not be decoded, the first after {reading.damage_s:.2f} s",
                    hint="get the file again; the other frames were read",
                )
            )
        if self._span.end_s is not None and reading.last_s >= self._span.end_s - 2 / self._rate:
            return
        lacking, stated_s = missing_bytes(self.path), stated_duration_s(self.path)
        if lacking:
            of = f" of {stated_s:.2f} s" if stated_s else ""
            self._report(
                SourceError(
                    f"{self.path} is cut off: it ends after {last_s:.2f} s{of}, {lacking:,} bytes are missing",
                    hint="get the file again for the rest",
                )
            )
        elif reading.grabbed == 0:
            raise SourceError(
                f"{self.path} has no frame that can be decoded",
                expected="a whole video",
                hint=None if has_pyav() else 'AV1 and rare codecs need: pip install "featherpose[video]"',
            )
        elif reading.frames == 0 and self._span.start_s:
            raise SourceError(
                f"{self.path} has no frame after {self._span.start_s:g} s",
                expected=f"a start below {stated_s or last_s:.2f} s",
            )
        elif stated_s is not None and last_s + 2 / self._rate < _WHOLE_SHARE * stated_s:
            self._report(
                SourceError(
                    f"{self.path} is damaged: decoding ends after {last_s:.2f} s of {stated_s:.2f} s",
                    hint="get the file again for the rest",
                )
            )

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def timed_frames(
    capture: Capture, span: Span, *, first: int = 0, rate_hz: float, reading: Reading | None = None
) -> _Timed:
    """Yield (image, index, time in seconds) of an open capture; None instead of a frame that ``frame_step`` skips.

    A skipped frame is taken from the decoder but not converted, which saves half of its cost. A frame that cannot be
    decoded is left out and keeps its number; the end is where nothing follows.
    """
    reading = reading or Reading()
    index, wanted, previous_s, failed = first, 0, -1.0, 0
    try:
        while True:
            if not capture.grab():
                failed += 1
                if failed > _MAX_DAMAGED_IN_A_ROW:
                    return
                continue
            if failed:
                reading.note_damage(failed, previous_s)
                index, failed = index + failed, 0
            reading.grabbed += 1
            timestamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if timestamp_s <= previous_s:  # no times in the container, or broken ones
                timestamp_s = previous_s + 1 / rate_hz
            reading.last_s = previous_s = timestamp_s
            if span.end_s is not None and timestamp_s >= span.end_s:
                return
            if timestamp_s >= (span.start_s or 0.0):
                image: _Image | None = None
                if wanted % span.frame_step == 0:
                    whole, pixels = _retrieved(capture)
                    if whole:
                        image = as_bgr(pixels)
                wanted += 1
                reading.frames += 1
                yield index, timestamp_s, image
            index += 1
    finally:
        capture.release()


def _retrieved(capture: Capture) -> tuple[bool, np.ndarray]:
    try:
        return capture.retrieve()
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        return False, np.empty((0, 0, 3), np.uint8)


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise SourceError(f"there is no file {path}", expected="an image, video, folder, camera or URL")
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes)", expected="a video")
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error


def as_bgr(image: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Convert an image from OpenCV to uint8[H, W, 3] BGR."""
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    if image.shape[2] == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR))
    return image
