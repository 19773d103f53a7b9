"""The server at its capacity, at twice its capacity, and ended by SIGTERM in the middle of that.

    python benchmarks/server_load.py [--data ../shared] [--seconds 300] [--out benchmarks/results]

Starts a real ``featherpose serve`` on loopback and sends it photographs over persistent connections. Capacity is what
a few connections that always ask again get answered (closed loop). Then requests come at twice that rate whatever the
server does (open loop); each is answered, refused, or lost. Capacity is measured before and after, and goodput compared
with the mean of both, so that a machine that is busy with something else shows. At the end SIGTERM comes under the same
load: a request counts as lost if it was sent whole and its connection ended without an answer. Load tool and server
share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from reports import publish

_MAX_CONNECTIONS = 400
_PATIENCE_S = 30.0


@dataclass
class Tally:
    """What became of the requests of one phase."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    ended: list[tuple[float, str]] = field(default_factory=list)
    without_retry_after: int = 0
    started: float = field(default_factory=perf_counter)

    def note(self, outcome: str, seconds: float, *, retry_after: bool) -> None:
        """Count one request."""
        self.statuses[outcome] += 1
        self.ended.append((perf_counter(), outcome))
        if outcome == "200":
            self.seconds.append(seconds)
        if outcome == "503" and not retry_after:
            self.without_retry_after += 1

    def report(self, duration_s: float) -> dict[str, Any]:
        """Figures of the phase; times are of the requests that were answered."""
        quantiles = np.percentile(self.seconds, (50, 95, 99, 100)) if self.seconds else np.zeros(4)
        names = ("p50", "p95", "p99", "max")
        return {
            "seconds": round(duration_s, 1),
            "requests": sum(self.statuses.values()),
            "by outcome": dict(sorted(self.statuses.items())),
            "answered a second": round(self.statuses["200"] / duration_s, 2),
            "accepted ms": {name: round(1e3 * float(q), 1) for name, q in zip(names, quantiles, strict=True)},
            "refusals without Retry-After": self.without_retry_after,
        }


