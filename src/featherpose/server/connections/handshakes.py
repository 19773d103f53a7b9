"""The order of TLS handshakes: one at a time, those of addresses with few unfinished ones first.

A handshake costs the server a signature, a millisecond or two, before it knows anything of the client. Hundreds that
arrive together would otherwise hold up everybody for the sum: requests on open connections, because the event loop
takes all of them in one turn, and new clients, because they come behind all of them.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Handshakes", "network_of"]

# asyncio zeroes this much for each TLS connection, 256 KB otherwise, which costs as much time as the signature.
_BUFFER_BYTES = 65536


class Handshakes:
    """Gives each handshake its turn.

    Example:
        >>> async def open_two() -> list[str]:
        ...     handshakes, order = Handshakes(), []
        ...
        ...     async def open_one(name: str, address: str) -> None:
        ...         async with handshakes.turn(address):
        ...             order.append(name)
        ...             await asyncio.sleep(0.01)
        ...
        ...     crowd = [open_one(f"crowd {i}", "10.0.0.1") for i in range(3)]
        ...     await asyncio.gather(*crowd, open_one("other", "10.0.0.2"))
        ...     return order
        >>> asyncio.run(open_two())
        ['other', 'crowd 0', 'crowd 1', 'crowd 2']
    """

    def __init__(self) -> None:
        asyncio.sslproto.SSLProtocol.max_size = min(asyncio.sslproto.SSLProtocol.max_size, _BUFFER_BYTES)
        self._unfinished: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._ushering: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def turn(self, network: str) -> AsyncIterator[None]:
        """Wait for the turn of a handshake that a client has begun; the block is the handshake.

        Args:
            network: Where the client is, as `network_of` tells.
        """
        turn = asyncio.get_running_loop().create_future()
        self._unfinished[network] += 1
        self._waiting.setdefault(network, deque()).append(turn)
        if self._ushering is None:
            self._ushering = asyncio.create_task(self._usher())
        try:
            await turn
            yield
        finally:
            turn.cancel()
            self._unfinished[network] -= 1
            if not self._unfinished[network]:
                del self._unfinished[network]

    async def _usher(self) -> None:
        try:
            while self._waiting:
                network = min(self._waiting, key=lambda name: self._unfinished[name])
                turn = self._waiting[network].popleft()
                if not self._waiting[network]:
                    del self._waiting[network]
                if turn.done():  # its client has left or has waited for too long
                    continue
                turn.set_result(None)
                await asyncio.sleep(0)  # one a turn of the event loop
        finally:
            self._ushering = None


def network_of(host: str) -> str:
    """Return what a client's address counts as: an address of version 4, or the first half of one of version 6.

    Whoever has one address of version 6 has 2^64 of them.

    Example:
        >>> network_of("192.0.2.7"), network_of("::ffff:192.0.2.7"), network_of("2001:db8::1:0:0:7")
        ('192.0.2.7', '192.0.2.7', '2001:db8::')
    """
    with suppress(OSError):
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        if packed[:12] == bytes(10) + b"\xff\xff":
            return socket.inet_ntop(socket.AF_INET, packed[12:])
        return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))
    return host
