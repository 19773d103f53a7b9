"""Video without PyAV: VP9 in MP4, VP8 in WebM and Matroska, Motion JPEG in AVI."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutputError
from featherpose.media.sinks.avi import AviMuxer, read_avi
from featherpose.media.sinks.matroska import MatroskaMuxer, read_matroska
from featherpose.media.sinks.mp4 import Mp4Muxer, read_mp4
from featherpose.media.sinks.packets import Muxer, Packet
from featherpose.media.sinks.sink import VideoSink
from featherpose.media.sinks.vpx import VpxCodec, VpxEncoder

__all__ = ["PacketSink", "earlier_frames", "even_sided"]

_LONGEST_PAUSE_S = 10.0
_TICK_S = 0.001  # two frames at one time would be rejected; a source without times repeats the same one
_JPEG_QUALITY = 90
_READERS: dict[str, Callable[[Path], Iterator[Packet]]] = {
    ".webm": read_matroska, ".mkv": read_matroska, ".mp4": read_mp4, ".m4v": read_mp4, ".mov": read_mp4,
    ".avi": read_avi,
}  # fmt: skip
_MARKS: dict[Callable[[Path], Iterator[Packet]], bytes] = {
    read_matroska: b"featherpose", read_mp4: b"vp09", read_avi: b"MJPG",
}  # fmt: skip


class PacketSink(VideoSink):
    """A video whose frames are compressed and put into the file one by one, each at its own time.

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov``, ``.webm``, ``.mkv`` or ``.avi``.
        fps: Nominal rate.
        resume_at_s: Continue what an earlier run left of the video; time of the source's first frame in seconds.

    Raises:
        OutputError: If the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, *, resume_at_s: float | None = None) -> None:
        super().__init__(path, resume_at_s=resume_at_s)
        self._fps = min(max(fps, 1.0), 240.0)
        suffix = path.suffix.lower()
        self._suffix = suffix
        self._codec: VpxCodec | None = None if suffix == ".avi" else "VP8" if suffix in (".webm", ".mkv") else "VP9"
        self.description = (
            "Motion JPEG, without sound"
            if self._codec is None
            else f'{self._codec}, without sound; H.264 with sound needs: pip install "featherpose[video]"'
        )
        self._encoder: VpxEncoder | None = None
        self._muxer: Muxer | None = None
        self._size = (0, 0)
        self._last_s = -_TICK_S
        self._shown = 0

    def write(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        """Append an image at its time; in AVI as often as its time demands."""
        if self._start_s is None:
            self._start_s = timestamp_s
        try:
            if self._muxer is None:
                image = self._start(image)
            elif (image.shape[1], image.shape[0]) != self._size:
                image = even_sided(image, self._size)
            assert self._muxer is not None
            time_s = max(self._last_s + _TICK_S, timestamp_s - self._start_s)
            if self._encoder is not None:
                self._muxer.write(self._encoder.encode(image, time_s))
            else:
                self._repeat(self._muxer, image, time_s)
        except OSError as error:
            raise self._fail(error) from error
        self._last_s = time_s
        self.frames += 1

    def _repeat(self, muxer: Muxer, image: UInt8[np.ndarray, "H W 3"], time_s: float) -> None:
        due = round(time_s * self._fps) + 1
        # A pause of minutes in a stream must not become a file of still frames.
        repeats = min(due - self._shown, int(_LONGEST_PAUSE_S * self._fps))
        if repeats > 0:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            packet = Packet(data.tobytes(), time_s, True)
            for _ in range(repeats):
                muxer.write(packet)
        self._shown = max(self._shown, due)

    def _start(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Open encoder and container for the first image, and copy what an earlier run left."""
        height, width = image.shape[:2]
        self._size = (width, height) if self._codec is None else (width + width % 2, height + height % 2)
        file, seekable, size, fps = self._part.file, not self._part.special, self._size, self._fps
        if self._codec is None:
            self._muxer = AviMuxer(file, size=size, fps=fps, seekable=seekable)
        else:
            self._encoder = VpxEncoder(self._codec, size, fps)
            if self._codec == "VP9":
                quicktime = self._suffix == ".mov"
                self._muxer = Mp4Muxer(file, size=size, fps=fps, quicktime=quicktime, seekable=seekable)
            else:
                doc_type = "webm" if self._suffix == ".webm" else "matroska"
                self._muxer = MatroskaMuxer(
                    file, doc_type=doc_type, codec="V_VP8", size=size, fps=fps, seekable=seekable
                )
        best = max((earlier_frames(part) for part in self._earlier), key=len, default=[])
        for packet in best:
            self._muxer.write(packet)
            self._last_s = packet.time_s
        self._shown = len(best) if self._codec is None else 0
        return even_sided(image, self._size)

    def _finish(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()
        if self._muxer is not None:
            self._muxer.finish()


def earlier_frames(path: Path) -> list[Packet]:
    """Return the frames of a video that `PacketSink` wrote; none for any other file."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        return []
    try:
        with path.open("rb") as file:
            if _MARKS[read] not in file.read(2048):
                return []
        return list(read(path))
    except (OSError, ValueError, IndexError, struct.error, StopIteration):
        return []


def even_sided(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Fit an image to (width, height): odd sides get their last line again, all else is scaled.

    Raises:
        OutputError: If the image is empty.
    """
    width, height = size
    right, below = width - image.shape[1], height - image.shape[0]
    if right == below == 0:
        return image
    if right in (0, 1) and below in (0, 1):
        return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE))
    if image.size == 0:
        raise OutputError("an empty image cannot be a frame of a video")
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
