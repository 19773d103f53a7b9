"""What `featherpose serve` can be told, and the bounds that keep it from growing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import OptionError
from featherpose.runtime.backend import EngineOptions

__all__ = ["ServeLimits", "ServeOptions", "is_loopback"]

_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[!-~]{16,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLimits:
    """Bounds of one server; beyond them a client is told to come back later, and nothing grows.

    Attributes:
        queue: Pictures of `POST` requests that wait or are worked on. More bear longer bursts and wait longer.
        batch: Pictures in one request of ``/v1/poses:batch``.
        body_bytes: Size of one request body.
        frame_bytes: Size of one message of a live session.
        upload_bytes: Size of all bodies that are held at one moment.
        pixels: Size of one picture, read from its header before it is decoded.
        sessions: WebSocket sessions that send frames.
        viewers: Clients that watch configured sources.
        connections: Open connections.
        body_timeout_s: Time for a request's head, and again for its body, to arrive.
        queue_timeout_s: A picture that waited longer than this is refused instead of computed.
        idle_timeout_s: A session without a frame for so long, or a client that takes nothing for so long, is ended.
        shutdown_timeout_s: Time that accepted work has to finish in when the server is asked to end.

    Raises:
        OptionError: If a bound is not positive.
    """

    queue: int = 32
    batch: int = 16
    body_bytes: int = 20_000_000
    frame_bytes: int = 8_000_000
    upload_bytes: int = 256_000_000
    pixels: int = 25_000_000
    sessions: int = 16
    viewers: int = 32
    connections: int = 512
    body_timeout_s: float = 20.0
    queue_timeout_s: float = 30.0
    idle_timeout_s: float = 60.0
    shutdown_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise OptionError(f"the limit {name} is {value}", expected="a positive number")
        if self.upload_bytes < self.body_bytes:
            raise OptionError(
                f"all uploads together may have {self.upload_bytes} bytes and one of them {self.body_bytes}",
                expected="upload_bytes of at least body_bytes",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """One server.

    Attributes:
        model: As `featherpose.estimator.PoseEstimator` takes it.
        height: Network input height in pixels.
        engine: How the network runs.
        decode: Decoding rules; those that suit the model unless given.
        host: Address to listen on. Any but a loopback address demands a token.
        port: Port to listen on; 0 takes a free one.
        token: Bearer token that clients must send, 16 printable characters or more.
        certificate: TLS certificate chain (PEM); with it the server speaks HTTPS only.
        key: Private key of the certificate, if it is not in the same file.
        allowed_hosts: Further names under which the server is reached (``Host`` header), without a port.
        allowed_origins: Origins of other sites' pages that may use the server from a browser, such as
            ``https://example.org``; its own page always may.
        sources: Name to address of each source that can be watched.
        loop_videos: Whether a source that is a video file begins again at its end.
        limits: The bounds.

    Raises:
        OptionError: If a value cannot be used, or the server would be open to everybody on the network.

    Example:
        >>> ServeOptions(host="0.0.0.0")
        Traceback (most recent call last):
        featherpose.errors.OptionError: host 0.0.0.0 can be reached from other machines and there is no token; ...
    """

    model: str | Path | None = None
    height: int = 256
    engine: EngineOptions = field(default_factory=EngineOptions)
    decode: DecodeOptions | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    loop_videos: bool = True
    limits: ServeLimits = field(default_factory=ServeLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise OptionError(f"port {self.port}", expected="0 to 65535")
        if self.token is None and not is_loopback(self.host):
            raise OptionError(
                f"host {self.host} can be reached from other machines and there is no token",
                expected="a token that clients must send, or a loopback address",
                hint="set one, for instance by `export FEATHERPOSE_TOKEN=$(openssl rand -hex 16)` before "
                "`featherpose serve`, or leave --host out to serve this machine only",
            )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise OptionError(
                "the token is too short or has characters that a header cannot carry",
                expected="16 to 512 printable ASCII characters without spaces",
                hint="make one: openssl rand -hex 16",
            )
        if self.key is not None and self.certificate is None:
            raise OptionError("a key without a certificate", hint="give --certificate as well")
        for file in (self.certificate, self.key):
            if file is not None and not Path(file).is_file():
                raise OptionError(f"there is no file {file}", expected="a PEM file")
        for name in self.sources:
            if not _SOURCE_NAME.fullmatch(name):
                raise OptionError(
                    f"the source name {name!r}", expected="letters, digits, '.', '_' and '-', 64 at most, as in a URL"
                )
        for origin in self.allowed_origins:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise OptionError(f"the origin {origin!r}", expected="scheme and host such as https://example.org")

    @property
    def secure(self) -> bool:
        """Whether the server speaks HTTPS."""
        return self.certificate is not None


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can only be reached from this machine.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.1.7", "")]
        [True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