class Client:
    """Persistent connections to one address."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self._port = port
        self._requests = requests
        self._sent = 0
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.open = 0
        self.under_way = 0

    async def ask(self, tally: Tally) -> None:
        """One request, on an idle connection or a new one."""
        started = perf_counter()
        retry_after = False
        self.under_way += 1
        try:
            async with asyncio.timeout(_PATIENCE_S):
                outcome, retry_after = await self._ask()
        except TimeoutError:
            outcome = "no answer in time"
        finally:
            self.under_way -= 1
        tally.note(outcome, perf_counter() - started, retry_after=retry_after)

    async def _ask(self) -> tuple[str, bool]:
        if not self._idle and self.open >= _MAX_CONNECTIONS:
            return "not sent: out of connections", False
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                break
            self._close(writer)
        else:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                return "not sent: connection refused", False
            self.open += 1
        keep = False
        try:
            self._sent += 1
            writer.write(self._requests[self._sent % len(self._requests)])
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status = head[9:12].decode()
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            keep = b"connection: close" not in head.lower()
            return status, b"retry-after:" in head.lower()
        except (OSError, asyncio.IncompleteReadError):
            return "lost: connection ended without an answer", False
        finally:
            if keep:
                self._idle.append((reader, writer))
            else:
                self._close(writer)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        self.open -= 1
        writer.close()


async def closed_loop(client: Client, connections: int, seconds: float) -> tuple[Tally, float]:
    """Keep connections that ask again as soon as they are answered."""
    tally, started = Tally(), perf_counter()

    async def again() -> None:
        while perf_counter() - started < seconds:
            await client.ask(tally)

    await asyncio.gather(*(again() for _ in range(connections)))
    return tally, perf_counter() - started


async def open_loop(
    client: Client, rate_hz: float, seconds: float, server: psutil.Process, *, terminate_at_s: float | None = None
) -> tuple[Tally, float, list[tuple[float, float]]]:
    """Send requests at random moments (a Poisson process) of a given rate, whatever becomes of them."""
    rng, tally, started = np.random.default_rng(0), Tally(), perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    memory: list[tuple[float, float]] = []
    due = 0.0
    terminated = False
    while due < seconds:
        due += float(rng.exponential(1 / rate_hz))
        elapsed = perf_counter() - started
        if due > elapsed:
            await asyncio.sleep(due - elapsed)
        elapsed = perf_counter() - started
        if not memory or elapsed - memory[-1][0] >= 1:
            try:
                memory.append((elapsed, server.memory_info().rss / 1e6))
            except psutil.Error:
                memory.append((elapsed, 0.0))
        if terminate_at_s is not None and not terminated and elapsed >= terminate_at_s:
            terminated = True
            server.send_signal(signal.SIGTERM)
        task = asyncio.create_task(client.ask(tally))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    duration = perf_counter() - started
    if tasks:
        await asyncio.wait(tasks)
    return tally, duration, memory


def growth(memory: list[tuple[float, float]]) -> dict[str, float]:
    """Memory after the first minute (or fifth) and at the end, medians of a tenth of the time each."""
    end = memory[-1][0]
    first, part = min(60.0, end / 5), max(end / 10, 2.0)
    early = float(np.median([mb for at, mb in memory if first <= at <= first + part]))
    late = float(np.median([mb for at, mb in memory if at >= end - part]))
    return {
        "rss MB after the first minute": round(early, 1),
        "rss MB at the end": round(late, 1),
        "growth": round(late / early - 1, 4),
    }


def start_server(model: Path | None, extra: list[str]) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "featherpose.cli.main", "serve", "--port", "0", *extra]
    if model is not None:
        command += ["--model", str(model)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line.strip())
        if found := re.search(r"serving .* at http://127\.0\.0\.1:(\d+)/", line):
            return process, int(found[1])
    raise SystemExit(f"the server did not start: {said}")


def load_images(data: Path, count: int = 32) -> list[bytes]:
    photos = sorted((data / "data/coco-val/images").glob("*.jpg"))[:count]
    if not photos:
        from matplotlib import cbook

        photos = [Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))]
    head = "POST /v1/poses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    return [head.format(photo.stat().st_size).encode() + photo.read_bytes() for photo in photos]


async def measure(options: argparse.Namespace, process: subprocess.Popen[str], port: int) -> dict[str, Any]:
    server = psutil.Process(process.pid)
    own = psutil.Process()
    requests = load_images(options.data)
    client = Client(port, requests)
    await closed_loop(client, options.connections, min(10.0, options.capacity_seconds))
    tally, seconds = await closed_loop(client, options.connections, options.capacity_seconds)
    capacity = tally.report(seconds)
    capacity_hz = capacity["answered a second"]
    print(f"capacity {capacity_hz} a second", file=sys.stderr)
    before = (server.cpu_times(), own.cpu_times())
    tally, seconds, memory = await open_loop(client, 2 * capacity_hz, options.seconds, server)
    after = (server.cpu_times(), own.cpu_times())
    overload = tally.report(seconds)
    cores = [round((a.user + a.system - b.user - b.system) / seconds, 2) for a, b in zip(after, before, strict=True)]
    tally, seconds = await closed_loop(client, options.connections, options.capacity_seconds)
    again = tally.report(seconds)
    mean_hz = (capacity_hz + again["answered a second"]) / 2
    overload |= {
        "offered a second": round(2 * capacity_hz, 2),
        "goodput / capacity": round(overload["answered a second"] / mean_hz, 3),
        "memory": growth(memory),
        "cores used by server and load tool": cores,
    }
    print(f"overload: {overload}", file=sys.stderr)
    asked_at = time.monotonic() + 3
    tally, seconds, _ = await open_loop(client, 2 * capacity_hz, 8.0, server, terminate_at_s=3.0)
    ending = tally.report(seconds)
    code = await asyncio.to_thread(process.wait, 60)
    ending |= {
        "lost": sum(n for outcome, n in tally.statuses.items() if outcome.startswith(("lost", "no answer"))),
        "exit code": code,
        "seconds to the end, at most": round(time.monotonic() - asked_at, 1),
    }
    errors = sum(
        n
        for phase in (capacity, overload, again, ending)
        for outcome, n in phase["by outcome"].items()
        if outcome.startswith("5") and outcome != "503"
    )
    return {
        "capacity": capacity,
        "twice the capacity": overload,
        "capacity afterwards": again,
        "SIGTERM under load": ending,
        "errors 5xx": errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--model", type=Path, help="the released INT8 network of --data unless given")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--capacity-seconds", type=float, default=30)
    parser.add_argument("--connections", type=int, default=6, help="of the closed loop")
    parser.add_argument("--server", default="", help="further options of `featherpose serve`")
    options = parser.parse_args()
    model = options.model or options.data / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
    process, port = start_server(model if model.is_file() else None, options.server.split())
    try:
        report = asyncio.run(measure(options, process, port))
    finally:
        if process.poll() is None:
            process.kill()
    report |= {
        "model": model.name if model.is_file() else "bundled",
        "server options": options.server,
        "connections of the closed loop": options.connections,
    }
    publish(report, options.out / "server_load.json")


if __name__ == "__main__":
    main()
