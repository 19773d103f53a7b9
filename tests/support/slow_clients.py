"""Clients that never read, stay silent or send slowly: what a server has to bear. Only for servers on loopback.

As a program it is a crowd of one kind: ``python slow_clients.py KIND PORT COUNT PHOTO``.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = [
    "CLIENTS",
    "KINDS",
    "Client",
    "Target",
    "annotated",
    "crowd",
    "half_tls",
    "half_tls_elsewhere",
    "idle",
    "sessions",
    "slow_bodies",
    "vanish",
    "views",
]

_PAUSE_S = 0.2
_UPLOAD_PAUSE_S = 0.02
_ARRIVAL_S = 2.0
_RECEIVE_BUFFER = 4096


@dataclass
class Target:
    """What the clients need to know of the server.

    Attributes:
        port: Where it listens on loopback.
        photo: An image that it takes, as a file.
        source: The name of a source that can be watched.
        pause_s: Between two clients of a crowd.
        connected: How many clients have connected so far.
    """

    port: int
    photo: bytes
    source: str = "walk"
    pause_s: float = 0.0
    connected: int = 0


Client = Callable[[Target], Awaitable[None]]


async def _connect(target: Target, address: str = "127.0.0.1") -> socket.socket:
    """Return a connected socket that takes little before it is full; nothing reads it in the background."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    try:
        connection.bind((address, 0))
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", target.port))
    except BaseException:
        connection.close()
        raise
    finally:
        target.connected += 1  # or was cut off already
    return connection


async def _send(connection: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, data)


def _frame(kind: int, data: bytes) -> bytes:
    """Return a WebSocket frame with a mask of zeros."""
    size = len(data)
    if size < 126:
        head = struct.pack(">BB", 0x80 | kind, 0x80 | size)
    elif size < 65536:
        head = struct.pack(">BBH", 0x80 | kind, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | kind, 0x80 | 127, size)
    return head + bytes(4) + data


async def _upgrade(connection: socket.socket, path: str) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    await _send(
        connection,
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode(),
    )
    await asyncio.sleep(0.5)  # the answer is not read, but frames must not come before it


async def pings(target: Target) -> None:
    """Send WebSocket pings as fast as they are taken, and read none of the answers."""
    with await _connect(target) as connection:
        await _upgrade(connection, "/v1/stream")
        while True:
            await _send(connection, _frame(9, b"x" * 100) * 50)
            await asyncio.sleep(0)


async def few_pings(target: Target) -> None:
    """Send pings at a rate that is permitted, with answers of the largest size, and read none."""
    with await _connect(target) as connection:
        await _upgrade(connection, "/v1/stream")
        while True:
            await _send(connection, _frame(9, b"x" * 125))
            await asyncio.sleep(0.3)


async def sessions(target: Target) -> None:
    """Send 40 frames to a session, 10 a second, and read none of the poses; then be silent."""
    with await _connect(target) as connection:
        await _upgrade(connection, "/v1/stream")
        for number in range(40):
            await _send(connection, _frame(2, struct.pack("<d", number / 10) + target.photo))
            await asyncio.sleep(0.1)
        await asyncio.Event().wait()


async def texts(target: Target) -> None:
    """Send texts that are answered by an error each, and read none."""
    with await _connect(target) as connection:
        await _upgrade(connection, "/v1/stream")
        while True:
            await _send(connection, _frame(1, b"{}") * 200)
            await asyncio.sleep(0)


async def views(target: Target) -> None:
    """Ask for live video and read nothing of it."""
    with await _connect(target) as connection:
        await _send(connection, f"GET /v1/sources/{target.source}/view HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await asyncio.Event().wait()


async def annotated(target: Target) -> None:
    """Ask for annotated images and read none of them."""
    head = (
        "POST /v1/poses?annotated=true HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(target.photo)}\r\n\r\n"
    )
    with await _connect(target) as connection:
        await _send(connection, head.encode() + target.photo)
        await asyncio.Event().wait()


async def slow_headers(target: Target) -> None:
    """Send a head a byte at a time."""
    with await _connect(target) as connection:
        for byte in b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: " + b"x" * 100_000:
            await _send(connection, bytes([byte]))
            await asyncio.sleep(_PAUSE_S)


async def slow_bodies(target: Target) -> None:
    """Send a body a byte at a time."""
    with await _connect(target) as connection:
        await _send(connection, b"POST /v1/poses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n")
        for byte in target.photo:
            await _send(connection, bytes([byte]))
            await asyncio.sleep(_PAUSE_S)


async def idle(target: Target) -> None:
    """Connect and say nothing."""
    with await _connect(target):
        await asyncio.Event().wait()


async def half_tls(target: Target) -> None:
    """Begin a TLS handshake, which the server answers at some cost, and say nothing more."""
    await _half_tls(target, "127.0.0.1")


async def half_tls_elsewhere(target: Target) -> None:
    """Do the same from an address that nobody else has."""
    await _half_tls(target, "127.0.0.2")


async def _half_tls(target: Target, address: str) -> None:
    with await _connect(target, address) as connection:
        await _send(connection, _client_hello())
        await asyncio.Event().wait()


@lru_cache
def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


async def vanish(target: Target) -> None:
    """Upload an image and leave before the answer: half of the clients in the middle of the upload."""
    head = f"POST /v1/poses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(target.photo)}\r\n\r\n".encode()
    with await _connect(target) as connection:
        part = len(target.photo) // (1 + os.urandom(1)[0] % 2)
        await _send(connection, head + target.photo[:part])


KINDS: dict[str, Client] = {
    "WebSocket pings, nothing read": pings,
    "few WebSocket pings, nothing read": few_pings,
    "WebSocket texts, nothing read": texts,
    "sessions, nothing read": sessions,
    "views, nothing read": views,
    "annotated images, nothing read": annotated,
    "slow headers": slow_headers,
    "slow bodies": slow_bodies,
    "idle": idle,
}
"""Every kind of client that stays until the server cuts it off."""

CLIENTS: dict[str, Client] = {
    **KINDS,
    "idle TLS connections": idle,
    "TLS handshakes that stop": half_tls,
    "TLS handshakes that stop, of another address": half_tls_elsewhere,
    "vanished uploads": vanish,
}
"""Those, and others."""


@asynccontextmanager
async def crowd(client: Client, target: Target, count: int) -> AsyncIterator[None]:
    """Run many clients of one kind side by side; the block begins when all have connected, and they leave at its end.

    A client that never reads cannot tell whether it was cut off: ask the server.
    """
    before = target.connected
    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(_until_cut(client, target)))
        await asyncio.sleep(target.pause_s)
    try:
        while target.connected < before + count:
            await asyncio.sleep(0.01)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _be_a_crowd(kind: str, port: int, count: int, photo: Path) -> None:
    """Begin when a line comes, say when all have connected, and stay until standard input ends."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    pause_s = _UPLOAD_PAUSE_S if CLIENTS[kind] is vanish else _ARRIVAL_S / count
    async with crowd(CLIENTS[kind], Target(port, photo.read_bytes(), pause_s=pause_s), count):
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


async def _until_cut(client: Client, target: Target) -> None:
    try:
        await client(target)
    except OSError:
        await asyncio.Event().wait()  # cut off: nothing more to do


if __name__ == "__main__":
    asyncio.run(_be_a_crowd(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
