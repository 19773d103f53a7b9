"""Fuzzing the server: one in this process, raw requests and sessions from outside."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
from collections.abc import Callable

import cv2
import fuzz_seeds as seeds
import numpy as np
from fuzz_mutations import mutated_bytes, mutated_text
from pose_server import Running, run_server

from featherpose.errors import FeatherposeError
from featherpose.server.options import ServeOptions

__all__ = ["http_target", "websocket_target"]


class RefusedError(FeatherposeError):
    """The server answered with an error of the client's, or closed the connection."""


class _Server:
    """A server that starts with the first use."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._running: Running | None = None

    def running(self) -> Running:
        if self._running is None:
            self._running = self._stack.enter_context(run_server(ServeOptions()))
        return self._running

    def check(self) -> None:
        text = self.running().service.metrics.text().decode()
        found = re.search(r"^featherpose_internal_errors_total (\S+)", text, re.MULTILINE)
        if found is None or float(found[1]) > 0:
            # Only the first is counted: the server goes on, the next input starts from a new one.
            self.close()
            raise AssertionError("the server counted an internal error")

    def close(self) -> None:
        self._running = None
        self._stack.close()
        self._stack = contextlib.ExitStack()


def _jpeg() -> bytes:
    _, data = cv2.imencode(".jpg", seeds.scene())
    return data.tobytes()


def _requests() -> list[tuple[bytes, bytes]]:
    """(head without its length, body) of requests that the server answers."""
    image = _jpeg()
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    form = part + image + b"\r\n" + part + image + b"\r\n--b--\r\n"

    def head(line: str, kind: str = "image/jpeg") -> bytes:
        return f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: {kind}\r\n".encode()

    multipart = "multipart/form-data; boundary=b"
    return [
        (head("POST /v1/poses"), image),
        (head("POST /v1/poses?min_person_score=0.3&annotated=true"), image),
        (head("POST /v1/poses", multipart), form),
        (head("POST /v1/poses:batch", multipart), form),
        (head("GET /v1/models"), b""),
        (head("GET /healthz"), b""),
        (head("GET /openapi.json"), b""),
        (head("GET /v1/sources/x/poses"), b""),
        (head("GET /"), b""),
        (head("OPTIONS /v1/poses"), b""),
    ]


Parts = tuple[Callable[[np.random.Generator], bytes], Callable[[bytes], None], Callable[[], None]]


def http_target() -> Parts:
    """Raw requests with mutated heads and bodies."""
    server, requests = _Server(), _requests()

    def make(rng: np.random.Generator) -> bytes:
        head, body = requests[int(rng.integers(len(requests)))]
        if rng.random() < 0.6 and body:
            body = mutated_bytes(body, rng)
        head += f"Content-Length: {len(body)}\r\n".encode()
        if rng.random() < 0.5:
            head = mutated_bytes(head, rng) if rng.random() < 0.7 else mutated_text(head.decode(), rng)
        return head + b"\r\n" + body

    def read(data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", server.running().port), timeout=20) as connection:
            answer = b""
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    answer += chunk
        server.check()
        status = answer[9:12]
        if status.startswith(b"5") and status not in (b"501", b"503", b"505"):
            raise AssertionError(f"the server answered {answer[:60]!r}")
        if not status.startswith(b"2"):
            raise RefusedError(f"answered {status!r}")

    return make, read, server.close


def websocket_target() -> Parts:
    """Sessions of some messages, good and mutated."""
    server, image = _Server(), _jpeg()
    options = json.dumps({"type": "options", "min_person_score": 0.5, "smoothing": True})

    def message(rng: np.random.Generator) -> bytes:
        match int(rng.integers(0, 6)):
            case 0:
                return b"b" + struct.pack("<d", float(rng.normal(0, 10))) + image
            case 1:
                return b"b" + struct.pack("<d", 1.0) + mutated_bytes(image, rng)
            case 2:
                return b"b" + rng.bytes(int(rng.integers(0, 40)))
            case 3:
                return b"r" + rng.bytes(int(rng.integers(1, 60)))  # past the protocol, onto the wire
            case _:
                return b"t" + mutated_text(options, rng)

    def make(rng: np.random.Generator) -> bytes:
        parts = [message(rng) for _ in range(int(rng.integers(1, 6)))]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)

    def read(data: bytes) -> None:
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        refused = False
        with connect(f"{server.running().socket_url}/v1/stream", proxy=None, close_timeout=1) as session:
            try:
                session.recv(timeout=20)
                while data:
                    (size,) = struct.unpack("<I", data[:4])
                    kind, content, data = data[4:5], data[5 : 4 + size], data[4 + size :]
                    if kind == b"r":
                        session.socket.sendall(content)
                    elif kind == b"t":
                        session.send(content.decode("utf-8", "replace"))
                    else:
                        session.send(content)
                refused = json.loads(session.recv(timeout=5)).get("type") == "error"
            except (ConnectionClosed, TimeoutError, OSError):
                refused = True
        server.check()
        if refused:
            raise RefusedError("the session was answered with an error, or ended")

    return make, read, server.close
