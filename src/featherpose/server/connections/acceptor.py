"""Accepts connections, with a deadline for the TLS handshake.

asyncio's own server would do all of this but three things: it has no say in what happens before the handshake is
complete, uvicorn gives it no deadline for that (asyncio's default is a minute), and when a process is out of
descriptors, Python 3.11 tries to accept as often as the backlog is long and logs a traceback each time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from featherpose.server.connections.connections import Connections, Link
from featherpose.server.connections.handshakes import Handshakes, network_of

__all__ = ["Acceptor"]

_log = logging.getLogger(__name__)
# Other tasks run after this many accepted connections.
_BATCH = 16
_PAUSE_S = 0.1


class Acceptor:
    """Accept the connections of one listening socket; has the methods that uvicorn calls on an `asyncio.Server`.

    Args:
        listener: The socket.
        make_protocol: Called with each `Link` when its connection can be used.
        connections: The table that each connection is in from the moment at which it is accepted.
        tls: With it the server speaks TLS.
        handshake_timeout_s: Time for the TLS handshake.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[Link], asyncio.Protocol],
        connections: Connections,
        *,
        tls: ssl.SSLContext | None,
        handshake_timeout_s: float,
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._connections = connections
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._handshakes = Handshakes()
        self._opening: dict[asyncio.Task[None], None] = {}
        self._untouched: set[Link] = set()
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no more than the connections that the kernel has already made: their clients expect an answer."""
        self._accepting.cancel()
        with suppress(OSError):  # BlockingIOError: there are no more
            while True:
                connection, peer = self._listener.accept()
                connection.setblocking(False)
                self._begin(connection, peer)
        self._listener.close()

    def abandon(self) -> None:
        """Close the connections that are being opened."""
        for task in [*self._opening]:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the connections that were being opened are open or closed."""
        await asyncio.gather(self._accepting, *self._opening, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        accepted = 0
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listener)
                self._begin(connection, peer)
            except (ConnectionAbortedError, InterruptedError):
                continue
            except (OSError, MemoryError) as error:  # out of descriptors or memory
                _log.error("no more connections can be accepted: %s", error)
                self._connections.make_room()
                await asyncio.sleep(_PAUSE_S)
                continue
            accepted += 1
            if accepted % _BATCH == 0:
                await asyncio.sleep(0)

    def _begin(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        link = self._connections.admit(network_of(peer[0]))
        task = asyncio.get_running_loop().create_task(self._open(connection, link))
        self._opening[task] = None
        self._untouched.add(link)

        def done(_: object) -> None:
            self._opening.pop(task)
            if link in self._untouched:  # cancelled before asyncio had the socket, which closes it from then on
                self._untouched.discard(link)
                connection.close()
                self._connections.remove(link)

        task.add_done_callback(done)
        if self._tls is not None:  # without TLS it has a transport in a moment and receives the refusal
            link.cancel = task.cancel

    async def _open(self, connection: socket.socket, link: Link) -> None:
        """Make a transport of a connection, with TLS after the handshake."""
        loop = asyncio.get_running_loop()
        opened = False
        try:
            if self._tls is None:
                self._untouched.discard(link)
                # The protocol owns the connection from its first byte on and removes it from the table.
                await loop.connect_accepted_socket(lambda: _Plain(link, self._make_protocol), connection)
                opened = True
                return
            async with asyncio.timeout(self._handshake_timeout_s) as deadline:
                await self._first_byte(connection)
                async with self._handshakes.turn(link.network):
                    deadline.reschedule(None)  # from here on the handshake's own deadline holds
                    self._untouched.discard(link)
                    raw, waiting = await loop.connect_accepted_socket(_Waiting, connection)
                    link.raw = raw
                    # A client that leaves or speaks another protocol is not worth a log line.
                    transport = await loop.start_tls(
                        raw, waiting, self._tls, server_side=True, ssl_handshake_timeout=self._handshake_timeout_s
                    )
            opened = transport is not None and waiting.hand_over(transport, self._make_protocol(link))
        except (OSError, TimeoutError):
            pass
        finally:
            if not opened and link not in self._untouched:
                if link.raw is not None:
                    link.abort()
                self._connections.remove(link)

    async def _first_byte(self, connection: socket.socket) -> None:
        """Wait until a client has begun its handshake: nothing of TLS is set up for a client that never does."""
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()
        try:
            loop.add_reader(connection, begun.set)
        except NotImplementedError:  # the event loop of Windows
            return
        try:
            await begun.wait()
        finally:
            loop.remove_reader(connection)


class _Plain(asyncio.Protocol):
    """Note the transport, and make way for the real protocol."""

    def __init__(self, link: Link, make_protocol: Callable[[Link], asyncio.Protocol]) -> None:
        self._link = link
        self._make_protocol = make_protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._link.raw = transport
        protocol = self._make_protocol(self._link)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _Waiting(asyncio.Protocol):
    """Hold what a client sends right behind its handshake, before `start_tls` returns."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._lost = False
        self._next: asyncio.Protocol | None = None

    def data_received(self, data: bytes) -> None:
        self._data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._next is not None:
            self._next.connection_lost(exc)

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> bool:
        """Hand over to the real protocol; return False if the connection is gone."""
        if self._lost:
            return False
        self._next = protocol
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._data:
            protocol.data_received(bytes(self._data))
            self._data.clear()
        return True
