"""Type of an address: one plain request, so that a refusal has a readable reason; then it is opened."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import SourceError
from featherpose.media.images import IMAGE_SUFFIXES, decode_image
from featherpose.media.sources.network.connections import CaptureConnection, MjpegConnection, without_password
from featherpose.media.sources.video import open_capture

__all__ = ["URL_SCHEMES", "Address"]

URL_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "udp", "tcp", "srt")
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935}
_MAX_IMAGE_BYTES = 200_000_000
_PAGES = ("text/html", "application/json")
# A playlist has a length of its own that says nothing about what it lists.
_PLAYLISTS = ("mpegurl", "dash+xml")

_Image = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class Address:
    """An address and its limits.

    Attributes:
        url: ``http(s)``, ``rtsp``, ``rtmp``, ``udp``, ``tcp`` or ``srt``; user and password may be in it.
        timeout_s: The longest silence.
        max_pixels: Limit for an image.
    """

    url: str
    timeout_s: float
    max_pixels: int

    @property
    def shown(self) -> str:
        """Return the address as messages show it."""
        return without_password(self.url)

    @property
    def name(self) -> str:
        """Return the last part of the path, or the host."""
        parts = urlsplit(self.url)
        return parts.path.rstrip("/").rpartition("/")[2] or (parts.hostname or "stream")

    def ask(self) -> _Image | Literal["images", "file", "unknown"]:
        """Ask what is there: one image, successive images (Motion JPEG), a finite file, or another stream.

        Raises:
            SourceError: If it does not answer or refuses.
        """
        parts = urlsplit(self.url)
        if parts.scheme in ("http", "https"):
            return self._ask_http()
        if parts.scheme in _DEFAULT_PORTS:
            self._knock(parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])
        return "unknown"

    def _ask_http(self) -> _Image | Literal["images", "file", "unknown"]:
        import requests  # a tenth of a second that files on disk need not wait for

        try:
            with requests.get(self.url, stream=True, timeout=self.timeout_s) as response:
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if kind.startswith("multipart/"):
                    return "images"
                if response.status_code == 401 and "digest" in response.headers.get("WWW-Authenticate", "").lower():
                    return "unknown"  # FFmpeg reads servers with that greeting
                if response.status_code >= 400:
                    raise SourceError(
                        f"{self.shown} answers {response.status_code} {response.reason}", hint="check the address"
                    )
                if kind in _PAGES:
                    raise SourceError(f"{self.shown} is a {kind} page", expected="an image, a video or a live stream")
                suffix = "." + urlsplit(self.url).path.rpartition(".")[2].lower()
                if kind == "image/gif" or not (kind.startswith("image/") or suffix in IMAGE_SUFFIXES):
                    # A GIF may be animated: FFmpeg reads both.
                    ends = "Content-Length" in response.headers and not any(p in kind for p in _PLAYLISTS)
                    return "file" if ends else "unknown"
                data = bytearray()
                for piece in response.iter_content(1 << 16):
                    data += piece
                    if len(data) > _MAX_IMAGE_BYTES:
                        raise SourceError(
                            f"{self.shown} sends more than {_MAX_IMAGE_BYTES / 1e6:.0f} MB", expected="an image"
                        )
                return decode_image(bytes(data), self.shown, max_pixels=self.max_pixels)
        except requests.Timeout as error:
            raise SourceError(
                f"{self.shown} does not answer within {self.timeout_s:g} s", hint="check address and network"
            ) from error
        except requests.ConnectionError as error:
            raise SourceError(
                f"{self.shown} cannot be reached: {_reason(error)}", hint="check address and network"
            ) from error
        except requests.RequestException as error:
            raise SourceError(f"{self.shown} cannot be read: {_reason(error)}") from error

    def _knock(self, host: str, port: int) -> None:
        try:
            socket.create_connection((host, port), self.timeout_s).close()
        except OSError as error:
            reason = "it does not answer" if isinstance(error, TimeoutError) else (error.strerror or str(error))
            raise SourceError(
                f"{self.shown} cannot be reached: {reason} ({host}:{port})", hint="check address and network"
            ) from error

    def mjpeg(self) -> MjpegConnection:
        """Open a stream of images."""
        return MjpegConnection(self.url, timeout_s=self.timeout_s, max_pixels=self.max_pixels)

    def capture(self, *, live: bool) -> CaptureConnection:
        """Open the address with FFmpeg.

        Args:
            live: Decode in one thread: each further one would hold an image back.

        Raises:
            SourceError: If it cannot be reached, or is no video.
        """
        parts = urlsplit(self.url)
        if parts.scheme in _DEFAULT_PORTS:
            self._knock(parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])
        patience_ms = int(self.timeout_s * 1000)
        capture = open_capture(
            self.url,
            cv2.CAP_FFMPEG,
            [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, patience_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, patience_ms]
            + ([cv2.CAP_PROP_N_THREADS, 1] if live else []),
        )
        if capture is None:
            known = parts.scheme in _DEFAULT_PORTS or parts.scheme in ("http", "https")
            raise SourceError(
                f"{self.shown} answers, but no video can be read from it" if known
                else f"{self.shown} cannot be opened",
                expected="an image, a video or a live stream",
                hint="check the address, user and password",
            )  # fmt: skip
        return CaptureConnection(capture, patience_s=0.95 * self.timeout_s)


def _reason(error: BaseException) -> str:
    """Return the innermost reason of the network stack, without the layers around it."""
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
