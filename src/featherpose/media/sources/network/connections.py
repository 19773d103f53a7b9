"""Connections to a camera or an address: one image at a time, until the connection is lost.

Two kinds: those that OpenCV opens (cameras, and addresses through FFmpeg), and Motion JPEG over HTTP, which is read
here: each image then has its own size and time of arrival, without the seconds that FFmpeg spends on probing.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import SourceError
from featherpose.media.images import MAX_PIXELS, decode_image
from featherpose.media.opencv_logs import suppress_opencv_logs
from featherpose.media.sources.video import as_bgr

__all__ = ["CaptureConnection", "Connection", "MjpegConnection", "StalledError", "without_password"]

_MAX_PART_BYTES = 200_000_000
_MAX_HEADER_BYTES = 64_000


class StalledError(SourceError):
    """Raised when a connection is silent for too long; it has not ended."""


class Connection(Protocol):
    """An open camera or address.

    Attributes:
        size: (width, height) in pixels when it was opened, where that is known.
        rate_hz: Frames per second that it promises, where it does.
    """

    size: tuple[int, int] | None
    rate_hz: float | None

    def grab(self) -> float | None:
        """Wait for the next image and return its own time in seconds, None if it has none.

        Raises:
            SourceError: When no image will follow; its text is the reason.
        """
        ...

    def image(self) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return the image that was grabbed, None if it is damaged."""
        ...

    def close(self) -> None:
        """Release the connection; callable from another thread while this one waits in `grab`, and twice."""
        ...


