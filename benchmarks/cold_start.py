"""From a cold process to the first pose: ``featherpose predict`` on one image, everything included.

Each run is a process of its own: Python, imports, engine, model, network, decoder, JSON Lines. The decoder's kernels
were compiled by a run before (the first run ever compiles them once), files are in the system's cache.

    python benchmarks/cold_start.py IMAGE --model MODEL.xml --json benchmarks/results/cold_start.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from featherpose.evaluation.performance.machine import machine_facts


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident megabytes (10⁶ bytes) of a process."""
    started = perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "poses.jsonl"
        command = [
            sys.executable, "-m", "featherpose.cli.main", "predict", str(options.image),
            "--model", str(options.model), "--height", str(options.height), "--jsonl", str(out),
        ]  # fmt: skip
        run(command)
        people = len(json.loads(out.read_text().splitlines()[0])["people"])
        figures = [run(command) for _ in range(options.runs)]
        python = [run([sys.executable, "-c", "pass"])[0] for _ in range(options.runs)]
    seconds, memory = (np.array(values) for values in zip(*figures, strict=True))
    result = {
        "what": "featherpose predict IMAGE --jsonl, from a cold process, kernels compiled before",
        "image": options.image.name,
        "people": people,
        "model": options.model.stem,
        "height": options.height,
        "runs": options.runs,
        "seconds": {"median": round(float(np.median(seconds)), 3), "p95": round(float(np.percentile(seconds, 95)), 3)},
        "peak_memory_mb": {"median": round(float(np.median(memory)), 1), "max": round(float(memory.max()), 1)},
        "python_alone_seconds": round(float(np.median(python)), 3),
        "machine": machine_facts(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
