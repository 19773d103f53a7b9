"""Connections that do not wait for ever: a bound on their number, and a time for a request to arrive in."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from featherpose.web.options import ServeLimits

__all__ = ["connection_class"]

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FAREWELL_S = 1.0
_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, which by itself waits for ever for a head, or for a body that was refused."""

    limits: ServeLimits
    refusing: set[asyncio.Transport]
    _timer: asyncio.TimerHandle | None = None
    _upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.limits.connections:
            self._refuse(transport)
            return
        super().connection_made(transport)
        self._watch(waiting=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch(waiting=False)
        if self.transport in self.refusing:
            self.refusing.discard(self.transport)
            return
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport in self.refusing or self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_rest()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._upgraded = True  # the WebSocket's own protocol has the connection from here on, and bounds of its own
        self._watch(waiting=False)
        super().handle_websocket_upgrade(event)

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Answer a connection too many, and give the client a moment to read that before it is closed."""
        self.transport = transport
        if len(self.refusing) >= self.limits.connections:
            transport.abort()
            return
        self.refusing.add(transport)
        transport.write(_FULL)
        self.loop.call_later(_FAREWELL_S, transport.close)

    def _watch_rest(self) -> None:
        """The rest of a head, or of a body that was answered before it had come."""
        if self._upgraded:
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        self._watch(waiting=not busy and begun and not self.transport.is_closing())

    def _watch(self, *, waiting: bool) -> None:
        if waiting and self._timer is None:
            self._timer = self.loop.call_later(self.limits.body_timeout_s, self._give_up)
        elif not waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self.conn.our_state is h11.IDLE:
            self.transport.write(_LATE)
        self.transport.close()


def connection_class(limits: ServeLimits) -> type[asyncio.Protocol]:
    """The class of connections of one server."""
    return type("Connection", (_Connection,), {"limits": limits, "refusing": set()})
