"""Pictures back into video files: H.264 with the source's sound where PyAV is installed, else what OpenCV can write.

Every file is written to a hidden neighbour and renamed when it is complete; closing a sink after Ctrl-C completes it
with the frames it has.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutputError
from featherpose.media.atomic import make_folder, output_error, part_path
from featherpose.media.silence import silent_opencv

__all__ = ["VIDEO_OUTPUT_SUFFIXES", "VideoSink", "open_video_sink"]

_log = logging.getLogger(__name__)

VIDEO_OUTPUT_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi")
"""Suffixes of videos that can be written."""


class VideoSink(ABC):
    """A video being written.

    Attributes:
        path: Where it will be when it is complete.
        description: What is written, for people: codec, writer, sound.
        frames: Frames written so far.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in VIDEO_OUTPUT_SUFFIXES:
            raise OutputError(
                f"{path} is not a video that can be written", expected=f"a name with {', '.join(VIDEO_OUTPUT_SUFFIXES)}"
            )
        if path.is_dir():
            raise OutputError(f"{path} is a folder", expected="the name of a video file")
        make_folder(path.parent)
        self.path = path
        self.part = part_path(path)
        self.description = ""
        self.frames = 0
        self._closed = False

    @abstractmethod
    def write(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        """Append a picture; the first one decides size and time zero, later ones of another size are scaled.

        Args:
            image: uint8[H, W, 3], BGR.
            timestamp_s: When it is shown, seconds; must grow.

        Raises:
            OutputError: If it cannot be written.
        """

    @abstractmethod
    def _finish(self) -> None:
        """Complete the file at ``part``."""

    def close(self) -> None:
        """Complete the file and give it its name; a sink without a frame leaves nothing. May be called twice.

        Raises:
            OutputError: If the file cannot be completed.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._finish()
            if self.frames:
                self.part.replace(self.path)
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            self.part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video_sink(path: str | Path, fps: float, *, audio_from: Path | None = None) -> VideoSink:
    """Start a video file.

    Args:
        path: ``.mp4``, ``.mov``, ``.mkv``, or ``.avi`` (OpenCV's Motion JPEG).
        fps: Nominal frames per second; with PyAV every frame keeps its own time, OpenCV repeats or drops frames to
            keep it.
        audio_from: A video whose sound is copied, where PyAV is installed.

    Raises:
        OutputError: If such a file cannot be written there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_video_sink(Path(folder) / "grey.mp4", fps=25) as sink:
        ...         for i in range(5):
        ...             sink.write(np.full((48, 64, 3), 90, np.uint8), i / 25)
        ...     (Path(folder) / "grey.mp4").exists(), sink.frames
        (True, 5)
    """
    path = Path(path)
    if find_spec("av") is not None and path.suffix.lower() != ".avi":
        from featherpose.media.h264 import H264Sink

        return H264Sink(path, fps, audio_from=audio_from)
    return OpenCVSink(path, fps)


class OpenCVSink(VideoSink):
    """What OpenCV can write: MPEG-4 Part 2 in MP4, MOV and MKV, Motion JPEG in AVI; no sound, a constant rate."""

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path)
        self._fps = min(max(fps, 1.0), 240.0)
        self._avi = path.suffix.lower() == ".avi"
        self.description = (
            "Motion JPEG by OpenCV, without sound"
            if self._avi
            else 'MPEG-4 Part 2 by OpenCV, without sound; H.264 with sound needs: pip install "featherpose[video]"'
        )
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start_s = 0.0
        self._shown = 0
        # Asking early whether the place can be written to: OpenCV's own failure has no reason.
        try:
            self.part.touch()
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        """Append a picture, as often as its time demands."""
        if self._writer is None:
            self._size, self._start_s = (image.shape[1], image.shape[0]), timestamp_s
            code = cv2.VideoWriter.fourcc(*("MJPG" if self._avi else "mp4v"))
            with silent_opencv():
                self._writer = cv2.VideoWriter(str(self.part.absolute()), cv2.CAP_FFMPEG, code, self._fps, self._size)
            if not self._writer.isOpened():
                raise OutputError(f"{self.path} cannot be written: OpenCV has no encoder for {self.path.suffix}")
        if (image.shape[1], image.shape[0]) != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA))
        due = round((timestamp_s - self._start_s) * self._fps) + 1
        # A pause of minutes in a stream must not become a file of still frames: ten seconds at most are filled.
        repeats = min(due - self._shown, int(10 * self._fps))
        with silent_opencv():
            for _ in range(repeats):
                self._writer.write(image)
        self._shown = max(self._shown, due)
        self.frames += 1

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        # OpenCV does not say when a write failed; a file without its index does not open.
        with silent_opencv():
            whole = cv2.VideoCapture(str(self.part.absolute())).isOpened()
        if not whole:
            raise OutputError(f"{self.path} could not be completed", hint="check that the disk is not full")
