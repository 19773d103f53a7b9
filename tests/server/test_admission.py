"""A server with as much to do as it can: it says so at once, and forgets nobody it has let in."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from pose_server import Running, Start

from featherpose.server.options import ServeLimits, ServeOptions

JPEG = {"Content-Type": "image/jpeg"}


@contextmanager
def busy_workers(server: Running) -> Iterator[None]:
    """All workers are held up until the block ends."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def hold(_waited_ms: float) -> None:
        begun.release()
        assert gate.wait(60)

    workers = server.service.dispatcher.workers
    for _ in range(workers):
        server.service.dispatcher.submit("live", hold)
    for _ in range(workers):
        assert begun.acquire(timeout=60)
    try:
        yield
    finally:
        gate.set()


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def small(start: Start) -> Iterator[Running]:
    limits = ServeLimits(queue=3, connections=20, body_timeout_s=2.0, body_bytes=1_000_000, held_bytes=1_500_000)
    with start(ServeOptions(limits=limits)) as running:
        yield running


def test_beyond_the_queue_everybody_is_told(small: Running, photo: bytes) -> None:
    dispatcher = small.service.dispatcher

    def ask(_number: int) -> httpx.Response:
        with small.client() as client:
            return client.post("/v1/poses", content=photo, headers=JPEG)

    with ThreadPoolExecutor(3) as pool, small.client() as client:
        with busy_workers(small):
            accepted = [pool.submit(ask, i) for i in range(3)]
            wait_for(lambda: dispatcher.full("images"))
            refused = [client.post("/v1/poses", content=photo, headers=JPEG) for _ in range(5)]
            batch = client.post("/v1/poses:batch", files=[("file", photo)])
            assert client.get("/healthz").status_code == 200
            assert not any(answer.done() for answer in accepted)
        for answer in (*refused, batch):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "error" in answer.json()
        assert [answer.result(60).status_code for answer in accepted] == [200, 200, 200]
        assert client.post("/v1/poses", content=photo, headers=JPEG).status_code == 200
        assert 'status="503"' in client.get("/metrics").text


def test_nothing_is_computed_for_clients_that_left(small: Running, photo: bytes) -> None:
    head = f"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(photo)}\r\n\r\n"
    dispatcher = small.service.dispatcher
    with small.client() as client:
        before = infers(client)
        left = gone(client)
        with busy_workers(small):
            with socket.create_connection(("127.0.0.1", small.port)) as leaving:
                leaving.sendall(head.encode() + photo)
                wait_for(lambda: dispatcher.admitted("images") == 1)
            wait_for(lambda: gone(client) > left)
        wait_for(lambda: dispatcher.admitted("images") == 0)
        assert infers(client) == before


def gone(client: httpx.Client) -> int:
    """InferRequestPool whose clients did not wait for the answer."""
    lines = client.get("/metrics").text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if "requests_total{" in line and 'status="499"' in line)


def infers(client: httpx.Client) -> str:
    return next(line for line in client.get("/metrics").text.splitlines() if 'count{stage="infer"}' in line)


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(60)
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"408"),
        (b"GET /healthz HTTP/1.1\r\nHost: local", b"408"),
        (b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nabc", b"408"),
        (b"GET /healthz HTTP/1.1\r\n" + b"A: " + b"b" * 100_000, b"400"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_requests_that_never_arrive(small: Running, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", small.port)) as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_a_refused_body_that_never_ends_is_cut(small: Running) -> None:
    with socket.create_connection(("127.0.0.1", small.port)) as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\nabc")
        assert read_all(connection).startswith(b"HTTP/1.1 404")


def test_all_uploads_together_are_bounded(small: Running, photo: bytes) -> None:
    head = b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n" + bytes(800_000)
    with (
        socket.create_connection(("127.0.0.1", small.port)) as one,
        socket.create_connection(("127.0.0.1", small.port)) as two,
    ):
        one.sendall(head)
        two.sendall(head)
        answers = read_all(one), read_all(two)
    statuses = sorted(answer[9:12] for answer in answers)
    assert statuses == [b"408", b"503"]
    with small.client() as client:
        assert client.post("/v1/poses", content=photo, headers=JPEG).status_code == 200


def test_idle_connections_give_way(small: Running) -> None:
    open_ones = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(25)]
    try:
        with small.client() as client:
            assert client.get("/healthz").status_code == 200
        answers = [read_all(connection) for connection in open_ones]
    finally:
        for connection in open_ones:
            connection.close()
    full = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
    assert len(full) >= 6
    assert all(b"Retry-After" in answer for answer in full)
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers if answer not in full)


def test_connections_are_bounded(small: Running) -> None:
    """Connections with a request in progress do not give way: who comes then is told, not cut off."""
    head = b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n"
    open_ones = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(20)]
    try:
        for connection in open_ones:
            connection.sendall(head)
        with small.client() as client:
            wait_for(lambda: client.get("/healthz").status_code == 503)
        with socket.create_connection(("127.0.0.1", small.port)) as one_more:
            one_more.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(100_000))
            answer = read_all(one_more)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After" in answer
        assert {read_all(connection)[9:12] for connection in open_ones} <= {b"408", b"503"}
    finally:
        for connection in open_ones:
            connection.close()
    with small.client() as client:
        wait_for(lambda: client.get("/healthz").status_code == 200)
