"""Fuzz every reader of featherpose and the server.

    python benchmarks/fuzz.py --inputs 50000 --out /tmp/fuzz

Each worker is a process of its own that reads mutated inputs one after another; input number i of a target depends on
the seed, the target and i alone. A worker that takes more than a minute for one input, more memory than allowed, or
ends, is a fault of that input, and another one goes on behind it. What was done is kept in OUT, so that a run that was
ended goes on where it was. Faults are kept as files; ``--again`` gives those inputs to the code as it is now.

The table counts inputs read, refused (a `FeatherposeError`) and at fault, in five ways: an exception of another kind,
the end of the process, a hang, more than two seconds of processor time, more than a gigabyte.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent / "tests/support"))

from fuzz_targets import TARGETS  # noqa: E402 - beside the tests

_HANG_S, _SLOW_MS, _LARGE_MB = 60.0, 2000, 1024
_CHUNK = 250
# Share of the inputs: what strangers send, and what has the most code behind it, gets most.
_SHARES = {"images": 12, "COCO annotations": 6, "HTTP": 3, "videos": 3, "WebSocket": 1, "model graphs": 2,
           "checkpoints": 3}  # fmt: skip


@dataclass
class Tally:
    """What became of the inputs of one target."""

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    largest_mb: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    total_ms: float = 0.0

    def add(self, answer: dict[str, Any]) -> None:
        """Count one input."""
        self.tried += 1
        self.outcomes[answer["result"]] += 1
        self.total_ms += answer.get("ms", 0.0)
        self.slowest_ms = max(self.slowest_ms, answer.get("ms", 0.0))
        self.largest_mb = max(self.largest_mb, answer.get("mb", 0.0))
        self.retried += bool(answer.get("again"))
        if answer["result"] not in ("read", "refused"):
            self.faults[answer.get("where", answer["result"])] += 1


class Worker:
    """A process that reads inputs; its answers arrive in a queue."""

    def __init__(self, target: str, seed: int, folder: Path) -> None:
        arguments = [sys.executable, str(_HERE / "fuzz_worker.py"), target, str(seed), str(folder)]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def run(self, first: int, last: int, patience_s: float) -> tuple[list[dict[str, Any]], str]:
        """Answers of inputs first to last - 1 as far as they came, and why no more came (empty: all did)."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{first} {last}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return [], "crash"
        found: list[dict[str, Any]] = []
        while len(found) < last - first:
            try:
                line = self.answers.get(timeout=patience_s)
            except queue.Empty:
                return found, "hang"
            if not line:
                code = self.process.wait()
                return found, "memory" if code == 77 else f"crash ({signal.Signals(-code).name if code < 0 else code})"
            found.append(json.loads(line))
            patience_s = _HANG_S
        return found, ""

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def fuzz_target(target: str, count: int, seed: int, out: Path, report: Any) -> Tally:
    """Bring a target to ``count`` inputs, from where the state in ``out`` says it is."""
    state = _state(out, target, seed)
    tally = Tally()
    for line in state.read_text().splitlines() if state.exists() else []:
        tally.add(json.loads(line))
    worker: Worker | None = None
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(state.open("a"))
        stack.callback(lambda: worker.close() if worker is not None else None)
        while tally.tried < count:
            fresh = worker is None
            if worker is None:
                worker = Worker(target, seed, _folder(out, target))
            last = min(count, tally.tried + _CHUNK)
            answers, end = worker.run(tally.tried, last, 300.0 if fresh else _HANG_S)
            if end and not answers and fresh and tally.tried == 0:
                raise SystemExit(f"the worker of {target} does not start ({end})")
            if end:
                answers.append({"result": end.split(" ")[0], "where": end})
                worker.close()
                worker = None
            for answer in answers:
                tally.add(answer)
                log.write(json.dumps(answer) + "\n")
            log.flush()
            report()
    return tally


