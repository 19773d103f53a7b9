"""Video files as a source: rotation tag honoured, every frame with its real time.

OpenCV's FFmpeg reader gives the presentation time of each frame, so variable frame rates and animated GIFs need no
special case; nothing here multiplies an index by a nominal rate unless the container has no times at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import SourceError
from featherpose.media.containers import missing_bytes
from featherpose.media.frames import Frame, Source, Span
from featherpose.media.silence import silent_opencv

__all__ = ["VIDEO_SUFFIXES", "VideoSource", "as_bgr", "open_capture", "timed_frames"]

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts",
        ".m2ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv", ".gif",
    ]
)  # fmt: skip
"""Suffixes by which videos are found in a folder; a file that is named itself is tried whatever its suffix."""

_Timed = Generator[tuple[int, float, UInt8[np.ndarray, "H W 3"] | None], None, None]

# Below this the frames before the start are decoded and dropped, which is exact; above it a seek saves the time.
_SEEK_FROM_S = 4.0


def open_capture(what: str | int, backend: int, parameters: list[int] | None = None) -> cv2.VideoCapture | None:
    """Open a video, camera or stream without letting OpenCV write to stderr; None if it will not open."""
    try:
        with silent_opencv():
            if isinstance(what, int):  # two overloads, the same call
                capture = cv2.VideoCapture(what, backend, parameters or [])
            else:
                capture = cv2.VideoCapture(what, backend, parameters or [])
    except cv2.error:
        return None
    return capture if capture.isOpened() else None


class VideoSource(Source):
    """A video file or an animated GIF.

    Args:
        path: The file.
        span: The part that is wanted.
        strict: Raise if the file ends before it should, instead of noting it in ``problems``.

    Raises:
        SourceError: If the file is no video, or cut off so that it cannot be opened.
    """

    def __init__(self, path: Path, *, span: Span, strict: bool = False) -> None:
        super().__init__(path.name, "video", strict=strict)
        self.path = path
        self._span = span
        capture = self._open()
        self._capture: cv2.VideoCapture | None = capture
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._rate = rate if 0 < rate < 1000 else 25.0
        self.fps = self._rate / span.every
        self._duration_s = count / self._rate if count > 0 else 0.0
        self.frame_count = span.frames_of(int(count), self._rate) if count > 0 else None

    def _open(self) -> cv2.VideoCapture:
        path = self.path
        assert path is not None
        try:
            if not path.exists():
                raise SourceError(f"there is no file {path}", expected="a picture, video, folder, camera or URL")
            if path.stat().st_size == 0:
                raise SourceError(f"{path} is empty (0 bytes)", expected="a video")
            with path.open("rb"):
                pass
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
        # The absolute path: FFmpeg would take "a:b.mp4" for a protocol.
        capture = open_capture(str(path.absolute()), cv2.CAP_FFMPEG) or open_capture(str(path.absolute()), cv2.CAP_ANY)
        if capture is not None:
            return capture
        if lacking := missing_bytes(path):
            raise SourceError(
                f"{path} is a cut-off video: its last {lacking:,} bytes are missing, and with them the index",
                hint="get the file again",
            )
        raise SourceError(f"{path} is not a video that can be read", expected="a whole video in a common format")

    def __iter__(self) -> Iterator[Frame]:
        capture = self._capture or self._open()
        self._capture = None  # a second iteration starts anew
        assert self.path is not None
        last_s, frames = -1.0, 0
        with contextlib.closing(self._from_start(capture)) as timed:
            for index, timestamp_s, image in timed:
                last_s, frames = timestamp_s, frames + 1
                if image is not None:
                    yield Frame(image, index, timestamp_s, self.name, self.path)
        self._check_end(frames, last_s)

    def _from_start(self, capture: cv2.VideoCapture) -> _Timed:
        start_s = self._span.start_s or 0.0
        first = 0
        if start_s > _SEEK_FROM_S:
            capture.set(cv2.CAP_PROP_POS_MSEC, (start_s - 1) * 1000)
            landed = capture.get(cv2.CAP_PROP_POS_FRAMES)
            # Some containers seek badly; a frame at or behind the start means reading from the beginning instead.
            if not capture.grab() or capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 >= start_s:
                capture.release()
                capture = self._open()
            else:
                first = int(landed) + 1
        return timed_frames(capture, self._span, first=first, rate_hz=self._rate)

    def _check_end(self, frames: int, last_s: float) -> None:
        lacking = missing_bytes(self.path) if self.path else 0
        reached_end = self._span.end_s is None or last_s < self._span.end_s - 2 / self._rate
        if not reached_end:
            return
        if lacking:
            self._report(
                SourceError(
                    f"{self.path} is cut off: it ends after {max(last_s, 0):.2f} s of {self._duration_s:.2f} s, "
                    f"{lacking:,} bytes are missing",
                    hint="get the file again for the rest",
                )
            )
        elif frames == 0 and not self._span.start_s:
            raise SourceError(f"{self.path} has no frame that can be decoded", expected="a whole video")
        elif frames == 0:
            raise SourceError(
                f"{self.path} has no frame after {self._span.start_s:g} s",
                expected=f"a start below {self._duration_s:.2f} s",
            )
        elif last_s + 2 / self._rate < 0.9 * self._duration_s:
            self._report(
                SourceError(
                    f"{self.path} is damaged: decoding ends after {last_s:.2f} s of {self._duration_s:.2f} s",
                    hint="get the file again for the rest",
                )
            )

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def timed_frames(capture: cv2.VideoCapture, span: Span, *, first: int = 0, rate_hz: float) -> _Timed:
    """Frames of an open capture with index and time in seconds; None for a frame that ``every`` leaves out.

    A skipped frame is taken from the decoder but not converted, which saves half of its cost.
    """
    index, wanted, previous_s = first, 0, -1.0
    try:
        while capture.grab():
            timestamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if timestamp_s <= previous_s:  # no times in the container, or broken ones
                timestamp_s = previous_s + 1 / rate_hz
            previous_s = timestamp_s
            if span.end_s is not None and timestamp_s >= span.end_s:
                return
            if timestamp_s >= (span.start_s or 0.0):
                image: UInt8[np.ndarray, "H W 3"] | None = None
                if wanted % span.every == 0:
                    whole, picture = capture.retrieve()
                    if whole:
                        image = as_bgr(picture)
                wanted += 1
                yield index, timestamp_s, image
            index += 1
    finally:
        capture.release()


def as_bgr(picture: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Whatever OpenCV delivers, as uint8[H, W, 3] BGR."""
    if picture.dtype != np.uint8:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 2:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
    if picture.shape[2] == 4:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR))
    return picture
