"""Cameras and network addresses as sources."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import cv2

from featherpose.errors import SourceError
from featherpose.media.frames import Frame, Source, Span
from featherpose.media.images import MAX_PIXELS, PICTURE_SUFFIXES, decode_image
from featherpose.media.video import open_capture, timed_frames

__all__ = ["URL_SCHEMES", "CameraSource", "UrlSource"]

URL_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "udp", "tcp", "srt")
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935}
_MAX_PICTURE_BYTES = 200_000_000


class CameraSource(Source):
    """A camera of this machine; it ends when the camera does, or at the end of the span.

    Args:
        number: 0 for the first camera.
        span: Seconds count from the first frame.

    Raises:
        SourceError: If there is no such camera, or another program has it.
    """

    def __init__(self, number: int, *, span: Span) -> None:
        super().__init__(f"camera-{number}", "camera")
        self._span = span
        capture = open_capture(number, cv2.CAP_ANY)
        if capture is None:
            raise SourceError(
                f"camera {number} cannot be opened",
                expected="the number of a camera that is connected and free, 0 for the first",
                hint="check that it is plugged in, that no other program uses it and that you may access it",
            )
        self._capture = capture
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.fps = (rate if 1 <= rate <= 1000 else 30.0) / span.every

    def __iter__(self) -> Iterator[Frame]:
        # A camera's frames are as old as the moment they arrive: its drivers' own clocks are too diverse to trust.
        started: float | None = None
        index = -1
        while True:
            whole, image = self._capture.read()
            if not whole:
                break
            index += 1
            now = time.monotonic()
            started = now if started is None else started
            timestamp_s = now - started
            if self._span.end_s is not None and timestamp_s >= self._span.end_s:
                return
            if timestamp_s >= (self._span.start_s or 0) and index % self._span.every == 0:
                yield Frame(image, index, timestamp_s, self.name)
        if index < 0:
            raise SourceError(f"{self.name} delivers no picture", hint="check the cable and other programs that use it")
        self._report(SourceError(f"{self.name} stopped after {index + 1} frames", hint="check the cable"))

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


class UrlSource(Source):
    """A picture, a video or a live stream behind an address.

    The address is asked in plain words first, so that a refusal has a reason; then FFmpeg reads it.

    Args:
        url: ``http(s)://`` of a picture, video, playlist or camera; ``rtsp://``, ``rtmp://``, ``udp://``, ``srt://``.
        span: The part that is wanted.
        timeout_s: Give up when the other side says nothing for so long.
        max_pixels: Limit for a picture.

    Raises:
        SourceError: If the address does not answer, refuses, or is neither picture nor video.
    """

    def __init__(self, url: str, *, span: Span, timeout_s: float = 10.0, max_pixels: int = MAX_PIXELS) -> None:
        parts = urlsplit(url)
        # Passwords stay out of names, messages and files.
        self._shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        super().__init__(_file_name(self._shown), "stream")
        self._url, self._span = url, span
        self._picture: Frame | None = None
        self._capture: cv2.VideoCapture | None = None
        if parts.scheme in ("http", "https"):
            self._picture = self._ask(timeout_s, max_pixels)
        elif parts.scheme in _DEFAULT_PORTS:
            self._knock(parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme], timeout_s)
        if self._picture is not None:
            self.kind, self.size, self.frame_count = "image", self._picture.size, 1
            return
        patience_ms = int(timeout_s * 1000)
        capture = open_capture(
            url,
            cv2.CAP_FFMPEG,
            [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, patience_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, patience_ms],
        )
        if capture is None:
            raise SourceError(
                f"{self._shown} answers, but no video can be read from it"
                if parts.scheme in _DEFAULT_PORTS or parts.scheme in ("http", "https")
                else f"{self._shown} cannot be opened",
                expected="a picture, a video or a live stream",
                hint="check the address, user and password",
            )
        self._capture = capture
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._rate = rate if 1 <= rate <= 1000 else 25.0
        self.fps = self._rate / span.every
        if count > 0:
            self.kind, self.frame_count = "video", span.frames_of(int(count), self._rate)

    def _ask(self, timeout_s: float, max_pixels: int) -> Frame | None:
        import requests  # a tenth of a second that files on disk need not wait for

        try:
            with requests.get(self._url, stream=True, timeout=timeout_s) as response:
                if response.status_code >= 400:
                    raise SourceError(
                        f"{self._shown} answers {response.status_code} {response.reason}", hint="check the address"
                    )
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if kind in ("text/html", "application/json"):
                    raise SourceError(f"{self._shown} is a {kind} page", expected="a picture, a video or a live stream")
                suffix = "." + urlsplit(self._url).path.rpartition(".")[2].lower()
                if not kind.startswith("image/") and (suffix not in PICTURE_SUFFIXES or kind.startswith("multipart/")):
                    return None
                if kind == "image/gif":
                    return None  # perhaps animated: FFmpeg reads both
                data = bytearray()
                for piece in response.iter_content(1 << 16):
                    data += piece
                    if len(data) > _MAX_PICTURE_BYTES:
                        raise SourceError(
                            f"{self._shown} sends more than {_MAX_PICTURE_BYTES / 1e6:.0f} MB", expected="a picture"
                        )
                image = decode_image(bytes(data), self._shown, max_pixels=max_pixels)
                return Frame(image, 0, 0.0, self.name)
        except requests.Timeout as error:
            raise SourceError(
                f"{self._shown} does not answer within {timeout_s:g} s", hint="check address and network"
            ) from error
        except requests.ConnectionError as error:
            raise SourceError(
                f"{self._shown} cannot be reached: {_reason(error)}", hint="check address and network"
            ) from error
        except requests.RequestException as error:
            raise SourceError(f"{self._shown} cannot be read: {_reason(error)}") from error

    def _knock(self, host: str, port: int, timeout_s: float) -> None:
        try:
            socket.create_connection((host, port), timeout_s).close()
        except OSError as error:
            reason = "it does not answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
            raise SourceError(
                f"{self._shown} cannot be reached: {reason} ({host}:{port})", hint="check address and network"
            ) from error

    def __iter__(self) -> Iterator[Frame]:
        if self._picture is not None:
            yield self._picture
            return
        assert self._capture is not None
        frames = 0
        for index, timestamp_s, image in timed_frames(self._capture, self._span, rate_hz=self._rate):
            frames += 1
            if image is not None:
                yield Frame(image, index, timestamp_s, self.name)
        if frames == 0:
            raise SourceError(f"{self._shown} delivers no frame", expected="a picture, a video or a live stream")

    def close(self) -> None:
        """Close the connection."""
        if self._capture is not None:
            self._capture.release()


def _file_name(url: str) -> str:
    parts = urlsplit(url)
    return parts.path.rstrip("/").rpartition("/")[2] or (parts.hostname or "stream")


def _reason(error: BaseException) -> str:
    """The innermost reason that the network stack gives, without the layers around it."""
    text = str(error)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            text = seen.strerror
        inner = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None
        seen = getattr(seen, "reason", None) or inner or seen.__cause__ or seen.__context__
        if not isinstance(seen, BaseException):
            break
    return "connection refused" if "refused" in text.lower() else text.rpartition(": ")[2]
