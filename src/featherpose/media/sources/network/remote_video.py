"""Finite remote media: images and videos over HTTP. An interrupted video continues where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import SourceError
from featherpose.media.sources.network.connections import CaptureConnection, StalledError
from featherpose.media.sources.network.reconnect import ReconnectOptions, Reconnector
from featherpose.media.sources.source import Frame, Source, Span

__all__ = ["RemoteImage", "RemoteVideoSource"]

# Below this a video is read from its beginning again, which is exact; above it a seek saves the time.
_SEEK_FROM_S = 4.0
# Containers round the length of a video, and its sound may last longer than its images.
_END_SLACK_S = 1.0
_END_SLACK_SHARE = 0.02


class RemoteImage(Source):
    """One image that does not come from a file of this machine."""

    def __init__(self, image: UInt8[np.ndarray, "H W 3"], name: str) -> None:
        super().__init__(name, "image")
        self._frame = Frame(image, 0, 0.0, name)
        self.size, self.frame_count = self._frame.size, 1

    def __iter__(self) -> Iterator[Frame]:
        yield self._frame


class RemoteVideoSource(Source):
    """A video behind an address, read from its first to its last frame.

    Args:
        connect: Opens the connection.
        name: Name for people, without a password.
        span: The part that is wanted.
        shown: What messages call it.
        options: Retry schedule after an interruption.
        strict: Raise when it does not come back, instead of noting that in ``errors``.

    Raises:
        SourceError: If it cannot be opened.
    """

    def __init__(
        self,
        connect: Callable[[], CaptureConnection],
        name: str,
        *,
        span: Span,
        shown: str,
        options: ReconnectOptions | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__(name, "video", strict=strict)
        self._shown = shown
        self._connect = connect
        self._span = span
        self._options = options or ReconnectOptions()
        self._closed = threading.Event()
        self._connection: CaptureConnection | None = connect()
        self._rate_hz = self._connection.rate_hz or 25.0
        count = self._connection.frame_count
        self.size = self._connection.size
        self.fps = self._rate_hz / span.frame_step
        self.frame_count = span.frames_of(count, self._rate_hz) if count else None
        self._duration_s = count / self._rate_hz

    def __iter__(self) -> Iterator[Frame]:
        if self._closed.is_set():
            return
        span, reconnector = self._span, Reconnector(self._shown, self._options, self._closed)
        connection: CaptureConnection | None = self._connection or self._connect()
        index, wanted, last_s = -1, 0, -1.0
        while connection is not None:
            self._connection = connection
            behind, came = last_s, False
            try:
                if behind >= _SEEK_FROM_S:
                    connection = self._connection = self._resumed(connection, behind)
                while True:
                    time_s = connection.grab()
                    assert time_s is not None
                    if time_s <= behind:
                        continue  # seen before the interruption
                    if time_s <= last_s:  # no times in the container, or broken ones
                        time_s = last_s + 1 / self._rate_hz
                    last_s, came = time_s, True
                    reconnector.arrived()
                    index += 1
                    if span.end_s is not None and time_s >= span.end_s:
                        return
                    if time_s < (span.start_s or 0.0):
                        continue
                    wanted += 1
                    image = connection.image() if (wanted - 1) % span.frame_step == 0 else None
                    if image is not None:
                        yield Frame(image, index, time_s, self.name)
            except SourceError as error:
                lost = error
            finally:
                connection.close()
                self._connection = None
            stalled = isinstance(lost, StalledError)
            if self._closed.is_set() or (self._complete(last_s) and not stalled):
                break
            if index < 0 and not stalled:
                break  # it opened but holds nothing readable in order: a retry gives the same
            if behind >= 0 and not came and not stalled:  # it was retried, and ends at the same place
                self._report(
                    SourceError(
                        f"{self._shown} ends after {last_s:.2f} s of {self._duration_s:.2f} s, twice at the same place",
                        hint="its server sends only a part, or its sound is longer than its pictures; "
                        "download it to see",
                    )
                )
                break
            connection = reconnector.again(lost, index + 1, self._connect)
            if connection is None and not self._closed.is_set():
                self._report(reconnector.given_up(lost, index + 1))
        if index < 0 and not self._closed.is_set():
            raise SourceError(
                f"{self._shown} delivers no frame",
                expected="a video that can be read in order, or a server that sends parts of it (HTTP ranges)",
                hint="download it and read the file",
            )

    def _complete(self, last_s: float) -> bool:
        """Return whether that was the last frame, as far as the container states the length."""
        slack_s = max(_END_SLACK_S, _END_SLACK_SHARE * self._duration_s)
        return self._duration_s == 0 or last_s + 1 / self._rate_hz >= self._duration_s - slack_s

    def _resumed(self, connection: CaptureConnection, behind_s: float) -> CaptureConnection:
        """Return a connection positioned at or before the last frame seen."""
        connection.seek(behind_s - 1)
        stamp_s = connection.grab()
        if stamp_s is not None and stamp_s <= behind_s:
            return connection
        connection.close()  # a server that cannot seek, or a container that seeks badly: from the beginning
        return self._connect()

    def close(self) -> None:
        """Close the connection; a reader in another thread ends after its current read."""
        self._closed.set()
        connection = self._connection
        if connection is not None:
            connection.close()
