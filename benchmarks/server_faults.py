"""A server among clients that never read, stay silent, send slowly or vanish: what others notice, and what is left.

    python benchmarks/server_faults.py [--clients 100] [--tls-clients 1100] [--uploads 200] [--out benchmarks/results]

Starts real servers on loopback (`featherpose serve`, at most 1024 open files). Each kind of slow client comes in a
crowd that arrives within two seconds, in a process of its own, and stays until the server has cut off all of it.
Meanwhile other clients ask for ``/healthz`` (on a new connection each time, 10 times a second) and for the poses of a
photograph (twice a second). Before and afterwards the server's memory, descriptors and threads are read. Then each
crowd comes to a server of its own that gets SIGTERM while requests are under way. Clients, load and server share the
cores of the machine; the figures without any crowd are taken in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from reports import publish
from websockets.asyncio.client import connect

sys.path.append(str(Path(__file__).parents[1] / "tests/support"))
import slow_clients
from slow_clients import CLIENTS, KINDS

_SECURE = ("idle TLS connections", "TLS handshakes that stop", "TLS handshakes that stop, of another address")
_PATIENCE_S = 75.0
_OWN_WORK_S = 5.0  # requests of the crowd that are computed like any other


@dataclass
class Server:
    """A running server."""

    process: psutil.Popen
    port: int
    log: Path
    context: ssl.SSLContext | None = None

    def state(self) -> dict[str, Any]:
        """Memory, descriptors and threads of this moment."""
        with self.process.oneshot():
            return {
                "rss MB": round(self.process.memory_info().rss / 1e6, 1),
                "descriptors": self.process.num_fds(),
                "threads": self.process.num_threads(),
            }

    async def ask(self, path: str, body: bytes = b"") -> tuple[str, float]:
        """Ask once, on a new connection; returns the status and the milliseconds until the whole answer was there."""
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n"
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)
                try:
                    writer.write(head.encode() + body)
                    answer = await reader.read(-1)
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            return type(error).__name__, 1e3 * (time.perf_counter() - started)
        return answer[9:12].decode() or "no answer", 1e3 * (time.perf_counter() - started)


@asynccontextmanager
async def serving(folder: Path, video: Path, certificate: Path | None = None) -> AsyncIterator[Server]:
    """Run a server with a source, and a log that is read afterwards."""
    command = [sys.executable, "-m", "featherpose.cli.main", "serve", "--port", "0", "--source", f"walk={video}"]
    context = None
    if certificate is not None:
        command += ["--certificate", str(certificate)]
        context = ssl.create_default_context(cafile=str(certificate))
    log = folder / f"server-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = psutil.Popen(["sh", "-c", 'ulimit -n 1024; exec "$@"', "sh", *command], stderr=file)
    try:
        found = None
        while found is None:
            await asyncio.sleep(0.1)
            found = re.search(r"serving .* at https?://127\.0\.0\.1:(\d+)/", log.read_text())
            if process.poll() is not None:
                raise SystemExit(f"the server did not start: {log.read_text()}")
        yield Server(process, int(found[1]), log, context)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


class Crowd:
    """Clients in a process of their own, which is ready before anything is measured."""

    def __init__(self, kind: str, port: int, count: int, photo: Path) -> None:
        if "annotated" in kind:
            photo = photo.with_name("large.jpg")  # or the kernel has room for the answers
        self._arguments = [kind, str(port), str(count), str(photo)]

    async def __aenter__(self) -> Crowd:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, slow_clients.__file__, *self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        await self._line()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def come(self) -> None:
        """Connect; returns when all have."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._line()

    async def _line(self) -> None:
        assert self._process.stdout is not None
        await self._process.stdout.readline()


