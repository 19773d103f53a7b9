"""uvicorn's HTTP/1.1 connection with deadlines, and with an answer for connections beyond the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from featherpose.server.connections.connections import Connections, Link, Phase
from featherpose.server.connections.websocket_connection import WebSocketConnection
from featherpose.server.http.limits import ByteBudget

__all__ = ["HttpConnection"]

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpConnection(H11Protocol):
    """HTTP/1.1 connection that reports its phases to its `Link`.

    uvicorn alone waits without a deadline for a head, for a refused body and for a client to read. It also closes
    connections while clients still send; these then read a reset instead of the answer.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: What the application's lifespan left.
        link: The connection in the table of all connections.
        connections: That table.
        budget: The bytes that all clients hold together.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        link: Link,
        connections: Connections,
        budget: ByteBudget,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self._link = link
        self._table = connections
        self._upgraded = False
        self._discarding = False
        link.give_up, link.turn_away = self._give_up, self._turn_away
        self.ws_protocol_class = partial(  # type: ignore[assignment]  # uvicorn only calls it
            WebSocketConnection, link=link, connections=connections, budget=budget
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or refuse the connection if it is beyond the limit."""
        super().connection_made(_Lingering(transport, self._linger))  # type: ignore[arg-type]  # has what uvicorn uses
        self._link.transport = transport
        if self._link.turned_away or self._link.phase is Phase.LINGERING:
            self._turn_away()
            self._table.linger(self._link)
        else:
            self._link.enter(Phase.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._table.remove(self._link)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the client has been told to send no more."""
        if self._discarding or self.transport.is_closing():
            return
        super().data_received(data)
        self._note_phase()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        self._note_phase()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection to the WebSocket's protocol, which has deadlines of its own."""
        self._upgraded = True
        assert self._link.transport is not None
        self.transport = self._link.transport
        super().handle_websocket_upgrade(event)

    def _note_phase(self) -> None:
        if self._upgraded or self._discarding:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._link.enter(Phase.BUSY)
        elif self.cycle is None or self.conn.our_state is h11.IDLE:
            begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
            self._link.enter(Phase.HEAD if begun or self.cycle is None else Phase.IDLE)
        else:
            self._link.enter(Phase.REST)

    def _turn_away(self) -> None:
        self._farewell(_FULL)

    def _give_up(self) -> None:
        """Answer that the rest of a head, or of a body that has been answered, did not arrive in time."""
        self._farewell(_LATE if self.conn.our_state is h11.IDLE else b"")

    def _farewell(self, answer: bytes) -> None:
        """Send a final answer, and discard what still arrives."""
        self._unset_keepalive_if_required()
        if not self.transport.is_closing():
            self.transport.write(answer)
        self._discard()

    def _linger(self) -> bool:
        """Return whether a connection that is to be closed stays open briefly, because its client still sends."""
        if self._discarding or self.conn.their_state is not h11.SEND_BODY or self.transport.is_closing():
            return False
        self._discard()
        self._table.linger(self._link)
        return True

    def _discard(self) -> None:
        """Send no more and discard what comes: closing while the client sends would lose the answer."""
        self._discarding = True
        if self.transport.is_closing():
            return
        with suppress(OSError):  # the client has gone
            if self.transport.can_write_eof():
                self.transport.write_eof()
        self.flow.resume_reading()


class _Lingering:
    """Transport that asks before it closes."""

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], bool]) -> None:
        self._transport = transport
        self._linger = linger

    def close(self) -> None:
        """Close, now or soon."""
        if not self._linger():
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
