"""A second reader of video, by PyAV (the ``video`` extra): codecs that OpenCV's FFmpeg lacks, such as AV1.

It has the methods of ``cv2.VideoCapture`` that `featherpose.media.sources.video` uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

__all__ = ["PyAvCapture", "frames_before", "has_pyav"]

_MAX_FAILURES = 64


def has_pyav() -> bool:
    """Return whether the ``video`` extra is installed."""
    return find_spec("av") is not None


class PyAvCapture:
    """Video file, read by PyAV.

    Args:
        path: The file.

    Raises:
        OSError, ValueError: If it cannot be opened or holds no video.
    """

    def __init__(self, path: Path) -> None:
        import av  # half of a second that files which OpenCV reads need not wait for

        try:
            self._container: Any = av.open(str(path))
        except av.FFmpegError as error:  # some of its kinds are no OSError
            raise ValueError(str(error)) from error
        streams = self._container.streams.video
        if not streams or not getattr(streams[0], "width", 0) or streams[0].time_base is None:
            self._container.close()
            raise ValueError("no video")
        self._stream: Any = streams[0]
        self._stream.thread_type = "AUTO"
        self._start = self._stream.start_time or 0
        self._tick_s = float(self._stream.time_base or 0)
        self._frames = self._decoded()
        self._frame: Any = None
        self._failures = 0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Return True: a file that does not open raises."""
        return True

    def get(self, what: int) -> float:
        """Return one of OpenCV's properties: size, rate, number of frames, time of the frame, shape of its pixels."""
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate or 0
        ratio = stream.sample_aspect_ratio
        match what:
            case cv2.CAP_PROP_FRAME_WIDTH:
                return float(stream.width)
            case cv2.CAP_PROP_FRAME_HEIGHT:
                return float(stream.height)
            case cv2.CAP_PROP_FPS:
                return float(rate)
            case cv2.CAP_PROP_FRAME_COUNT:
                seconds = float(stream.duration * self._tick_s) if stream.duration else 0.0
                return float(stream.frames or seconds * float(rate))
            case cv2.CAP_PROP_POS_MSEC:
                known = self._frame is not None and self._frame.pts is not None
                return 1000 * (self._frame.pts - self._start) * self._tick_s if known else 0.0
            case cv2.CAP_PROP_SAR_NUM:
                return float(ratio.numerator) if ratio else 0.0
            case cv2.CAP_PROP_SAR_DEN:
                return float(ratio.denominator) if ratio else 1.0
        return 0.0

    def set(self, what: int, value: float) -> bool:
        """Seek to the key frame at or before a time in milliseconds."""
        if what != cv2.CAP_PROP_POS_MSEC:
            return False
        import av

        try:
            self._container.seek(int(value / 1000 / self._tick_s) + self._start, stream=self._stream)
        except (av.FFmpegError, OSError, ValueError, OverflowError, ZeroDivisionError):  # times that a file cannot have
            return False
        self._frames = self._decoded()
        return True

    def grab(self) -> bool:
        """Decode the next frame; False at the end and for a frame that is damaged."""
        import av

        try:
            self._frame = next(self._frames, None)
        except (av.FFmpegError, OSError, ValueError):
            self._failures += 1
            self._frame = None
            self._frames = self._decoded()  # continues behind the packet that failed
        return self._frame is not None

    def retrieve(self) -> tuple[bool, np.ndarray]:
        """Return the grabbed frame, BGR, rotated as the file states."""
        if self._frame is None:
            return False, np.empty((0, 0, 3), np.uint8)
        import av

        try:
            image = self._frame.to_ndarray(format="bgr24")
        except (av.FFmpegError, OSError, ValueError):  # a shape or pixel format that cannot be converted
            return False, np.empty((0, 0, 3), np.uint8)
        turns = round(-(getattr(self._frame, "rotation", 0) or 0) / 90) % 4
        return True, np.ascontiguousarray(np.rot90(image, -turns)) if turns else image

    def release(self) -> None:
        """Close the file."""
        self._frames.close()
        self._container.close()

    def _decoded(self) -> Any:
        def frames() -> Iterator[Any]:
            yield from self._container.decode(self._stream)

        return frames()


def frames_before(path: Path, time_s: float) -> int | None:
    """Count the frames that a video shows before a time, without decoding; None if that is unknown.

    Args:
        path: The file.
        time_s: Seconds since its first frame.
    """
    if not has_pyav():
        return None
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return None
            stream = container.streams.video[0]
            assert stream.time_base is not None
            tick_s = float(stream.time_base)
            stamps = [
                packet.pts
                for packet in container.demux(stream)
                if packet.pts is not None and packet.size and not packet.is_discard
            ]
    except (av.FFmpegError, OSError, ValueError):
        return None
    if not stamps:
        return None
    first = min(stamps)
    return sum((stamp - first) * tick_s < time_s - 5e-4 for stamp in stamps)