class CaptureConnection:
    """A camera or an address that OpenCV has opened.

    Args:
        capture: The open capture; this object owns it.
        patience_s: An image that took this long comes from a dead connection: FFmpeg then returns the rest of its
            decoder's buffer.
    """

    def __init__(self, capture: cv2.VideoCapture, *, patience_s: float = float("inf")) -> None:
        self._capture = capture
        self._patience_s = patience_s
        # A capture that is released while another thread reads from it crashes the process.
        self._reading = threading.Lock()
        self._closed = False
        width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.size: tuple[int, int] | None = (width, height) if width > 0 and height > 0 else None
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate_hz: float | None = rate if 1 <= rate <= 1000 else None
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if count > 0 else 0

    def grab(self) -> float | None:
        """Wait for the next image."""
        with self._reading:
            started = time.monotonic()
            with suppress_opencv_logs():
                got = not self._closed and self._capture.grab()
            stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC) if got else 0.0
            waited_s = time.monotonic() - started
        if self._closed:
            self.close()
            raise SourceError("it was closed")
        if waited_s >= self._patience_s:
            raise StalledError(f"no image for {waited_s:.3g} s")
        if not got:
            raise SourceError("no further image")
        return stamp_ms / 1000

    def image(self) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return the image that was grabbed."""
        with self._reading:
            if self._closed:
                return None
            whole, image = self._capture.retrieve()
        return as_bgr(image) if whole else None

    def seek(self, time_s: float) -> None:
        """Seek in a video, as far as its server allows; the next `grab` returns the time reached."""
        with self._reading, suppress_opencv_logs():
            if not self._closed:
                self._capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * time_s)

    def close(self) -> None:
        """Release it now, or after the read in another thread."""
        self._closed = True
        if self._reading.acquire(blocking=False):
            try:
                self._capture.release()
            finally:
                self._reading.release()


class MjpegConnection:
    """Images that an HTTP server sends one after the other (multipart/x-mixed-replace), as many cameras do.

    Args:
        url: Address; user and password in it are used for basic and digest authentication.
        timeout_s: The longest silence.
        max_pixels: Larger images count as damaged.

    Raises:
        SourceError: If it does not answer, refuses, or sends another type.
    """

    def __init__(self, url: str, *, timeout_s: float, max_pixels: int = MAX_PIXELS) -> None:
        self.size: tuple[int, int] | None = None
        self.rate_hz: float | None = None
        self._shown = without_password(url)
        self._timeout_s = timeout_s
        self._max_pixels = max_pixels
        self._buffer = bytearray()
        self._part = b""
        self._reading = threading.Lock()  # closing a response waits for a thread that reads from it
        self._closed = False
        try:
            self._response = _open(url, timeout_s)
        except urllib.error.HTTPError as error:
            raise SourceError(f"{self._shown} answers {error.code} {error.reason}", hint="check the address") from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self._shown} cannot be reached: {self._reason(error)}") from error
        kind = self._response.headers.get_content_type()
        boundary = self._response.headers.get_param("boundary")
        if not kind.startswith("multipart/") or not isinstance(boundary, str):
            self._response.close()
            raise SourceError(f"{self._shown} is {kind}", expected="multipart/x-mixed-replace")
        # Some cameras write the two dashes into the parameter, too.
        self._boundary = b"--" + boundary.strip().removeprefix("--").encode("latin-1")

    def grab(self) -> float | None:
        """Wait until the next image has arrived."""
        with self._reading:
            if not self._closed:
                try:
                    self._part = self._read_part()
                except TimeoutError as error:
                    raise StalledError(self._reason(error)) from error
                except (OSError, http.client.HTTPException) as error:
                    raise SourceError(self._reason(error)) from error
        if self._closed:
            self.close()
            raise SourceError("it was closed")
        return None

    def image(self) -> UInt8[np.ndarray, "H W 3"] | None:
        """Decode it."""
        try:
            return decode_image(self._part, self._shown, max_pixels=self._max_pixels)
        except SourceError:
            return None

    def close(self) -> None:
        """Close the connection now, or after the read in another thread."""
        self._closed = True
        if self._reading.acquire(blocking=False):
            try:
                self._response.close()
            finally:
                self._reading.release()

    def _read_part(self) -> bytes:
        self._take_until(self._boundary)
        headers = {}
        self._take_line()  # the rest of the boundary's line
        while line := self._take_line():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return self._take_until(b"\r\n" + self._boundary, keep=True)
        if int(length) > _MAX_PART_BYTES:
            raise SourceError(f"an image of {int(length):,} bytes")
        while len(self._buffer) < int(length):
            self._receive()
        return self._take(int(length))

    def _take_line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise SourceError("something that is no stream of images")
            self._receive()
        return self._take(end + 1).strip()

    def _take_until(self, mark: bytes, *, keep: bool = False) -> bytes:
        start = 0
        while (end := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark))
            if len(self._buffer) > _MAX_PART_BYTES:
                raise SourceError(f"an image of more than {_MAX_PART_BYTES:,} bytes")
            self._receive()
        before = self._take(end)
        if not keep:
            self._take(len(mark))
        return before

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _receive(self) -> None:
        piece = self._response.read1(1 << 16)
        if not piece:
            raise SourceError("it ended")
        self._buffer += piece

    def _reason(self, error: BaseException) -> str:
        inner = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(inner, TimeoutError):
            return f"no image for {self._timeout_s:g} s"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        return str(inner) or type(inner).__name__


def _open(url: str, timeout_s: float) -> http.client.HTTPResponse:
    from requests.utils import DEFAULT_CA_BUNDLE_PATH  # the certificates that all other addresses are verified with

    parts = urlsplit(url)
    bare = without_password(url)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, bare, unquote(parts.username or ""), unquote(parts.password or ""))
    opener = urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)),
    )
    response = opener.open(urllib.request.Request(bare, headers={"User-Agent": "featherpose"}), timeout=timeout_s)
    assert isinstance(response, http.client.HTTPResponse)
    return response


def without_password(url: str) -> str:
    """Return the address without user and password, for names, messages and files.

    Example:
        >>> without_password("rtsp://admin:secret@camera.local:554/live")
        'rtsp://camera.local:554/live'
    """
    parts: SplitResult = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
