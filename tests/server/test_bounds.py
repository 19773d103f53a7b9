"""What a server may hold and open, and what it says when that is used up."""

from __future__ import annotations

import json
import logging
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from pose_server import Running, Start
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from featherpose.errors import ModelError, OptionError, SourceError
from featherpose.server.connections.descriptors import descriptors_needed, provide_descriptors
from featherpose.server.connections.event_log import OnePerPeriod
from featherpose.server.http.limits import ByteBudget
from featherpose.server.http.memory import is_shortage
from featherpose.server.options import ServeLimits, ServeOptions

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def tight(start: Start) -> Iterator[Running]:
    limits = ServeLimits(connections=40, body_bytes=2_000_000, held_bytes=3_000_000, queue=4)
    with start(ServeOptions(limits=limits)) as running:
        yield running


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_budget_counts_bodies_frames_and_answers() -> None:
    unsent = 50
    budget = ByteBudget(ServeLimits(body_bytes=100, held_bytes=200))
    budget.watch_answers(lambda: unsent, lambda: False)
    one, two = budget.lease(), budget.lease()
    assert one.set(100)
    assert budget.held_bytes == 150
    assert not two.set(100)
    one.set(20)
    assert two.set(110)
    unsent = 100
    assert not one.set(30)
    one.release()
    two.release()
    assert budget.held_bytes == 100


def test_clients_that_do_not_read_give_way_when_the_budget_is_used_up() -> None:
    answers = [150, 150]
    budget = ByteBudget(ServeLimits(body_bytes=100, held_bytes=200))
    budget.watch_answers(lambda: sum(answers), lambda: bool(answers.pop()) if answers else False)
    assert budget.lease().set(100)
    assert not answers


def test_frames_of_all_sessions_share_the_budget(tight: Running) -> None:
    """Messages that never end: those beyond the budget are closed, and memory is free again."""
    part = struct.pack(">BBQ", 0x02, 0xFF, 1_500_000) + bytes(4) + bytes(1_400_000)
    with (
        connect(f"{tight.socket_url}/v1/stream", proxy=None) as one,
        connect(f"{tight.socket_url}/v1/stream", proxy=None) as two,
        connect(f"{tight.socket_url}/v1/stream", proxy=None) as three,
    ):
        for number, session in enumerate((one, two, three), 1):
            assert json.loads(session.recv(timeout=60))["type"] == "hello"
            session.socket.sendall(part)
            if number < 3:
                wait_for(lambda least=1_400_000 * number: tight.app.state.budget.held_bytes >= least)  # type: ignore[misc]
        with pytest.raises(ConnectionClosed) as closed:
            three.recv(timeout=60)
        for session in (one, two):
            session.socket.shutdown(socket.SHUT_RDWR)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    wait_for(lambda: tight.app.state.budget.held_bytes == 0)


