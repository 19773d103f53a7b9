"""``featherpose serve``: poses over HTTP and WebSocket, live sources, and a page."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

# FFmpeg and OpenCV read these when they load: without them their messages on damaged files would appear beside our
# one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.cli.compilation import note_compilation
from featherpose.cli.options import ModelOptions
from featherpose.cli.options.effect_options import EffectArguments
from featherpose.cli.options.exercise_option import ExerciseOption, check_exercise
from featherpose.errors import MissingExtraError, OptionError
from featherpose.server.options import ServeLimits, ServeOptions
from featherpose.zoo.resolve import resolve_model

__all__ = ["AddressOptions", "LimitOptions", "parse_sources", "require_server", "serve"]

_LIMITS = ServeLimits()


@Parameter(name="*", group="Address")
@dataclass(frozen=True, slots=True, kw_only=True)
class AddressOptions:
    """Address, access and TLS of the server."""

    host: Annotated[
        str, Parameter(help="Address to listen on. Any but this machine's own loopback demands a token.")
    ] = "127.0.0.1"
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8000
    token: Annotated[
        str | None,
        Parameter(
            env_var="FEATHERPOSE_TOKEN",
            help="Bearer token that clients must send. Better given by FEATHERPOSE_TOKEN: other users of the machine "
            "can read a command line.",
        ),
    ] = None
    certificate: Annotated[Path | None, Parameter(help="TLS certificate chain (PEM): the server speaks HTTPS.")] = None
    key: Annotated[Path | None, Parameter(help="Private key of the certificate (PEM).")] = None
    allow_host: Annotated[
        list[str] | None, Parameter(negative="", help="A further name under which the server is reached.")
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        Parameter(negative="", help="Another site whose pages may use the server: https://example.org."),
    ] = None


@Parameter(name="*", group="Limits")
@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """Resource limits; clients beyond them receive an error."""

    queue: Annotated[int, Parameter(help="Images that may wait or be worked on.")] = _LIMITS.queue
    sessions: Annotated[int, Parameter(help="Live sessions.")] = _LIMITS.sessions
    viewers: Annotated[int, Parameter(help="Clients that watch configured sources.")] = _LIMITS.viewers
    connections: Annotated[int, Parameter(help="Open connections; each is an open file.")] = _LIMITS.connections
    max_megabytes: Annotated[float, Parameter(help="Largest body of a request.")] = _LIMITS.body_bytes / 1e6
    max_megapixels: Annotated[float, Parameter(help="Largest image.")] = _LIMITS.pixels / 1e6

    @property
    def limits(self) -> ServeLimits:
        """Return the limits as the server takes them."""
        body_bytes = int(self.max_megabytes * 1e6)
        return ServeLimits(
            queue=self.queue,
            sessions=self.sessions,
            viewers=self.viewers,
            connections=self.connections,
            body_bytes=body_bytes,
            held_bytes=max(_LIMITS.held_bytes, body_bytes),
            pixels=int(self.max_megapixels * 1e6),
        )


def serve(
    *,
    address: AddressOptions = AddressOptions(),
    source: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="A source that can be watched, NAME=ADDRESS: a camera number, an address or a video. Repeat it for "
            "several.",
        ),
    ] = None,
    motion: ExerciseOption = None,
    effects: EffectArguments = EffectArguments(),  # noqa: B008 - frozen
    throughput: Annotated[
        bool,
        Parameter(
            negative="",
            help="Run one image on each core instead of one on all of them: more images a second, each of them "
            "later. For servers that get images rather than live video.",
        ),
    ] = False,
    model: ModelOptions = ModelOptions(),  # noqa: B008
    limits: LimitOptions = LimitOptions(),
) -> int:
    """Serve poses over HTTP and WebSocket, with a page that shows them.

    Ctrl-C or SIGTERM ends it after everything that was accepted has been answered.
    """
    options = ServeOptions(
        model=model.model,
        quality=model.quality,
        refine=model.refine,
        engine=model.throughput_engine if throughput else model.engine,
        host=address.host,
        port=address.port,
        token=address.token,
        certificate=address.certificate,
        key=address.key,
        allowed_hosts=tuple(address.allow_host or ()),
        allowed_origins=tuple(address.allow_origin or ()),
        sources=parse_sources(source or []),
        motion=check_exercise(motion),
        limits=limits.limits,
        effects=effects.options(),
    )
    require_server()
    from featherpose.server.app import create_app
    from featherpose.server.http.native_messages import own_stderr
    from featherpose.server.run import listen, server_url
    from featherpose.server.run import serve as run_server

    listener = listen(options)
    with listener:
        url = server_url(options, listener)
        note_compilation(resolve_model(options.model).spec.method)
        app = create_app(options)

        def say() -> None:
            print(f"featherpose: serving {app.state.service.model_name} at {url} (Ctrl-C ends it)", file=sys.stderr)
            if options.token is not None:
                print(f"featherpose: the page takes the token behind the address: {url}#token=TOKEN", file=sys.stderr)
                if not options.secure:
                    print(
                        "featherpose: without --certificate the token travels in the clear, and browsers of other "
                        "machines give the page no camera",
                        file=sys.stderr,
                    )

        with own_stderr():
            run_server(app, listener, on_ready=say)
    return 0


def parse_sources(given: list[str]) -> dict[str, str]:
    """Return the sources by name.

    Raises:
        OptionError: If a name is missing or occurs twice.

    Example:
        >>> parse_sources(["door=rtsp://camera/door", "desk=0"])
        {'door': 'rtsp://camera/door', 'desk': '0'}
    """
    sources: dict[str, str] = {}
    for text in given:
        name, separator, address = text.partition("=")
        if not separator or not name or not address:
            raise OptionError(f"--source {text}", expected="NAME=ADDRESS, such as door=rtsp://camera/door")
        if name in sources:
            raise OptionError(f"--source names {name!r} twice")
        sources[name] = address
    return sources


def require_server() -> None:
    """Raise an error that names the extra if the server's packages are missing.

    Raises:
        MissingExtraError: If one is.
    """
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("fastapi", "uvicorn", "websockets", "prometheus_client")):
        raise MissingExtraError("the server", "serve")