def retry_faults(target: str, seed: int, out: Path) -> int:
    """Give the inputs that were at fault to the code as it is now; the state says then what became of them."""
    state = _state(out, target, seed)
    lines = state.read_text().splitlines() if state.exists() else []
    faulty = [n for n, line in enumerate(lines) if json.loads(line)["result"] not in ("read", "refused")]
    for number in faulty:
        worker = Worker(target, seed, _folder(out, target))
        answers, end = worker.run(number, number + 1, 300.0)
        worker.close()
        lines[number] = json.dumps({**(answers or [{"result": end.split(" ")[0], "where": end}])[0], "again": True})
    if faulty:
        state.write_text("\n".join(lines) + "\n")
    return len(faulty)


def _state(out: Path, target: str, seed: int) -> Path:
    return out / f"{target.replace(' ', '-')}-{seed}.jsonl"


def _folder(out: Path, target: str) -> Path:
    folder = out / "work" / target.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def as_report(tallies: dict[str, Tally], seed: int) -> dict[str, Any]:
    """Return the figures for the report."""
    rows = []
    for target, tally in tallies.items():
        counts = tally.outcomes
        rows.append({
            "target": target, "inputs": tally.tried, "read": counts["read"], "refused": counts["refused"],
            "internal_errors": counts["error"], "crashes": counts["crash"], "hangs": counts["hang"],
            "slow": counts["slow"], "large": counts["large"] + counts["memory"],
            "slowest_ms": round(tally.slowest_ms), "largest_mb": round(tally.largest_mb),
            "tried_again": tally.retried, "faults": dict(tally.faults.most_common(20)),
        })  # fmt: skip
    seconds = sum(tally.total_ms for tally in tallies.values()) / 1000
    return {
        "seed": seed, "inputs": sum(row["inputs"] for row in rows), "processor_s": round(seconds),
        "limits": {"slow_ms": _SLOW_MS, "large_mb": _LARGE_MB, "hang_s": _HANG_S},
        "cores": psutil.cpu_count(), "targets": rows,
    }  # fmt: skip


def print_report(report: dict[str, Any]) -> None:
    columns = ("inputs", "read", "refused", "internal_errors", "crashes", "hangs", "slow", "large", "slowest_ms",
               "largest_mb")  # fmt: skip
    print("\t".join(("target", *columns)))
    for row in report["targets"]:
        print("\t".join((row["target"], *(str(row[c]) for c in columns))))
    for row in report["targets"]:
        for where, count in row["faults"].items():
            print(f"{row['target']}: {count} x {where}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=50_000, help="inputs over all targets")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS), metavar="TARGET")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="state and faulty inputs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--minutes", type=float, help="end after this time, to go on later")
    parser.add_argument("--again", action="store_true", help="try the inputs again that were at fault")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    shares = {target: _SHARES.get(target, 2) for target in options.targets}
    tallies: dict[str, Tally] = {}
    waiting: queue.Queue[str] = queue.Queue()
    for target in options.targets:
        waiting.put(target)

    def over() -> None:
        if options.minutes and time.monotonic() - started > options.minutes * 60:
            raise TimeoutError

    def work() -> None:
        while True:
            try:
                target = waiting.get_nowait()
            except queue.Empty:
                return
            count = round(options.inputs * shares[target] / sum(shares.values()))
            try:
                if options.again:
                    retry_faults(target, options.seed, options.out)
                tallies[target] = fuzz_target(target, count, options.seed, options.out, over)
            except TimeoutError:
                tallies[target] = fuzz_target(target, 0, options.seed, options.out, lambda: None)

    threads = [threading.Thread(target=work) for _ in range(options.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = as_report({t: tallies[t] for t in options.targets if t in tallies}, options.seed)
    print_report(report)
    missing = [target for target in options.targets if target not in tallies]
    if missing:
        print(f"not tried, because their workers did not start: {', '.join(missing)}")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    # Threads of dead workers may still wait for their pipes.
    sys.stdout.flush()
    os._exit(1 if missing or any(row["faults"] for row in report["targets"]) else 0)


if __name__ == "__main__":
    main()