def test_a_flood_of_pings_ends_the_session(tight: Running) -> None:
    with connect(f"{tight.socket_url}/v1/stream", proxy=None) as session:
        assert json.loads(session.recv(timeout=60))["type"] == "hello"
        session.socket.sendall(b"\x89\x80\0\0\0\0" * 1000)
        with pytest.raises(ConnectionClosed) as closed:
            session.recv(timeout=60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_a_message_of_very_many_fragments_ends_the_session(tight: Running) -> None:
    with connect(f"{tight.socket_url}/v1/stream", proxy=None) as session:
        assert json.loads(session.recv(timeout=60))["type"] == "hello"
        session.socket.sendall(b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 5000)
        with pytest.raises(ConnectionClosed) as closed:
            session.recv(timeout=60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_many_small_messages_in_one_piece_are_all_answered(tight: Running, photo: bytes) -> None:
    """They are parsed in slices; none is lost, and a frame behind them is answered too."""
    with connect(f"{tight.socket_url}/v1/stream", proxy=None) as session:
        assert json.loads(session.recv(timeout=60))["type"] == "hello"
        session.socket.sendall(b"\x81\x82\0\0\0\0{}" * 100)
        session.send(struct.pack("<d", 0) + photo)
        answers = [json.loads(session.recv(timeout=60)) for _ in range(101)]
    assert sum(answer["type"] == "error" for answer in answers) == 100
    assert [answer["frame"] for answer in answers if answer["type"] == "poses"] == [0]


def test_bursts_are_answered_and_not_reset(tight: Running, photo: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Many more clients than connections: each reads an answer."""
    body = photo + bytes(900_000)
    head = b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    request = head % len(body) + body

    def ask(_: int) -> bytes:
        with socket.create_connection(("127.0.0.1", tight.port), timeout=60) as connection:
            connection.sendall(request)
            return connection.recv(65536)[:12]  # a reset raises

    with ThreadPoolExecutor(60) as pool:
        answers = set(pool.map(ask, range(300)))
    assert answers <= {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    assert b"HTTP/1.1 503" in answers
    assert "featherpose_internal_errors_total 0.0" in tight.service.metrics.text().decode(), caplog.text


@pytest.mark.parametrize("path", ["/v1/poses", "/v1/poses?annotated=true"])
def test_a_lack_of_memory_is_no_fault_of_the_file(
    tight: Running, photo: bytes, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("featherpose.server.service.decode_upload", fail)
    monkeypatch.setattr("featherpose.server.routes.sessions.decode_upload", fail)
    before = tight.service.metrics.text().decode()
    with tight.client() as client:
        answer = client.post(path, content=photo, headers=JPEG)
        batch = client.post("/v1/poses:batch", files=[("file", photo)])
    with connect(f"{tight.socket_url}/v1/stream", proxy=None) as session:
        session.recv(timeout=60)
        session.send(struct.pack("<d", 0) + photo)
        assert "memory" in json.loads(session.recv(timeout=60))["error"]["what"]
    assert answer.status_code == batch.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "memory" in answer.json()["error"]["what"]
    after = tight.service.metrics.text().decode()
    assert shortages(after) == shortages(before) + 3
    assert "featherpose_internal_errors_total 0.0" in after


def shortages(metrics: str) -> float:
    return float(metrics.partition("\nfeatherpose_out_of_memory_total ")[2].split()[0])


def test_a_decoder_without_memory_is_no_fault_of_the_file(
    tight: Running, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SourceError("there is not enough memory for the body: it does not fit")

    monkeypatch.setattr("featherpose.server.http.uploads.decode_image", fail)
    with tight.client() as client:
        assert client.post("/v1/poses", content=photo, headers=JPEG).status_code == 503
        assert client.post("/v1/poses:batch", files=[("file", photo)]).status_code == 503


def test_how_libraries_say_that_memory_is_short() -> None:
    with pytest.raises(cv2.error) as opencv:
        cv2.resize(np.zeros((1, 1), np.uint8), (2**30, 2**30))
    assert is_shortage(opencv.value) or "size" in str(opencv.value).lower()
    with pytest.raises(MemoryError) as array:
        np.empty(2**62, np.uint8)
    assert is_shortage(array.value)
    engine = ModelError("OpenVINO failed on an input")
    engine.__cause__ = RuntimeError("std::bad_alloc")
    assert is_shortage(engine)
    assert not is_shortage(ModelError("the model was closed"))


def test_descriptors_are_raised_or_the_setting_is_refused() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = descriptors_needed(100)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed - 50, hard))
        provide_descriptors(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == needed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(OptionError, match="open files"):
            provide_descriptors(hard)


def test_a_server_that_may_open_few_files_says_so() -> None:
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 300; exec "$@"', "sh", sys.executable, "-m", "featherpose.cli.main", "serve",
         "--port", "0"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--connections of at most 108" in done.stderr


def test_one_line_for_each_cause_and_period() -> None:
    log = OnePerPeriod(period_s=0.2)

    def record(text: str, *values: object) -> logging.LogRecord:
        return logging.LogRecord("name", logging.ERROR, "file", 1, text, values, None)

    assert log.filter(record("%s is gone", "one"))
    assert not any(log.filter(record("%s is gone", number)) for number in range(1000))
    assert log.filter(record("another cause"))
    time.sleep(0.25)
    last = record("%s is gone", "two")
    assert log.filter(last)
    assert last.getMessage() == "two is gone (and 1,000 more since the last line of this kind)"
