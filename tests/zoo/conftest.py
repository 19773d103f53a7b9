"""A local HTTP server that misbehaves on request, and a catalog cache of its own for every test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class Misbehavior:
    """What the server does, and what it was asked.

    Attributes:
        files: Content by path.
        manners: One word for each coming request; ``ok`` when they are used up.
        ranges: The Range headers that arrived, "" where there was none.
    """

    files: dict[str, bytes]
    manners: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    url: str = ""
    leaving: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test may touch the real cache, mirror or offline setting."""
    monkeypatch.setenv("FEATHERPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEATHERPOSE_OFFLINE", raising=False)
    monkeypatch.delenv("FEATHERPOSE_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "models"


@pytest.fixture
def server() -> Iterator[Misbehavior]:
    state = Misbehavior(files={})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
            pass

        def do_GET(self) -> None:
            manner = state.manners.pop(0) if state.manners else "ok"
            wanted = self.headers.get("Range", "")
            state.ranges.append(wanted)
            data = state.files.get(self.path)
            self.close_connection = True
            if manner == "forbid" or data is None:
                return self._send(403 if manner == "forbid" else 404, b"no", {})
            if manner == "busy":
                return self._send(503, b"later", {"Retry-After": "0"})
            if manner == "page":
                return self._send(200, b"<html>please log in</html>", {})
            if manner == "corrupt":
                data = bytes([data[0] ^ 1]) + data[1:]
            if manner == "elsewhere":
                return self._send(206, data[1:], {"Content-Range": f"bytes 1-{len(data) - 1}/{len(data)}"})
            if manner == "endless":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for _ in range(4):
                        self.wfile.write(data)
                return None
            start = (
                int(wanted.removeprefix("bytes=").rstrip("-"))
                if wanted and not manner.startswith("ignore-range")
                else 0
            )
            if start >= len(data):
                return self._send(416, b"", {})
            body = data[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if manner.endswith("truncate"):
                body = body[: len(body) // 2]
            elif manner == "drop":
                body = b""
            with contextlib.suppress(ConnectionError):  # the client may have left
                self.wfile.write(body[: len(body) // 3] if manner == "stall" else body)
                self.wfile.flush()
            if manner == "stall":
                state.leaving.wait(20)
            return None

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = False
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield state
    state.leaving.set()
    http.shutdown()
    http.server_close()
    thread.join()
