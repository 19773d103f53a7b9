"""Runs the application: listens, prints the address, and shuts down without losing work."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from featherpose.errors import OptionError
from featherpose.server.connections.acceptor import Acceptor
from featherpose.server.connections.connections import Connections, Link
from featherpose.server.connections.descriptors import provide_descriptors
from featherpose.server.connections.event_log import quiet_loggers
from featherpose.server.connections.http_connection import HttpConnection
from featherpose.server.http.limits import ByteBudget
from featherpose.server.http.memory import settle, unsettle
from featherpose.server.options import ServeOptions
from featherpose.server.routes.sources import SourceHub
from featherpose.server.service import PoseService

__all__ = ["listen", "serve", "server_url"]

_log = logging.getLogger(__name__)
# Idle connections stay open for this long during shutdown, and every answer states that its connection closes: a
# client whose request is on its way when the server is asked to end gets an answer instead of a closed connection.
_FAREWELL_S = 0.5
# Share of the shutdown time; the rest is for sources, workers and the engine.
_SHARE_FOR_CLIENTS = 0.8
_BACKLOG = 256
# Kernel send buffer of each connection: by default megabytes gather that no client reads. Enough for 40 Mbit/s to a
# client 100 ms away (Linux takes twice the number).
_SEND_BUFFER_BYTES = 262_144


def listen(options: ServeOptions) -> socket.socket:
    """Open a listening socket.

    Raises:
        OptionError: If the address is taken or not local, or the process may not open enough files.
    """
    provide_descriptors(options.limits.connections)
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OptionError(f"host {options.host!r} cannot be found: {error.strerror}") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # accepted sockets inherit it
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason, hint = error.strerror or str(error), None
        if error.errno == errno.EADDRINUSE:
            hint = "another server has the port; choose one by --port, 0 takes any that is free"
        raise OptionError(f"cannot listen on {options.host} port {options.port}: {reason}", hint=hint) from error
    listener.setblocking(False)
    return listener


def server_url(options: ServeOptions, listener: socket.socket) -> str:
    """Return the address of the page."""
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
        app: What `featherpose.server.app.create_app` made; its service is closed at the end.
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
        log_level=logging.ERROR,  # or every damaged request would fill the log
        access_log=False,
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=limits.frame_bytes,
        ws_per_message_deflate=False,  # images are compressed already, and a small message could unfold to gigabytes
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(1, round(limits.keep_alive_s)),
        h11_max_incomplete_event_size=65536,
        **secure,
    )
    try:
        config.load()
    except OSError as error:  # an SSLError is one
        service.close()
        raise OptionError(
            f"the certificate cannot be used: {error.strerror or error}", expected="PEM files that belong together"
        ) from error
    with quiet_loggers():
        try:
            _Server(config, app, on_ready, stop).run(sockets=[listener])
        finally:
            service.close()  # as the application does when it ends, unless it could not begin
            unsettle()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


class _Server(uvicorn.Server):
    """uvicorn's server with limits that begin at accept, and with an orderly shutdown."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        on_ready: Callable[[], None] | None,
        stop: threading.Event | None,
    ) -> None:
        super().__init__(config)
        self._service: PoseService = app.state.service
        self._hub: SourceHub = app.state.hub
        self._budget: ByteBudget = app.state.budget
        self._connections = Connections(self._service.limits, self._service.metrics.connection_ended)
        self._service.metrics.watch_connections(lambda: len(self._connections))
        self._budget.watch_answers(self._connections.unsent_bytes, self._connections.relieve)
        self._on_ready = on_ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, with our own acceptor."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        settle()
        self._watching = asyncio.create_task(self._connections.watch())
        self._acceptors = [
            Acceptor(
                listener,
                self._make_protocol,
                self._connections,
                tls=self.config.ssl,
                handshake_timeout_s=self._service.limits.handshake_timeout_s,
            )
            for listener in sockets or []
        ]
        self.servers = self._acceptors  # type: ignore[assignment]  # uvicorn closes them and waits for their end
        self.started = True
        if self._on_ready is not None:
            self._on_ready()

    def _make_protocol(self, link: Link) -> asyncio.Protocol:
        return HttpConnection(
            self.config, self.server_state, self.lifespan.state,
            link=link, connections=self._connections, budget=self._budget,
        )  # fmt: skip

    async def on_tick(self, counter: int) -> bool:
        if self._stop is not None and self._stop.is_set():
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Reject new work, finish accepted work, close; all of it within the documented time."""
        service, began = self._service, monotonic()
        whole_s = service.limits.shutdown_timeout_s
        cut_at = began + _SHARE_FOR_CLIENTS * whole_s
        service.end_by = began + whole_s
        service.draining = True
        service.ended.set()
        self._hub.ask_to_stop()
        for acceptor in self._acceptors:
            acceptor.close()
        self._connections.drain()
        _log.info("ending: %d requests and %d sessions to finish", service.active, service.sockets)
        while not self.force_exit and monotonic() < cut_at:
            if not service.active and not service.sockets and monotonic() >= began + _FAREWELL_S:
                break
            await asyncio.sleep(0.02)
        for acceptor in self._acceptors:
            acceptor.abandon()
        # Unread answers remain. uvicorn waits for clients to read them and after its own timeout cancels what is
        # left, with a traceback for each; here the connections end first.
        left_s = max(0.0, cut_at - monotonic())
        cutting = asyncio.get_running_loop().call_later(left_s, self._connections.abort_all)
        self.config.timeout_graceful_shutdown = math.ceil(left_s) + 1
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()
            self._connections.abort_all()
            self._watching.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture signals as uvicorn does, but do not raise them again: a server that ended as asked has not failed."""
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
