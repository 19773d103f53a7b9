"""Runs the application: listens, says where, and ends without losing anything."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import uvicorn
from fastapi import FastAPI

from featherpose.errors import OptionError
from featherpose.web.connections import connection_class
from featherpose.web.options import ServeOptions
from featherpose.web.service import PoseService
from featherpose.web.views import SourceHub

__all__ = ["listen", "serve", "server_url"]

_log = logging.getLogger(__name__)
# Connections that wait for a next request stay open for so long, and whoever asks is told to ask elsewhere: a client
# whose request is on its way when the server is told to end gets an answer and not a closed connection. Every answer
# from then on says that its connection closes.
_FAREWELL_S = 0.5


def listen(options: ServeOptions) -> socket.socket:
    """A listening socket.

    Raises:
        OptionError: If the address is taken or not ours.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OptionError(f"host {options.host!r} cannot be found: {error.strerror}") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        listener.close()
        reason, hint = error.strerror or str(error), None
        if error.errno == errno.EADDRINUSE:
            hint = "another server has the port; choose one by --port, 0 takes any that is free"
        raise OptionError(f"cannot listen on {options.host} port {options.port}: {reason}", hint=hint) from error
    listener.setblocking(False)
    return listener


def server_url(options: ServeOptions, listener: socket.socket) -> str:
    """The address of the page, for people."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if options.secure else 'http'}://{shown}:{port}/"


def serve(
    app: FastAPI, listener: socket.socket, *, on_ready: Callable[[], None] | None = None,
    stop: threading.Event | None = None,
) -> None:  # fmt: skip
    """Serve until SIGTERM, SIGINT or ``stop``; then finish what was accepted and return.

    Args:
        app: What `featherpose.web.app.create_app` made.
        listener: What `listen` made; closed at the end.
        on_ready: Called when requests are answered.
        stop: Set it from another thread to end.

    Raises:
        OptionError: If the certificate or key cannot be used.
    """
    service: PoseService = app.state.service
    limits = service.limits
    secure: dict[str, Any] = {}
    if service.options.certificate is not None:
        secure = {"ssl_certfile": str(service.options.certificate), "ssl_keyfile": _text(service.options.key)}
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=logging.ERROR,  # or every damaged request of a stranger would fill the log
        access_log=False,
        loop="asyncio",
        http=connection_class(limits),
        ws="websockets-sansio",
        ws_max_size=limits.frame_bytes,
        ws_per_message_deflate=False,  # pictures are compressed already, and a small message could unfold to gigabytes
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(limits.shutdown_timeout_s)),
        h11_max_incomplete_event_size=65536,
        **secure,
    )
    try:
        config.load()
    except OSError as error:  # an SSLError is one
        raise OptionError(
            f"the certificate cannot be used: {error.strerror or error}", expected="PEM files that belong together"
        ) from error
    _Server(config, service, app.state.hub, on_ready, stop).run(sockets=[listener])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


class _Server(uvicorn.Server):
    """uvicorn's server with an end that loses nothing."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: PoseService,
        hub: SourceHub,
        on_ready: Callable[[], None] | None,
        stop: threading.Event | None,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._hub = hub
        self._on_ready = on_ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if self._stop is not None and self._stop.is_set():
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new work, finish the accepted, say good-bye, close."""
        service = self._service
        service.draining = True
        service.ended.set()
        self._hub.ask_to_stop()
        for server in self.servers:
            server.close()
        _log.info("ending: %d requests and %d sessions to finish", service.active, service.sockets)
        deadline = monotonic() + service.limits.shutdown_timeout_s
        farewell = monotonic() + _FAREWELL_S
        while not self.force_exit and monotonic() < deadline:
            if not service.active and not service.sockets and monotonic() >= farewell:
                break
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a server that has ended as it was asked to has not failed: no signal is raised again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
