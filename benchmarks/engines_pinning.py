"""Inference threads bound to cores or free to move: the same network in turns, on the machine as busy as it is.

python benchmarks/engines_pinning.py --model MODEL.xml --json benchmarks/results/engines_pinning.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
import openvino as ov
from engines_shapes import build
from reports import publish, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    core, requests = ov.Core(), {}
    for pinned in (True, False):
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": options.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": pinned,
        }
        compiled = core.compile_model(build(options.model, [-1, 3, -1, -1]), "CPU", settings)
        requests[pinned] = compiled.create_infer_request()
    image = ov.Tensor(np.zeros((1, 256, 456, 3), np.uint8))
    times: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(options.rounds + 3):
        for pinned, request in requests.items():
            request.set_input_tensor(image)
            started = perf_counter()
            request.start_async()
            request.wait()
            if turn >= 3:
                times[pinned].append(1e3 * (perf_counter() - started))
    report = {
        "benchmark": "engines_pinning",
        "model": options.model.name,
        "threads": options.threads,
        "pinned_ms": spread(times[True]),
        "free_ms": spread(times[False]),
        "median_ratio_pinned_to_free": round(float(np.median(np.array(times[True]) / np.array(times[False]))), 3),
    }
    publish(report, options.json)


if __name__ == "__main__":
    main()
