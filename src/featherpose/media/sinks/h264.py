"""H.264 video by PyAV (the ``video`` extra): real frame times, and the source's sound copied without re-encoding."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from jaxtyping import UInt8

from featherpose.errors import OutputError
from featherpose.files import output_error
from featherpose.media.sinks.packet_sink import even_sided
from featherpose.media.sinks.sink import VideoSink

__all__ = ["H264Sink", "earlier_frames"]

_log = logging.getLogger(__name__)

_CLOCK_HZ = 90_000  # fine enough for any frame rate, and what MPEG uses
_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")
_BT709 = 1
# A fragment for every frame: what a killed process leaves can be played. `hybrid_fragmented` (FFmpeg 7.1 and later)
# makes it an ordinary file in the end; older ones leave the fragments, which play as well.
_MP4_FLAGS = ("+frag_every_frame+default_base_moof+hybrid_fragmented", "+frag_every_frame+default_base_moof+empty_moov")
_MATROSKA = {"cluster_time_limit": "1", "cluster_size_limit": "1"}
_FORMATS = {".mkv": "matroska", ".mov": "mov", ".m4v": "mp4", ".mp4": "mp4"}


class _Output:
    """The file as FFmpeg writes to it; keeps the cause of a failure."""

    def __init__(self, file: FileIO, seekable: bool) -> None:
        self._file = file
        self.error: OSError | None = None
        self.name = "video"
        if seekable:
            self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        if self.error is not None:  # nothing may follow a file that ends with a whole frame
            raise self.error
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
            raise
        return len(data)


class H264Sink(VideoSink):
    """Video that keeps the times of its frames.

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
        fps: Nominal rate, written to the header.
        audio_from: A video whose first sound track is copied.

    Raises:
        OutputError: If the file cannot be written.
    """

    def __init__(
        self, path: Path, fps: float, *, audio_from: Path | None = None, resume_at_s: float | None = None
    ) -> None:
        super().__init__(path, resume_at_s=resume_at_s)
        self._rate = Fraction(min(max(fps, 1.0), 1000.0)).limit_denominator(1001)
        self._audio_from = audio_from
        self._sound: _Sound | None = None
        self._stream: Any = None
        self._last_pts = -1
        self._output = _Output(self._part.file, not self._part.special)
        try:
            self._file = _open_container(self._output, _FORMATS.get(path.suffix.lower(), "mp4"))
        except (OSError, av.FFmpegError) as error:
            self._part.discard()
            raise self._failure(error) from error
        name = next(name for name in _ENCODERS if name in av.codecs_available)
        self._encoder = name
        self.description = ("MPEG-4 Part 2" if name == "mpeg4" else "H.264") + " by PyAV"

    def write(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        """Append an image at its time."""
        if self._start_s is None:
            self._start_s = timestamp_s
        try:
            if self._stream is None:
                self._start(image)
            width, height = self._stream.width, self._stream.height
            if image.shape[:2] != (height, width):
                image = even_sided(image, (width, height))
            # Two frames at one tick would be rejected; a source without times repeats the same one.
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

    def _start(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        height, width = image.shape[:2]
        # Without lookahead: each frame is in the file when the next one comes.
        options = {"preset": "veryfast", "crf": "20", "tune": "zerolatency"} if self._encoder == "libx264" else {}
        stream: Any = self._file.add_stream(self._encoder, rate=self._rate, options=options)
        # Players expect 4:2:0, which has one color sample for 2x2 pixels: both sides even.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK_HZ)
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        if self._encoder != "libx264":
            stream.bit_rate = int(width * height * float(self._rate) * 0.12)
        self._stream = stream
        assert self._start_s is not None
        if self._audio_from is not None:
            self._sound = _Sound.find(self._audio_from, self._file, self._start_s)
            if self._sound is not None:
                self._sound.failed = lambda: self._output.error is not None
                self.description += f" with the source's sound ({self._sound.codec})"
        for packet in max((earlier_frames(part) for part in self._earlier), key=len, default=[]):
            packet.stream = stream
            packet.pts = packet.dts = round(packet.pts * packet.time_base * _CLOCK_HZ)
            packet.time_base = Fraction(1, _CLOCK_HZ)
            self._last_pts = packet.pts
            self._file.mux(packet)
            if self._sound is not None:
                self._sound.copy_until(self._last_pts / _CLOCK_HZ)

    def _finish(self) -> None:
        try:
            if self._failed:  # the file stays as it is: whole up to the frame before
                with contextlib.suppress(OSError, av.FFmpegError):
                    self._file.close()
                return
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
        if self._output.error is not None:
            return self._fail(self._output.error)
        self._failed = True
        number = getattr(error, "errno", None)
        if isinstance(number, int) and number > 0:
            return output_error(self.path, OSError(number, getattr(error, "strerror", None) or str(error)))
        return OutputError(f"{self.path} cannot be written: {error}")


def _open_container(output: _Output, kind: str) -> Any:
    if kind == "matroska":
        return av.open(output, "w", format=kind, options=_MATROSKA | {"flush_packets": "1"})
    flags = _MP4_FLAGS[tuple(av.library_versions["libavformat"]) < (61, 7)]
    return av.open(output, "w", format=kind, options={"movflags": flags, "flush_packets": "1"})


def earlier_frames(path: Path) -> list[Any]:
    """Return the packets of a video that `H264Sink` wrote; none for any other file."""
    try:
        with path.open("rb") as file, av.open(file, "r") as container:
            if not container.streams.video or container.streams.video[0].codec_context.name != "h264":
                return []
            stream = container.streams.video[0]
            # As encoders write them, since those of an encoder will follow.
            encoded = BitStreamFilterContext("h264_mp4toannexb", stream)
            found: list[Any] = []
            with contextlib.suppress(OSError, av.FFmpegError):  # a torn end
                for packet in container.demux(stream):
                    if packet.size and packet.pts is not None:
                        found.extend(encoded.filter(packet))
            return found
    except (OSError, ValueError, av.FFmpegError):
        return []


class _Sound:
    """Packets of a sound track, copied up to the time that the images have reached."""

    def __init__(self, file: BinaryIO, source: Any, track: Any, output: Any, target: Any, start_s: float) -> None:
        self._opened = file
        self.failed: Callable[[], bool] = lambda: False
        self._source, self._target, self._output = source, target, output
        self.codec = track.codec_context.name
        video = source.streams.video[0] if source.streams.video else None
        zero_s = (
            float(video.start_time * video.time_base) if video is not None and video.start_time is not None else 0.0
        )
        self._time_base = float(track.time_base)
        self._zero = round((zero_s + start_s) / self._time_base)
        self._packets: Iterator[Any] = source.demux(track)
        self._waiting: Any = None

    @classmethod
    def find(cls, path: Path, output: Any, start_s: float) -> _Sound | None:
        """Return the first sound track, or None if there is none or the new container cannot hold it."""
        try:
            # A file, not a name: FFmpeg takes no name that is not UTF-8.
            file = path.open("rb")
        except OSError:
            return None
        try:
            source = av.open(file)
        except (OSError, ValueError, av.FFmpegError):
            file.close()
            return None
        if not source.streams.audio:
            source.close()
            file.close()
            return None
        track = source.streams.audio[0]
        try:
            add = getattr(output, "add_stream_from_template", None)
            target = add(track) if add is not None else output.add_stream(template=track)
        except (OSError, ValueError, av.FFmpegError) as error:
            _log.warning("the sound of %s is left out: %s", path, error)
            source.close()
            file.close()
            return None
        return cls(file, source, track, output, target, start_s)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets up to a time; sound that cannot be read or copied ends there, the video goes on."""
        try:
            self._copy_until(time_s / self._time_base)
        except (OSError, ValueError, av.FFmpegError) as error:
            if self.failed():  # the disk, not the sound
                raise
            _log.warning("the sound of the source is damaged and ends at %.1f s: %s", time_s, error)
            self._packets, self._waiting = iter(()), None

    def _copy_until(self, limit: float) -> None:
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
        self._opened.close()
