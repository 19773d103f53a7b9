"""Clients that never read, stay silent or send slowly: they are cut off, and others are served meanwhile.

`benchmarks/server_faults.py` does the same with hundreds of clients and measures.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pose_server import Running, Start
from slow_clients import (
    KINDS,
    Client,
    Target,
    annotated,
    crowd,
    half_tls,
    half_tls_elsewhere,
    idle,
    sessions,
    slow_bodies,
    vanish,
    views,
)

from featherpose.server.options import ServeLimits, ServeOptions

CLOSE = {"Connection": "close"}
LIMITS = ServeLimits(
    connections=60,
    sessions=4,
    viewers=4,
    handshake_timeout_s=1.0,
    body_timeout_s=1.5,
    write_timeout_s=1.5,
    keep_alive_s=1.5,
    idle_timeout_s=3.0,
    shutdown_timeout_s=5.0,
)


def figure(server: Running, name: str) -> float:
    """Return a figure of the metrics, summed over its labels, without asking over a connection."""
    lines = server.service.metrics.text().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((name + " ", name + "{")))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def strict(start: Start, walk: Path) -> Iterator[Running]:
    with start(ServeOptions(sources={"walk": str(walk)}, limits=LIMITS)) as running:
        yield running


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "texts" not in kind])  # it fills buffers slowly
def test_they_are_cut_off_and_others_are_served(
    strict: Running, photo: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    caplog.set_level("WARNING")
    statuses = []

    async def all_of_them() -> None:
        async with (
            crowd(KINDS[kind], Target(strict.port, photo), 8),
            httpx.AsyncClient(base_url=strict.url, timeout=60, trust_env=False, headers=CLOSE) as client,
        ):
            for _ in range(5):
                await asyncio.sleep(0.2)
                statuses.append((await client.get("/healthz")).status_code)
            await asyncio.to_thread(wait_for, lambda: figure(strict, "featherpose_connections") == 0)

    asyncio.run(all_of_them())
    assert statuses == [200] * 5
    wait_for(lambda: figure(strict, "featherpose_sessions") == figure(strict, "featherpose_viewers") == 0)
    assert strict.app.state.budget.held_bytes == 0
    assert figure(strict, "featherpose_internal_errors_total") == 0
    assert "Traceback" not in caplog.text
    assert len(caplog.records) <= 4, caplog.text


@pytest.mark.parametrize("kind", [half_tls, half_tls_elsewhere] if sys.platform == "linux" else [half_tls])
def test_idle_handshakes_keep_nobody_out(
    start: Start, certified: tuple[Path, Path], photo: bytes, caplog: pytest.LogCaptureFixture, kind: Client
) -> None:
    """More connections than there may be, none of which goes on with its handshake."""
    certificate, key = certified
    limits = ServeLimits(connections=16, handshake_timeout_s=2.0)
    statuses = []
    with start(ServeOptions(certificate=certificate, key=key, limits=limits)) as server:

        async def all_of_them() -> None:
            context = ssl.create_default_context(cafile=str(certificate))
            async with crowd(kind, Target(server.port, photo), 60):
                for _ in range(3):
                    async with httpx.AsyncClient(
                        base_url=server.url, timeout=60, trust_env=False, verify=context
                    ) as client:
                        statuses.append((await client.get("/healthz")).status_code)
                await asyncio.to_thread(wait_for, lambda: figure(server, "featherpose_connections") == 0)

        asyncio.run(all_of_them())
    assert statuses == [200] * 3
    assert "Traceback" not in caplog.text
    assert len(caplog.records) <= 3, caplog.text


def test_clients_that_vanish_leave_nothing(strict: Running, photo: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def all_of_them() -> None:
        target = Target(strict.port, photo)
        await asyncio.gather(*(vanish(target) for _ in range(40)), return_exceptions=True)

    asyncio.run(all_of_them())
    wait_for(lambda: figure(strict, "featherpose_connections") == 0)
    wait_for(lambda: figure(strict, "featherpose_admitted") == 0)
    assert strict.app.state.budget.held_bytes == 0
    assert "never retrieved" not in caplog.text
    assert not caplog.records, caplog.text


@pytest.mark.parametrize("client", [annotated, idle, sessions, slow_bodies, views])
def test_the_end_comes_in_time_whatever_clients_do(
    start: Start, walk: Path, photo: bytes, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Deadlines for clients are far away: only that of the end is near."""
    limits = ServeLimits(shutdown_timeout_s=4.0)
    with start(ServeOptions(sources={"walk": str(walk)}, limits=limits)) as server:

        async def stay() -> float:
            async with crowd(client, Target(server.port, photo), 10):
                await asyncio.sleep(1.0)
                began = time.monotonic()
                await asyncio.to_thread(server.end)
                return time.monotonic() - began

        spent_s = asyncio.run(stay())
    assert spent_s < 30  # 4 s on a machine that does nothing else
    assert "Traceback" not in caplog.text
