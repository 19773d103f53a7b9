"""A real server on loopback, in a thread of the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import httpx
from fastapi import FastAPI

from featherpose.runtime.backend import EngineOptions
from featherpose.server.app import create_app
from featherpose.server.options import ServeOptions
from featherpose.server.run import listen, serve
from featherpose.server.service import PoseService
from featherpose.stream import FrameResult

__all__ = ["Running", "Start", "run_server", "serve_command"]

_ONE_THREAD = EngineOptions(threads=1)


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    app: FastAPI
    port: int
    secure: bool = False
    end: Callable[[], None] = lambda: None
    """Ask the server to end, and wait until it has."""

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://127.0.0.1:{self.port}"

    @property
    def service(self) -> PoseService:
        service: PoseService = self.app.state.service
        return service

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, timeout=60, headers=headers, trust_env=False)


Start = Callable[..., AbstractContextManager[Running]]
Recorders = Mapping[str, Callable[[FrameResult], None]]


@contextmanager
def run_server(options: ServeOptions, *, port: int = 0, recorders: Recorders | None = None) -> Iterator[Running]:
    options = replace(options, port=port, engine=_ONE_THREAD)
    app = create_app(options, recorders=recorders)
    listener = listen(options)
    ready, stop = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with listener:
                serve(app, listener, on_ready=ready.set, stop=stop)
        except BaseException as error:
            failures.append(error)
            ready.set()

    port = listener.getsockname()[1]
    thread = threading.Thread(target=run, name="server")
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(60)

    try:
        assert ready.wait(60)
        yield Running(app, port, options.secure, end)
    finally:
        end()
    assert not thread.is_alive()
    assert not failures, failures


@contextmanager
def serve_command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running ``featherpose serve`` and the address it says it has."""
    process = subprocess.Popen(
        [sys.executable, "-m", "featherpose.cli.main", "serve", "--port", "0", "--threads", "1", *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"at (http://\S+/) ", line):
                yield process, found[1]
                break
        else:
            raise AssertionError(said)
    finally:
        process.kill()
        process.communicate()
