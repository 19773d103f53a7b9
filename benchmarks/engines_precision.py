"""Which number format, how many threads, how large a batch, which engine: processor time and wall time of the network.

All variants take turns in one process. Processor time hardly depends on what else the machine does; wall time does.

    python benchmarks/engines_precision.py --model INT8.xml --onnx FLOAT.onnx --json FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any, get_args

import numpy as np
from reports import publish, spread

from featherpose.errors import FeatherposeError
from featherpose.runtime import EngineOptions, Precision, open_backend
from featherpose.zoo.resolve import resolve_model

SIZE = (456, 256)


def variants(model: Path, onnx: Path | None) -> dict[str, tuple[Path, EngineOptions, int]]:
    found: dict[str, tuple[Path, EngineOptions, int]] = {}
    for threads in (1, 2):
        for precision in get_args(Precision)[1:4]:
            name = f"INT8 file on OpenVINO, other layers {precision}, {threads} threads"
            found[name] = (model, EngineOptions(precision=precision, threads=threads), 1)
    for batch in (2, 4, 8):
        found[f"INT8 file on OpenVINO, other layers fp32, 2 threads, batch {batch}"] = (
            model,
            EngineOptions(precision="fp32", threads=2),
            batch,
        )
    if onnx is not None:
        for precision in get_args(Precision)[1:3]:
            name = f"float file on OpenVINO, {precision}, 2 threads"
            found[name] = (onnx, EngineOptions(precision=precision, threads=2, engine="openvino"), 1)
        found["float file on ONNX Runtime, fp32, 2 threads"] = (
            onnx,
            EngineOptions(precision="fp32", threads=2, engine="onnxruntime"),
            1,
        )
    return found


def wait_for_silence() -> None:
    """Wait until an engine's threads stop spinning, so that they do not count for the next measurement."""
    for _ in range(100):
        before = process_time()
        sleep(0.05)
        if process_time() - before < 0.002:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    spec = resolve_model(options.model).spec
    backends, refused = {}, {}
    for name, (path, engine, batch) in variants(options.model, options.onnx).items():
        try:
            backends[name] = (open_backend(path, spec, engine), batch)
        except FeatherposeError as error:
            refused[name] = str(error)
    rng = np.random.default_rng(0)
    wall: dict[str, list[float]] = {name: [] for name in backends}
    processor: dict[str, list[float]] = {name: [] for name in backends}
    for turn in range(options.rounds + 2):
        for name, (backend, batch) in backends.items():
            images = rng.integers(0, 256, (batch, SIZE[1], SIZE[0], 3), np.uint8)
            wait_for_silence()
            started, cpu = perf_counter(), process_time()
            backend.infer(images)
            if turn >= 2:
                wall[name].append(1e3 * (perf_counter() - started) / batch)
                processor[name].append(1e3 * (process_time() - cpu) / batch)

    def summary(values: list[float]) -> dict[str, float]:
        return {"min": round(min(values), 2), **spread(values)}

    report: dict[str, Any] = {
        "benchmark": "engines_precision",
        "model": options.model.name,
        "network_input": "x".join(map(str, SIZE)),
        "rounds": options.rounds,
        "ms_a_image": {name: {"wall": summary(wall[name]), "processor": summary(processor[name])} for name in backends},
        "refused": refused,
    }
    publish(report, options.json)


if __name__ == "__main__":
    main()