@dataclass
class Others:
    """What clients that do nothing wrong notice."""

    server: Server
    photo: bytes
    began: float = field(default_factory=time.monotonic)
    health: list[tuple[str, float]] = field(default_factory=list)
    poses: list[tuple[str, float]] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    async def __aenter__(self) -> Others:
        self._tasks = [
            asyncio.create_task(self._again(0.1, "/healthz", b"", self.health)),
            asyncio.create_task(self._again(0.5, "/v1/poses", self.photo, self.poses)),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _again(self, pause_s: float, path: str, body: bytes, into: list[tuple[str, float]]) -> None:
        while True:
            status, ms = await self.server.ask(path, body)
            if path == "/healthz":
                self.memory_mb.append(self.server.state()["rss MB"])
            elif time.monotonic() < self.began + _OWN_WORK_S:
                continue
            into.append((status, ms))
            await asyncio.sleep(pause_s)

    def report(self) -> dict[str, Any]:
        """Figures so far."""

        def times(answers: list[tuple[str, float]]) -> dict[str, Any]:
            ms = [ms for status, ms in answers if status == "200"] or [float("nan")]
            quantiles = np.percentile(ms, (50, 99, 100))
            return {
                "by status": dict(Counter(status for status, _ in answers)),
                "ms": {name: round(float(q), 1) for name, q in zip(("median", "p99", "max"), quantiles, strict=True)},
            }

        return {"healthz": times(self.health), "poses": times(self.poses), "peak rss MB": max(self.memory_mb)}


async def settled(server: Server, before: dict[str, Any], patience_s: float) -> tuple[float, dict[str, Any]]:
    """Wait until descriptors and threads are back; returns the seconds that took and the state."""
    began = time.monotonic()
    while True:
        state = server.state()
        back = state["descriptors"] <= before["descriptors"] + 2 and state["threads"] <= before["threads"]
        if back or time.monotonic() - began > patience_s:
            return round(time.monotonic() - began, 1), state
        await asyncio.sleep(0.1)


async def bear(server: Server, kind: str, count: int, photo: Path) -> dict[str, Any]:
    """One crowd, until the server has cut it off."""
    before, log_before = server.state(), server.log.stat().st_size
    async with Crowd(kind, server.port, count, photo) as crowd, Others(server, photo.read_bytes()) as others:
        await crowd.come()
        most = server.state()["descriptors"]
        seconds, _ = await settled(server, before, _PATIENCE_S)
        cut_off = server.state()["descriptors"] <= before["descriptors"] + 2
        await asyncio.sleep(max(0.0, 2 * _OWN_WORK_S - seconds))
        report = others.report()
    _, after = await settled(server, before, 15)
    return {
        "clients": count,
        "all cut off after s": seconds if cut_off else None,
        "others": report,
        "before": before,
        "descriptors with the crowd": most,
        "after": after,
        "log KB": round((server.log.stat().st_size - log_before) / 1e3, 1),
    }


async def vanishing(server: Server, count: int, photo: Path) -> dict[str, Any]:
    """Clients that leave in the middle of an upload or of the wait for its answer, twice."""
    states = [server.state()]
    log_before = server.log.stat().st_size
    async with Others(server, photo.read_bytes()) as others:
        for _ in range(2):
            async with Crowd("vanished uploads", server.port, count, photo) as crowd:
                await crowd.come()
                await asyncio.sleep(_OWN_WORK_S)
            states.append((await settled(server, states[0], 15))[1])
        report = others.report()
    return {
        "clients": 2 * count,
        "others": report,
        "before": states[0],
        "after the first half": states[1],
        "after": states[2],
        "log KB": round((server.log.stat().st_size - log_before) / 1e3, 1),
    }


async def terminate(server: Server, kind: str, count: int, photo: Path) -> dict[str, Any]:
    """SIGTERM in a crowd, with eight requests under way."""
    async with Crowd(kind, server.port, count, photo) as crowd:
        await crowd.come()
        await asyncio.sleep(2)
        body = photo.read_bytes()
        asked = [asyncio.create_task(server.ask("/v1/poses", body)) for _ in range(8)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.process.wait, 120)
        seconds = time.monotonic() - began
        statuses = Counter(status for status, _ in await asyncio.gather(*asked))
    log = server.log.read_text()
    return {
        "seconds": round(seconds, 1),
        "exit code": code,
        "requests under way": dict(statuses),
        "tracebacks": log.count("Traceback"),
        "log KB": round(len(log) / 1e3, 1),
    }


async def warm(server: Server, photo: bytes) -> None:
    """Let the server come to the memory and threads that ordinary work takes."""
    for _ in range(5):
        await asyncio.gather(*(server.ask("/v1/poses?annotated=true", photo) for _ in range(20)))
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=server.context)
        writer.write(b"GET /v1/sources/walk/view HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read(1000)
        writer.close()

    async def follow() -> None:
        scheme = "ws" if server.context is None else "wss"
        async with connect(f"{scheme}://localhost:{server.port}/v1/stream", ssl=server.context, proxy=None) as session:
            await session.recv()
            for number in range(20):
                await session.send(struct.pack("<d", number / 10) + photo)
            for _ in range(20):
                await session.recv()

    await asyncio.gather(*(follow() for _ in range(16)))
    await server.ask("/metrics")
    await asyncio.sleep(7)


def make_inputs(folder: Path) -> tuple[Path, Path, Path]:
    """Make a photograph, small and large, a video of it, and a certificate with its key."""
    import skimage.data

    image = cv2.resize(np.ascontiguousarray(skimage.data.astronaut()[..., ::-1]), (1600, 1200))  # type: ignore[no-untyped-call]
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    photo, video, certificate = folder / "photo.jpg", folder / "walk.mp4", folder / "certificate.pem"
    cv2.imwrite(str(folder / "large.jpg"), np.clip(image + noise, 0, 255).astype(np.uint8))
    small = np.asarray(cv2.resize(image, (640, 480)))
    cv2.imwrite(str(photo), small)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 15, (640, 480))
    for shift in range(60):
        writer.write(np.roll(small, 2 * shift, axis=1))
    writer.release()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(certificate), "-out", str(folder / "chain.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    with certificate.open("ab") as file:
        file.write((folder / "chain.pem").read_bytes())
    return photo, video, certificate


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of it."""
    photo, video, certificate = make_inputs(folder)
    report: dict[str, Any] = {"crowds": {}, "SIGTERM": {}}
    async with serving(folder, video) as server:
        await warm(server, photo.read_bytes())
        async with Others(server, photo.read_bytes()) as others:
            await asyncio.sleep(20)
            report["nobody else"] = {"others": others.report(), "before": server.state()}
        print(f"nobody else: {report['nobody else']}", file=sys.stderr, flush=True)
        for kind in options.only or KINDS:
            report["crowds"][kind] = await bear(server, kind, options.clients, photo)
            print(f"{kind}: {report['crowds'][kind]}", file=sys.stderr, flush=True)
        report["crowds"]["vanished uploads"] = await vanishing(server, options.uploads, photo)
        print(f"vanished: {report['crowds']['vanished uploads']}", file=sys.stderr, flush=True)
        report["at the end of all of them"] = server.state()
        log = server.log.read_text()
        report["log of all of them"] = {"KB": round(len(log) / 1e3, 1), "tracebacks": log.count("Traceback")}
    async with serving(folder, video, certificate) as server:
        await warm(server, photo.read_bytes())
        for kind in _SECURE:
            report["crowds"][kind] = await bear(server, kind, options.tls_clients, photo)
            print(f"{kind}: {report['crowds'][kind]}", file=sys.stderr, flush=True)
    for kind in [] if options.only else CLIENTS:
        secure = kind in _SECURE
        count = options.tls_clients if secure else options.uploads if kind == "vanished uploads" else options.clients
        async with serving(folder, video, certificate if secure else None) as server:
            report["SIGTERM"][kind] = await terminate(server, kind, count, photo)
            print(f"SIGTERM, {kind}: {report['SIGTERM'][kind]}", file=sys.stderr, flush=True)
    return report


def tables(report: dict[str, Any]) -> str:
    """Return the report as two tables in Markdown."""
    lines = [
        "| clients | all cut off after | `/healthz` of others, median / p99 / max | poses, median / p99 / max "
        "| memory before / peak / after | descriptors before / with / after | threads before / after | log |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def ms(answers: dict[str, Any]) -> str:
        wrong = sum(n for status, n in answers["by status"].items() if status != "200")
        return (
            " / ".join(f"{value:.0f}" for value in answers["ms"].values())
            + " ms"
            + (f", {wrong} refused" if wrong else "")
        )

    for kind, one in {"nobody else": report["nobody else"], **report["crowds"]}.items():
        before, others, after = one["before"], one["others"], one.get("after", one["before"])
        lines.append(
            f"| {one.get('clients', '')} {kind} | {one.get('all cut off after s', '')} s | {ms(others['healthz'])} "
            f"| {ms(others['poses'])} "
            f"| {before['rss MB']:.0f} / {others['peak rss MB']:.0f} / {after['rss MB']:.0f} MB "
            f"| {before['descriptors']} / {one.get('descriptors with the crowd', '')} / {after['descriptors']} "
            f"| {before['threads']} / {after['threads']} | {one.get('log KB', 0)} KB |"
        )
    lines += [
        "",
        "| SIGTERM among | ends after | exit code | eight requests under way | tracebacks |",
        "|---|---|---|---|---|",
    ]
    for kind, one in report["SIGTERM"].items():
        under_way = ", ".join(f"{n} x {status}" for status, n in sorted(one["requests under way"].items()))
        lines.append(f"| {kind} | {one['seconds']} s | {one['exit code']} | {under_way} | {one['tracebacks']} |")
    return "\n".join(lines)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100, help="of each kind")
    parser.add_argument("--only", nargs="+", help="these kinds, and no SIGTERM")
    parser.add_argument("--tls-clients", type=int, default=1100)
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(measure(options, Path(folder)))
    publish(report, options.out / "server-faults.json")
    print(tables(report))


if __name__ == "__main__":
    main()
