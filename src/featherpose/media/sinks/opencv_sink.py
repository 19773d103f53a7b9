"""Video by OpenCV's writer, for builds of OpenCV whose encoders cannot be called directly."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutputError
from featherpose.files import output_error
from featherpose.media.opencv_logs import suppress_opencv_logs
from featherpose.media.sinks.sink import VideoSink

__all__ = ["OpenCVSink"]

_LONGEST_PAUSE_S = 10
_LOOK_EVERY = 16  # frames
_LEAST_FREE_BYTES = 1 << 20


class OpenCVSink(VideoSink):
    """VP8 in WebM and Matroska, MPEG-4 Part 2 in MP4 and MOV, Motion JPEG in AVI; no sound, a constant rate.

    OpenCV hides every failure to write. The free space is watched while the file grows, and in the end the frames that
    can be read are counted.
    """

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path)
        if self._part.special:
            self._part.discard()
            raise OutputError(
                f"{path} is no ordinary file, and this OpenCV can write videos to those only",
                hint='pip install "featherpose[video]"',
            )
        self._fps = min(max(fps, 1.0), 240.0)
        suffix = path.suffix.lower()
        self._code, name = (
            ("MJPG", "Motion JPEG")
            if suffix == ".avi"
            else ("VP80", "VP8")
            if suffix in (".webm", ".mkv")
            else ("mp4v", "MPEG-4 Part 2, which browsers do not play,")
        )
        self.description = f'{name} by OpenCV, without sound; H.264 with sound needs: pip install "featherpose[video]"'
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._shown = 0
        self._written = 0

    def write(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        """Append an image, as often as its time demands."""
        if self._writer is None:
            self._size, self._start_s = (image.shape[1], image.shape[0]), timestamp_s
            code = cv2.VideoWriter.fourcc(*self._code)
            with suppress_opencv_logs():
                self._writer = cv2.VideoWriter(
                    str(self._part.part.absolute()), cv2.CAP_FFMPEG, code, self._fps, self._size
                )
            if not self._writer.isOpened():
                raise OutputError(f"{self.path} cannot be written: OpenCV has no encoder for {self.path.suffix}")
        assert self._start_s is not None
        if (image.shape[1], image.shape[0]) != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA))
        due = round((timestamp_s - self._start_s) * self._fps) + 1
        # A pause of minutes in a stream must not become a file of still frames.
        repeats = max(0, min(due - self._shown, int(_LONGEST_PAUSE_S * self._fps)))
        with suppress_opencv_logs():
            for _ in range(repeats):
                self._writer.write(image)
        self._written += repeats
        self._shown = max(self._shown, due)
        self.frames += 1
        if self.frames % _LOOK_EVERY == 0 and shutil.disk_usage(self._part.part.parent).free < _LEAST_FREE_BYTES:
            raise self._fail(OSError(errno.ENOSPC, "the disk is full"))

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        with suppress_opencv_logs():
            capture = cv2.VideoCapture(str(self._part.part.absolute()))
            readable = 0
            while readable < self._written and capture.grab():
                readable += 1
        if readable < self._written:
            self.frames = min(self.frames, readable)
            raise output_error(self.path, OSError(errno.EIO, f"{readable} of {self._written} frames can be read"))
