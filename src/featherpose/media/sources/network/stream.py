"""Cameras and network addresses as sources."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2

from featherpose.errors import SourceError
from featherpose.media.images import MAX_PIXELS
from featherpose.media.sources.network.connections import CaptureConnection, Connection
from featherpose.media.sources.network.reconnect import LiveSource, ReconnectOptions
from featherpose.media.sources.network.remote_video import RemoteImage, RemoteVideoSource
from featherpose.media.sources.network.urls import URL_SCHEMES, Address
from featherpose.media.sources.source import Source, Span
from featherpose.media.sources.video import open_capture

__all__ = ["URL_SCHEMES", "CameraSource", "StreamSource", "open_address"]


class CameraSource(LiveSource):
    """Camera of this machine.

    Times are those of arrival: drivers' own clocks are too diverse.

    Args:
        number: 0 for the first camera, or a device file such as ``/dev/video2``.
        span: Seconds count from the first frame.
        reconnect: Retry schedule after the camera is unplugged.
        strict: Raise when it does not come back, instead of noting that in ``errors``.

    Raises:
        SourceError: If there is no such camera, or another program has it.
    """

    def __init__(
        self, number: int | str, *, span: Span, reconnect: ReconnectOptions | None = None, strict: bool = False
    ) -> None:
        self._number = number
        name = f"camera-{number}" if isinstance(number, int) else Path(number).name
        super().__init__(name, "camera", span=span, options=reconnect, strict=strict)
        self.fps = self.fps or 30.0 / span.frame_step

    def _connect(self) -> Connection:
        capture = open_capture(self._number, cv2.CAP_ANY)
        if capture is None:
            raise SourceError(
                f"camera {self._number} cannot be opened",
                expected="the number or device file of a camera that is connected and free, 0 for the first",
                hint="check that it is plugged in, that no other program uses it and that you may access it",
            )
        return _CameraConnection(capture)


class _CameraConnection(CaptureConnection):
    def grab(self) -> float | None:
        super().grab()
        return None


class StreamSource(LiveSource):
    """Live stream behind an address.

    FFmpeg delivers all images of one connection at the size of the first, even if the stream changes its size; a new
    connection, and each image of a Motion JPEG stream, has its own size.

    Args:
        address: Where it is.
        kind: ``images`` for Motion JPEG over HTTP, ``video`` for all that FFmpeg reads.
        span: Seconds count from the first frame.
        reconnect: Retry schedule after a lost connection.
        strict: Raise when it does not come back, instead of noting that in ``errors``.

    Raises:
        SourceError: If it cannot be opened.
    """

    def __init__(
        self,
        address: Address,
        kind: Literal["images", "video"],
        *,
        span: Span,
        reconnect: ReconnectOptions | None = None,
        strict: bool = False,
    ) -> None:
        self._address = address
        self._of_images = kind == "images"
        super().__init__(address.name, "stream", span=span, shown=address.shown, options=reconnect, strict=strict)
        self.fps = self.fps or 25.0 / span.frame_step

    @property
    def ends(self) -> bool:
        """Return whether it states a length, and so is a finite video."""
        return isinstance(self._connection, CaptureConnection) and self._connection.frame_count > 0

    def _connect(self) -> Connection:
        return self._address.mjpeg() if self._of_images else self._address.capture(live=True)


def open_address(
    url: str,
    *,
    span: Span,
    timeout_s: float = 10.0,
    max_pixels: int = MAX_PIXELS,
    reconnect: ReconnectOptions | None = None,
    strict: bool = False,
) -> Source:
    """Open an image, a video or a live stream behind an address.

    What has an end (a file of a known length, a video of a known duration) is a video and read to its end; everything
    else is live.

    Args:
        url: ``http(s)://`` of an image, video, playlist or camera; ``rtsp://``, ``rtmp://``, ``udp://``, ``srt://``.
        span: The part that is wanted.
        timeout_s: The longest silence.
        max_pixels: Limit for an image.
        reconnect: Retry schedule after a lost connection.
        strict: Raise when it does not come back, instead of noting that in ``errors``.

    Raises:
        SourceError: If the address does not answer, refuses, or is neither image nor video.
    """
    address = Address(url, timeout_s, max_pixels)
    found = address.ask()
    if not isinstance(found, str):
        return RemoteImage(found, address.name)
    if found == "images":
        return StreamSource(address, "images", span=span, reconnect=reconnect, strict=strict)
    if found == "unknown":
        stream = StreamSource(address, "video", span=span, reconnect=reconnect, strict=strict)
        if not stream.ends:
            return stream
        stream.close()
    return RemoteVideoSource(
        lambda: address.capture(live=False),
        address.name,
        span=span,
        shown=address.shown,
        options=reconnect,
        strict=strict,
    )
