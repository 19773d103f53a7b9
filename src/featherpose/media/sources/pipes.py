"""Standard input and named pipes, which are read once and do not allow seeking.

The first bytes decide the type. An image is read to its end; a video is handed to FFmpeg through a second pipe, with
those first bytes in front, so that a program which never ends (``ffmpeg ... -f matroska -``) is read as it writes.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2

from featherpose.errors import SourceError
from featherpose.media.decoding import check_size
from featherpose.media.images import MAX_PIXELS, decode_image
from featherpose.media.opencv_logs import suppress_decoder_output
from featherpose.media.sources.content import HEAD_BYTES, content_of_bytes
from featherpose.media.sources.network.remote_video import RemoteImage
from featherpose.media.sources.source import Frame, Source, Span
from featherpose.media.sources.video import Reading, open_capture, timed_frames

__all__ = ["PipedVideoSource", "open_pipe"]

_MAX_IMAGE_BYTES = 1_000_000_000
_PIECE_BYTES = 1 << 16


def open_pipe(where: str, *, span: Span, strict: bool = False, max_pixels: int = MAX_PIXELS) -> Source:
    """Open standard input or a named pipe; waits until something is written to it.

    Args:
        where: ``-`` or the path of the pipe.
        span: The part that is wanted; what comes before it is read and dropped.
        strict: Raise at the first damaged frame instead of noting it in ``errors``.
        max_pixels: Limit for an image or a frame.

    Raises:
        SourceError: If nothing comes, or neither an image nor a video that can be read without seeking.
    """
    name = "stdin" if where == "-" else Path(where).name
    shown = "standard input" if where == "-" else where
    try:
        reader = os.dup(sys.stdin.fileno()) if where == "-" else os.open(where, os.O_RDONLY)
        head = _read(reader, HEAD_BYTES)
    except (OSError, ValueError, AttributeError) as error:  # a closed stdin is None, or has no descriptor
        raise SourceError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not head:
        os.close(reader)
        raise SourceError(f"{shown} is empty (0 bytes)", expected="an image or a video")
    if content_of_bytes(head, is_start=True) == "image":
        with os.fdopen(reader, "rb") as file:
            data = head + file.read(_MAX_IMAGE_BYTES)
        second = data.find(b"\xff\xd9\xff\xd8\xff") if data.startswith(b"\xff\xd8") else -1
        if second < 0 or content_of_bytes(data) == "image":
            return RemoteImage(decode_image(data, shown, max_pixels=max_pixels), name)
        head, reader = data, os.open(os.devnull, os.O_RDONLY)
    return PipedVideoSource(reader, head, name, shown=shown, span=span, strict=strict, max_pixels=max_pixels)


class PipedVideoSource(Source):
    """Video that comes through a pipe.

    Args:
        reader: Descriptor that the rest is read from; this object closes it.
        head: What was read already.
        name: Name for people.
        shown: What messages call it.
        span: The part that is wanted.
        strict: Raise at damaged frames.
        max_pixels: Limit for one frame.

    Raises:
        SourceError: If FFmpeg cannot read it without seeking.
    """

    def __init__(
        self, reader: int, head: bytes, name: str, *, shown: str, span: Span, strict: bool, max_pixels: int
    ) -> None:
        super().__init__(name, "video", strict=strict)
        self._shown, self._span = shown, span
        self._closed = threading.Event()
        self._ours, writer = os.pipe()
        feeder = threading.Thread(
            target=_feed, args=(reader, writer, head, self._closed), name="featherpose-pipe", daemon=True
        )
        feeder.start()
        with suppress_decoder_output():
            capture = open_capture(f"pipe:{self._ours}", cv2.CAP_FFMPEG)
        if capture is None:
            self.close()
            raise _unreadable(shown)
        self._capture: cv2.VideoCapture | None = capture
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        try:
            check_size(shown, self.size, max_pixels)
        except SourceError:
            capture.release()
            self.close()
            raise
        rate = capture.get(cv2.CAP_PROP_FPS)
        self._rate = rate if 0 < rate < 1000 else 25.0
        self.fps = self._rate / span.frame_step

    def __iter__(self) -> Iterator[Frame]:
        capture, self._capture = self._capture, None
        if capture is None:
            return
        reading = Reading()
        try:
            with contextlib.closing(timed_frames(capture, self._span, rate_hz=self._rate, reading=reading)) as timed:
                for index, timestamp_s, image in timed:
                    if image is not None:
                        yield Frame(image, index, timestamp_s, self.name)
        finally:
            self.close()
        if reading.damaged:
            self._report(SourceError(f"{self._shown} is damaged: {reading.damaged} frames could not be decoded"))
        if reading.grabbed == 0:
            raise _unreadable(self._shown)

    def close(self) -> None:
        """Close the pipe; the process that writes to it is notified."""
        self._closed.set()
        ours, self._ours = self._ours, -1
        if ours >= 0:
            os.close(ours)


def _unreadable(shown: str) -> SourceError:
    return SourceError(
        f"{shown} is not a video that can be read from a pipe",
        expected="an image, or a video without an index at its end such as Matroska, MPEG-TS or raw H.264",
        hint="save it to a file first",
    )


def _read(descriptor: int, count: int) -> bytes:
    """Read up to this many bytes; fewer only at the end."""
    data = b""
    while len(data) < count and (piece := os.read(descriptor, count - len(data))):
        data += piece
    return data


def _feed(reader: int, writer: int, head: bytes, closed: threading.Event) -> None:
    """Write what was read and what follows, until the pipe is closed."""
    with contextlib.suppress(OSError):  # the other side was closed
        view = memoryview(head)
        while view and not closed.is_set():
            view = view[os.write(writer, view) :]
        while not closed.is_set():
            if hasattr(select, "poll") and not select.select([reader], [], [], 0.5)[0]:
                continue
            piece = memoryview(os.read(reader, _PIECE_BYTES))
            if not piece:
                break
            while piece and not closed.is_set():
                piece = piece[os.write(writer, piece) :]
    os.close(writer)
    os.close(reader)
