"""uvicorn's WebSocket connection, with bounds on memory and work per client."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

from featherpose.server.connections.connections import Connections, Link, Phase
from featherpose.server.http.limits import ByteBudget

__all__ = ["WebSocketConnection"]

# Bytes that are parsed at once, at least and at most. A kilobyte of tiny messages takes a millisecond, in which no
# other client is served; within a large message it takes microseconds, and the slices grow.
_SMALL_SLICE = 1024
_LARGE_SLICE = 65536
_MAX_CONTROL_FRAMES = 64
_CONTROL_PERIOD_S = 10.0
_MAX_FRAGMENTS = 4096
# Messages that may be in flight when the server closes; they are ignored, but parsing them takes time.
_MAX_AFTER_CLOSE = 64
# A session of ordinary frames continues when other clients have used up the memory for bodies and frames.
_ALWAYS_BYTES = 1_000_000


class WebSocketConnection(WebSocketsSansIOProtocol):
    """WebSocket connection with bounds.

    uvicorn alone answers every ping, whether or not the client reads the answers, parses everything that a client sends
    in one piece, and has no bound on the messages of all clients together.

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
        self._lease = budget.lease()
        self._unparsed = bytearray()
        self._queued: deque[int] = deque()  # sizes of the messages in the queue
        self._control_frames = 0
        self._control_since = 0.0
        self._slice = _SMALL_SLICE
        self._saw_frame = False
        self._after_close = 0
        self._ended = False
        self._closed_by_application = False
        self.close_timeout = min(self.close_timeout, connections.limits.write_timeout_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the handshake, which has already been read."""
        super().connection_made(transport)
        self._link.enter(Phase.SOCKET)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._table.remove(self._link)
        self._unparsed.clear()
        super().connection_lost(exc)
        self._lease.release()

    def data_received(self, data: bytes) -> None:
        """Take bytes and parse them in slices, no further than the application reads messages."""
        self._unparsed += data
        self._parse()

    def pause_writing(self) -> None:
        """Pause reading from a client that does not read its answers."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading."""
        super().resume_writing()
        self._read_on()

    async def receive(self) -> Any:
        """Return the next message, and parse on when there is none left."""
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._queued.popleft()
            self._read_on()
        return message

    async def send(self, message: Any) -> None:
        """Send a message once the client has read the previous ones.

        Raises:
            ClientDisconnected: If the connection has ended, or its end has begun without the application.
        """
        if self.close_sent and not self._closed_by_application:
            raise ClientDisconnected
        await super().send(message)
        self._closed_by_application |= self.close_sent
        if message["type"] == "websocket.close":
            self._read_on()  # the client's own close frame may be among what was not parsed

    def send_receive_event_to_app(self) -> None:
        """Queue a message that is complete."""
        self._saw_frame = True
        if self.close_sent:
            self._after_close += 1
            if self._after_close > _MAX_AFTER_CLOSE:
                self._end(1008, "messages after the end")
        size, waiting = sum(map(len, self.frames)), self.queue.qsize()
        super().send_receive_event_to_app()
        if self.read_paused and self.queue.qsize() > waiting:
            self._queued.append(size)

    def handle_ping(self) -> None:
        """Answer pings, up to a bound."""
        if self._count_control_frame():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Take pongs, up to a bound."""
        if self._count_control_frame():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        """Take a further part of a message."""
        self._saw_frame = True
        if len(self.frames) >= _MAX_FRAGMENTS:
            self._end(1008, "a message of too many fragments")
        if not self._ended:
            super().handle_cont(event)

    def _count_control_frame(self) -> bool:
        self._saw_frame = True
        now = self.loop.time()
        if now - self._control_since > _CONTROL_PERIOD_S:
            self._control_since, self._control_frames = now, 0
        self._control_frames += 1
        if self._control_frames > _MAX_CONTROL_FRAMES:
            self._end(1008, "too many pings")
        return not self._ended

    def _read_on(self) -> None:
        """Parse what waits, then resume reading, unless the application or the client is behind."""
        self._parse()
        if self.read_paused or not self.writable.is_set():
            self.transport.pause_reading()
        elif not self.transport.is_closing():
            self.transport.resume_reading()

    def _parse(self) -> None:
        while self._unparsed and self.writable.is_set() and not (self.read_paused or self._ended):
            if self.transport.is_closing():
                break
            piece = bytes(self._unparsed[: self._slice])
            del self._unparsed[: self._slice]
            self._saw_frame = False
            super().data_received(piece)
            self._slice = _SMALL_SLICE if self._saw_frame else min(2 * self._slice, _LARGE_SLICE)
        if self._ended or self.transport.is_closing():
            self._unparsed.clear()
        held = len(self._unparsed) + sum(self._queued) + len(self.conn.reader.buffer) + sum(map(len, self.frames))
        if not self._lease.set(held) and held > _ALWAYS_BYTES and not self._ended:
            self._end(1013, "the server holds as many bytes as it can")
            self._table.ended("memory", "bodies and frames fill the memory for them: new ones are refused")

    def _end(self, code: int, reason: str) -> None:
        """Close for a protocol error; later bytes of the client are ignored."""
        if self._ended:
            return
        self._ended = True
        self.frames = []
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self.conn.fail(code, reason)
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()
