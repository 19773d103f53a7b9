"""Cameras and network addresses as sources."""

from __future__ import annotations

from typing import Literal

import cv2

from featherpose.errors import SourceError
from featherpose.media.addresses import URL_SCHEMES, Address
from featherpose.media.connections import CaptureConnection, Connection
from featherpose.media.films import FilmSource, RemotePicture
from featherpose.media.frames import Source, Span
from featherpose.media.images import MAX_PIXELS
from featherpose.media.reconnecting import LiveSource, ReconnectOptions
from featherpose.media.video import open_capture

__all__ = ["URL_SCHEMES", "CameraSource", "StreamSource", "open_address"]


class CameraSource(LiveSource):
    """A camera of this machine.

    Its frames are as old as the moment they arrive: drivers' own clocks are too diverse to trust.

    Args:
        number: 0 for the first camera.
        span: Seconds count from the first frame.
        reconnect: How long a camera that was unplugged is waited for.
        strict: Raise when it does not come back, instead of noting that in ``problems``.

    Raises:
        SourceError: If there is no such camera, or another program has it.
    """

    def __init__(
        self, number: int, *, span: Span, reconnect: ReconnectOptions | None = None, strict: bool = False
    ) -> None:
        self._number = number
        super().__init__(f"camera-{number}", "camera", span=span, options=reconnect, strict=strict)
        self.fps = self.fps or 30.0 / span.every

    def _connect(self) -> Connection:
        capture = open_capture(self._number, cv2.CAP_ANY)
        if capture is None:
            raise SourceError(
                f"camera {self._number} cannot be opened",
                expected="the number of a camera that is connected and free, 0 for the first",
                hint="check that it is plugged in, that no other program uses it and that you may access it",
            )
        return _CameraConnection(capture)


class _CameraConnection(CaptureConnection):
    def grab(self) -> float | None:
        super().grab()
        return None


class StreamSource(LiveSource):
    """A live stream behind an address.

    FFmpeg delivers the pictures of one connection at the size that the first of them had, even if the stream goes
    over to another; a new connection, and each picture of a Motion JPEG stream, comes at its own size.

    Args:
        address: Where it is.
        kind: ``pictures`` for Motion JPEG over HTTP, ``video`` for all that FFmpeg reads.
        span: Seconds count from the first frame.
        reconnect: How long a stream that was lost is waited for.
        strict: Raise when it does not come back, instead of noting that in ``problems``.

    Raises:
        SourceError: If it cannot be opened.
    """

    def __init__(
        self,
        address: Address,
        kind: Literal["pictures", "video"],
        *,
        span: Span,
        reconnect: ReconnectOptions | None = None,
        strict: bool = False,
    ) -> None:
        self._address = address
        self._of_pictures = kind == "pictures"
        super().__init__(address.name, "stream", span=span, shown=address.shown, options=reconnect, strict=strict)
        self.fps = self.fps or 25.0 / span.every

    @property
    def ends(self) -> bool:
        """Whether it says how long it is, and so is a film in truth."""
        return isinstance(self._connection, CaptureConnection) and self._connection.frame_count > 0

    def _connect(self) -> Connection:
        return self._address.mjpeg() if self._of_pictures else self._address.capture(live=True)


def open_address(
    url: str,
    *,
    span: Span,
    timeout_s: float = 10.0,
    max_pixels: int = MAX_PIXELS,
    reconnect: ReconnectOptions | None = None,
    strict: bool = False,
) -> Source:
    """A picture, a film or a live stream behind an address.

    What has an end (a file of a known length, a film of a known duration) is a film and read to its end; everything
    else is live.

    Args:
        url: ``http(s)://`` of a picture, video, playlist or camera; ``rtsp://``, ``rtmp://``, ``udp://``, ``srt://``.
        span: The part that is wanted.
        timeout_s: The longest silence.
        max_pixels: Limit for a picture.
        reconnect: How long a film or stream that was lost is waited for.
        strict: Raise when it does not come back, instead of noting that in ``problems``.

    Raises:
        SourceError: If the address does not answer, refuses, or is neither picture nor video.
    """
    address = Address(url, timeout_s, max_pixels)
    found = address.ask()
    if not isinstance(found, str):
        return RemotePicture(found, address.name)
    if found == "pictures":
        return StreamSource(address, "pictures", span=span, reconnect=reconnect, strict=strict)
    if found == "unknown":
        stream = StreamSource(address, "video", span=span, reconnect=reconnect, strict=strict)
        if not stream.ends:
            return stream
        stream.close()
    return FilmSource(
        lambda: address.capture(live=False),
        address.name,
        span=span,
        shown=address.shown,
        options=reconnect,
        strict=strict,
    )
