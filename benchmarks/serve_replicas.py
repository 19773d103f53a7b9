"""Two replicas of the server on Ray Serve at twice their capacity, one of them killed in the middle.

    python benchmarks/serve_replicas.py [--data ../shared] [--seconds 180] [--kill-at 60] [--out benchmarks/results]

Starts Ray on this machine with two replicas of one core each and sends photographs through its proxy. Capacity is what
a few connections that always ask again get answered. Then requests come at twice that rate whatever becomes of them,
and one replica gets SIGKILL. Counted are the requests without a proper answer (neither 200 nor 503), when they ended,
how many the killed replica can have held, and the time until two replicas run and until as many requests a second are
answered as before. Load tool, proxy, Ray's own processes and replicas share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from reports import publish
from server_load import Client, closed_loop, load_images, open_loop

from featherpose.cluster.serving import ReplicaOptions, Served, serve
from featherpose.server.options import ServeLimits, ServeOptions

_RECOVERED = 0.9  # of the answers a second before


def replicas() -> list[psutil.Process]:
    """Return the processes of the replicas, the oldest first."""
    found = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        line = process.info["cmdline"] or [""]
        if line[0].startswith("ray::ServeReplica:featherpose:"):
            found.append(process)
    return sorted(found, key=lambda process: float(process.info["create_time"]))


async def kill_one(server: Served, client: Client, at_s: float) -> dict[str, Any]:
    """Kill the older replica after a while, and time how long it takes until there are two again."""
    await asyncio.sleep(at_s)
    victim = replicas()[0]
    killed, under_way = perf_counter(), client.under_way
    victim.kill()
    await asyncio.sleep(1)
    # Ray Serve may still count the killed one: two running processes are what counts, and that both are ready.
    while sum(process.pid != victim.pid for process in replicas()) < 2:
        await asyncio.sleep(0.2)
    started_s = perf_counter() - killed
    while (await asyncio.to_thread(server.replicas)).get("RUNNING", 0) < 2:
        await asyncio.sleep(0.2)
    return {"at": killed, "under way": under_way, "process s": started_s, "running s": perf_counter() - killed}


def answered(ended: list[tuple[float, str]], first: float, last: float) -> float:
    """Return the answers a second between two times."""
    return sum(first <= at < last for at, outcome in ended if outcome == "200") / (last - first)


def recovery_s(ended: list[tuple[float, str]], killed: float, before_hz: float, end: float) -> float | None:
    """Return how long after the kill ten seconds begin that have nearly as many answers as before."""
    for begin in np.arange(killed, end - 10, 0.5):
        if answered(ended, float(begin), float(begin) + 10) >= _RECOVERED * before_hz:
            return round(float(begin) - killed, 1)
    return None


async def measure(options: argparse.Namespace, server: Served, port: int) -> dict[str, Any]:
    """Capacity, overload with the kill, capacity."""
    client = Client(port, load_images(options.data))
    await closed_loop(client, options.connections, 10)
    tally, seconds = await closed_loop(client, options.connections, options.capacity_seconds)
    capacity = tally.report(seconds)
    capacity_hz = capacity["answered a second"]
    print(f"capacity {capacity_hz} a second", file=sys.stderr)
    began = perf_counter()
    killing = asyncio.create_task(kill_one(server, client, options.kill_at))
    tally, seconds, _ = await open_loop(client, 2 * capacity_hz, options.seconds, psutil.Process())
    end = perf_counter()
    kill = await asyncio.wait_for(killing, 120)
    ended, killed = tally.ended, kill["at"]
    wrong = [(at, outcome) for at, outcome in ended if outcome not in ("200", "503")]
    before_hz = answered(ended, began + 5, killed)
    tally_after, seconds_after = await closed_loop(client, options.connections, options.capacity_seconds)
    return {
        "capacity": capacity,
        "twice the capacity": tally.report(seconds) | {"offered a second": round(2 * capacity_hz, 2)},
        "killed after s": round(killed - began, 1),
        "neither 200 nor 503": dict(Counter(outcome for _, outcome in wrong)),
        "of them before the kill": sum(at < killed for at, _ in wrong),
        "s after the kill, the last of them": round(max((at - killed for at, _ in wrong), default=0.0), 2),
        "requests under way at the kill, both replicas and proxy": kill["under way"],
        "s to a new process": round(kill["process s"], 1),
        "s to two running replicas": round(kill["running s"], 1),
        "s to nine tenths of the answers a second": recovery_s(ended, killed, before_hz, end),
        "answered a second before / after": [round(before_hz, 2), round(answered(ended, end - 30, end), 2)],
        "capacity afterwards": tally_after.report(seconds_after),
    }


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--kill-at", type=float, default=60)
    parser.add_argument("--capacity-seconds", type=float, default=20)
    parser.add_argument("--connections", type=int, default=6, help="of the closed loop")
    parser.add_argument("--queue", type=int, default=ServeLimits().queue, help="requests that wait in each replica")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = ServeOptions(port=port, quality="fast", limits=ServeLimits(queue=options.queue))
    started = time.monotonic()
    with serve(serving, replicas=ReplicaOptions(least=2, most=2)) as server:
        start_s = time.monotonic() - started
        report = asyncio.run(measure(options, server, port))
    report |= {"s to start": round(start_s, 1), "queue of each replica": options.queue}
    publish(report, options.out / "serve_replicas.json")


if __name__ == "__main__":
    main()
