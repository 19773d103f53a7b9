"""Give every hostile file of a folder to the command line and to a server, with little address space.

    python benchmarks/hostile_files.py ../shared/cases/hostile

Each file goes to the command that reads files of its kind, in a process that may have 2 GB of address space, and to
``POST /v1/poses`` of a server with the same limit, while another client asks for ``/healthz`` 20 times a second. The
table has the processor time and the peak of memory of each process minus those of the same command with a harmless file
(an image of one pixel, a skeleton that comes with featherpose, ...), since both load a network first.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from reports import publish

_ADDRESS_SPACE = 2 * 10**9
_COMMAND_S = 600.0  # by the clock, which counts what else the machine does; judged is processor time


def command_for(path: Path, folder: Path) -> list[str]:
    """Return the words of the command that reads a file, by its name."""
    kind = path.name.split("-")[1] if path.name.startswith("fz-") else ""
    if kind == "coco":
        return ["data", "check", str(path), "--images", str(folder)]
    if kind == "jsonl":
        return ["motion", str(path), "-o", str(folder / "motion")]
    if kind in ("skeleton", "skeletonj"):
        return ["data", "check", str(folder / "good.json"), "--images", str(folder), "--skeleton", str(path)]
    if kind == "train":
        return ["train", str(path), "--out", str(folder / "run")]
    return ["predict", str(path), "--jsonl", str(folder / "poses.jsonl"), "--height", "64", "-q"]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def by_command(path: Path, folder: Path) -> dict[str, Any]:
    """Run a command to its end."""
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "featherpose.cli.main", *command_for(path, folder)], preexec_fn=_limit,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=messages,
        )  # fmt: skip
        killer = threading.Timer(_COMMAND_S, process.kill)
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        killer.cancel()
        messages.seek(0)
        lines = messages.read().decode(errors="replace").splitlines()
    return {
        "exit": os.waitstatus_to_exitcode(status), "seconds": usage.ru_utime + usage.ru_stime,
        "mb": usage.ru_maxrss / 1024, "message": lines[-1][:300] if lines else "",
        "clear": not any("Traceback" in line or "internal error" in line for line in lines),
    }  # fmt: skip


class Server:
    """A server with a limit of address space, and a client that asks whether it lives."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "server.log").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "featherpose.cli.main", "serve", "--port", "0", "--height", "64"],
            preexec_fn=_limit, stderr=self._log, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            time.sleep(0.1)
            found = re.search(r":(\d+)/", (folder / "server.log").read_text())
            if found is not None:
                break
            if self.process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
        self.port = int(found[1])
        self.waits_ms: list[float] = []
        self._end = threading.Event()
        self._client = threading.Thread(target=self._ask)
        self._client.start()

    def _ask(self) -> None:
        while not self._end.wait(0.05):
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            connection.close()
            self.waits_ms.append(1000 * (time.perf_counter() - began))

    def peak_mb(self) -> float:
        """Return the most memory since the last call."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        found = re.search(r"VmHWM:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else 0.0

    def processor_s(self) -> float:
        """Return the processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def post(self, path: Path) -> dict[str, Any]:
        """Send a file."""
        before_mb, before_s, first = self.resident_mb(), self.processor_s(), len(self.waits_ms)
        self.peak_mb()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v1/poses", path.read_bytes(), {"Content-Type": "application/octet-stream"})
        status = connection.getresponse().status
        connection.close()
        time.sleep(0.15)
        waits = self.waits_ms[first:] or [0.0]
        return {
            "status": status, "seconds": self.processor_s() - before_s, "mb": max(0.0, self.peak_mb() - before_mb),
            "others_ms": max(waits),
        }  # fmt: skip

    def resident_mb(self) -> float:
        """Return the memory of this moment."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def close(self) -> int:
        """End the server and return its exit code."""
        self._end.set()
        self._client.join()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def harmless(folder: Path) -> dict[str, Path]:
    """Make a file of each kind without harm."""
    from featherpose.skeleton import OPENPOSE_18

    cv2.imwrite(str(folder / "good.png"), np.zeros((64, 64, 3), np.uint8))
    value: dict[str, list[object]] = {"images": [], "annotations": [], "categories": []}
    (folder / "good.json").write_text(json.dumps(value))
    (folder / "fz-coco-good.json").write_text(json.dumps(value))
    (folder / "fz-skeleton-good.json").write_text(json.dumps(OPENPOSE_18.to_dict()))
    (folder / "fz-jsonl-good.jsonl").write_text("")
    (folder / "fz-train-good.toml").write_text("")
    return {
        "": folder / "good.png", "coco": folder / "fz-coco-good.json", "skeleton": folder / "fz-skeleton-good.json",
        "skeletonj": folder / "fz-skeleton-good.json", "jsonl": folder / "fz-jsonl-good.jsonl",
        "train": folder / "fz-train-good.toml",
    }  # fmt: skip


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, help="folder of hostile files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in harmless(folder).values():  # the first run of a command may compile kernels and networks
            by_command(path, folder)
        base = {kind: by_command(path, folder) for kind, path in harmless(folder).items()}
        server = Server(folder)
        server.post(folder / "good.png")
        for path in sorted(options.files.iterdir()):
            kind = path.name.split("-")[1] if path.name.startswith("fz-") else ""
            one = by_command(path, folder)
            one["seconds"] = max(0.0, one["seconds"] - base[kind]["seconds"])
            one["mb"] = max(0.0, one["mb"] - base[kind]["mb"])
            rows.append({"file": path.name, "command": one, "server": server.post(path)})
            print(json.dumps(rows[-1]), flush=True)
        code = server.close()
    report = {"address_space": _ADDRESS_SPACE, "rows": rows, "server_exit": code, "harmless": base}
    publish(report, options.out / "hostile_files.json")
    print("| file | command | processor time | memory | server | processor time | memory | others waited |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        one, two = row["command"], row["server"]
        print(
            f"| {row['file']} | {one['exit']} | {one['seconds']:.2f} s | {one['mb']:.0f} MB | {two['status']} | "
            f"{two['seconds']:.2f} s | {two['mb']:.0f} MB | {two['others_ms']:.0f} ms |"
        )


if __name__ == "__main__":
    main()
