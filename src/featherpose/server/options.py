"""Options and resource limits of `featherpose serve`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherpose.augment.effects import EffectOptions
from featherpose.errors import OptionError
from featherpose.quality import Quality, QualityName
from featherpose.runtime.backend import EngineOptions
from featherpose.topdown.topdown_options import RefineMode, RefineOptions

__all__ = ["ServeLimits", "ServeOptions", "is_loopback"]

_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[!-~]{16,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLimits:
    """Resource limits of one server; a request beyond them is answered with an error, and nothing grows.

    Attributes:
        queue: Images of `POST` requests that wait or run. A higher limit takes longer bursts, with longer waits.
        batch: Images in one request of ``/v1/poses:batch``.
        body_bytes: Size of one request body.
        frame_bytes: Size of one message of a live session.
        held_bytes: Size of all bodies, frames of sessions and answers that are held at one moment.
        pixels: Size of one image, read from its header before it is decoded.
        sessions: WebSocket sessions that send frames.
        viewers: Clients that watch configured sources.
        connections: Open connections, counted from the moment at which they are accepted.
        handshake_timeout_s: Time for a TLS handshake.
        body_timeout_s: Time for a request's head, and again for its body, to arrive.
        write_timeout_s: A client that reads less than 64 KB of an unfinished answer in this time is disconnected.
        keep_alive_s: Time that an idle connection waits for its next request.
        queue_timeout_s: An image that waited longer than this is rejected instead of computed.
        idle_timeout_s: A session without a frame for this long is ended.
        shutdown_timeout_s: Longest time from the signal to the end of the server.

    Raises:
        OptionError: If a bound is not positive.
    """

    queue: int = 32
    batch: int = 16
    body_bytes: int = 20_000_000
    frame_bytes: int = 8_000_000
    held_bytes: int = 256_000_000
    pixels: int = 25_000_000
    sessions: int = 16
    viewers: int = 32
    connections: int = 512
    handshake_timeout_s: float = 5.0
    body_timeout_s: float = 20.0
    write_timeout_s: float = 20.0
    keep_alive_s: float = 30.0
    queue_timeout_s: float = 30.0
    idle_timeout_s: float = 60.0
    shutdown_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise OptionError(f"the limit {name} is {value}", expected="a positive number")
        if self.held_bytes < self.body_bytes:
            raise OptionError(
                f"all bodies together may have {self.held_bytes} bytes and one of them {self.body_bytes}",
                expected="held_bytes of at least body_bytes",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of one server.

    Attributes:
        model: As `featherpose.estimator.PoseEstimator` takes it.
        quality: Level of quality, or its parts.
        height: Network input height in pixels; that of the level unless given.
        refine: Who is looked at again by a single-person network; as the level says unless given.
        engine: How the network runs.
        decoding: Decoding options of the model's method; those that suit the model unless given.
        host: Address to listen on. Any address but loopback requires a token.
        port: Port to listen on; 0 takes a free one.
        token: Bearer token that clients must send, 16 printable characters or more.
        certificate: TLS certificate chain (PEM); with it the server speaks HTTPS only.
        key: Private key of the certificate, if it is not in the same file.
        allowed_hosts: Further names under which the server is reached (``Host`` header), without a port.
        allowed_origins: Origins of other sites' pages that may use the server from a browser, such as
            ``https://example.org``; its own page always may.
        sources: Name to address of each source that can be watched.
        loop_videos: Whether a source that is a video file begins again at its end.
        effects: What is done to the images that the server sends out: those of sources, and annotated ones; None for
            nothing.
        motion: Exercise whose repetitions are counted in every source, as `featherpose.motion.live` names it.
        limits: The bounds.

    Raises:
        OptionError: If a value cannot be used, or the server would be open to the network without a token.

    Example:
        >>> ServeOptions(host="0.0.0.0")
        Traceback (most recent call last):
        featherpose.errors.OptionError: host 0.0.0.0 can be reached from other machines and there is no token; ...
    """

    model: str | Path | None = None
    quality: QualityName | Quality = "balanced"
    height: int | None = None
    refine: RefineMode | RefineOptions | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    decoding: Any | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    loop_videos: bool = True
    motion: str | None = None
    effects: EffectOptions | None = None
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
        """Return whether the server speaks HTTPS."""
        return self.certificate is not None


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is reachable from this machine only.

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
