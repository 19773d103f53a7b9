"""H.264 video by PyAV (the ``video`` extra): real frame times, and the source's sound copied without re-encoding."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutputError
from featherpose.media.atomic import output_error
from featherpose.media.sinks import VideoSink

__all__ = ["H264Sink"]

_log = logging.getLogger(__name__)

_CLOCK_HZ = 90_000  # fine enough for any frame rate, and what MPEG uses
_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")
_BT709 = 1


class H264Sink(VideoSink):
    """A video with the times of its frames as they are.

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
        fps: Nominal rate, written to the header.
        audio_from: A video whose first sound track is copied.

    Raises:
        OutputError: If the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, *, audio_from: Path | None = None) -> None:
        super().__init__(path)
        self._rate = Fraction(min(max(fps, 1.0), 1000.0)).limit_denominator(1001)
        self._audio_from = audio_from
        self._sound: _Sound | None = None
        self._stream: Any = None
        self._start_s = 0.0
        self._last_pts = -1
        fast_start = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        try:
            self._file = av.open(str(self.part), "w", options=fast_start)
        except (OSError, av.FFmpegError) as error:
            raise self._failure(error) from error
        name = next(name for name in _ENCODERS if name in av.codecs_available)
        self._encoder = name
        self.description = ("MPEG-4 Part 2" if name == "mpeg4" else "H.264") + " by PyAV"

    def write(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        """Append a picture at its time."""
        try:
            if self._stream is None:
                self._start(image, timestamp_s)
            width, height = self._stream.width, self._stream.height
            if image.shape[:2] != (height, width):
                image = _fit(image, (width, height))
            # Two frames at one tick would be refused; a source without times gives the same one again and again.
            pts = max(self._last_pts + 1, round((timestamp_s - self._start_s) * _CLOCK_HZ))
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
                format="yuv420p", dst_colorspace="ITU709"
            )
            frame.pts, frame.time_base = pts, Fraction(1, _CLOCK_HZ)
            self._file.mux(self._stream.encode(frame))
            self._last_pts = pts
            self.frames += 1
            if self._sound is not None:
                self._sound.copy_until(pts / _CLOCK_HZ)
        except (OSError, av.FFmpegError) as error:
            raise self._failure(error) from error

    def _start(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        height, width = image.shape[:2]
        options = {"preset": "veryfast", "crf": "20"} if self._encoder == "libx264" else {}
        stream: Any = self._file.add_stream(self._encoder, rate=self._rate, options=options)
        # Players expect 4:2:0, which has one colour sample for 2x2 pixels: both sides even.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK_HZ)
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        if self._encoder != "libx264":
            stream.bit_rate = int(width * height * float(self._rate) * 0.12)
        self._stream, self._start_s = stream, timestamp_s
        if self._audio_from is not None:
            self._sound = _Sound.find(self._audio_from, self._file, timestamp_s)
            if self._sound is not None:
                self.description += f" with the source's sound ({self._sound.codec})"

    def _finish(self) -> None:
        try:
            if self._stream is not None:
                self._file.mux(self._stream.encode())
                if self._sound is not None:
                    self._sound.copy_until(self._last_pts / _CLOCK_HZ + float(1 / self._rate))
            self._file.close()
        except (OSError, av.FFmpegError) as error:
            raise self._failure(error) from error
        finally:
            if self._sound is not None:
                self._sound.close()

    def _failure(self, error: Exception) -> OutputError:
        number = getattr(error, "errno", None)
        if isinstance(number, int) and number > 0:
            return output_error(self.path, OSError(number, getattr(error, "strerror", None) or str(error)))
        return OutputError(f"{self.path} cannot be written: {error}")


class _Sound:
    """Packets of a sound track, copied up to the time that the pictures have reached."""

    def __init__(self, source: Any, track: Any, output: Any, target: Any, start_s: float) -> None:
        self._source, self._target, self._output = source, target, output
        self.codec = track.codec_context.name
        film = source.streams.video[0] if source.streams.video else None
        zero_s = float(film.start_time * film.time_base) if film is not None and film.start_time is not None else 0.0
        self._time_base = float(track.time_base)
        self._zero = round((zero_s + start_s) / self._time_base)
        self._packets: Iterator[Any] = source.demux(track)
        self._waiting: Any = None

    @classmethod
    def find(cls, path: Path, output: Any, start_s: float) -> _Sound | None:
        """The first sound track, or None if there is none or the new container cannot hold it."""
        try:
            source = av.open(str(path))
        except (OSError, av.FFmpegError):
            return None
        if not source.streams.audio:
            source.close()
            return None
        track = source.streams.audio[0]
        try:
            add = getattr(output, "add_stream_from_template", None)
            target = add(track) if add is not None else output.add_stream(template=track)
        except (OSError, ValueError, av.FFmpegError) as error:
            _log.warning("the sound of %s is left out: %s", path, error)
            source.close()
            return None
        return cls(source, track, output, target, start_s)

    def copy_until(self, time_s: float) -> None:
        limit = time_s / self._time_base
        while True:
            packet = self._waiting if self._waiting is not None else next(self._packets, None)
            self._waiting = None
            if packet is None:
                return
            if packet.pts is None or packet.dts is None:
                continue
            if packet.pts - self._zero > limit:
                self._waiting = packet
                return
            if packet.pts < self._zero:
                continue
            packet.pts -= self._zero
            packet.dts = max(0, packet.dts - self._zero)
            packet.stream = self._target
            self._output.mux(packet)

    def close(self) -> None:
        self._source.close()


def _fit(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    width, height = size
    right, below = width - image.shape[1], height - image.shape[0]
    if right in (0, 1) and below in (0, 1):  # odd sides: the last line again
        return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
