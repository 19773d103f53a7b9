"""How to serve images of many sizes: one model with open sizes, or a compiled shape for each size.

Every strategy runs in a process of its own: 200 images of random aspect ratios at one input height, each size once
in a row, then one size 40 times (a video). Reported: compilations, time of a first image of a size, time of a
repeated size, memory.

    python benchmarks/engines_shapes.py --model MODEL.xml --json benchmarks/results/engines_shapes.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import openvino as ov
import psutil
from openvino import preprocess as ov_preprocess
from reports import publish, spread

STRATEGIES = {
    "open sizes, one compilation": "open",
    "static shapes, the last 8 kept": "lru8",
    "static shapes, all kept": "all",
    "static shapes in steps of 64 pixels, all kept": "bucket",
}
HEIGHT = 256


def build(model_path: Path, shape: list[int]) -> Any:
    model = ov.Core().read_model(model_path)
    model.reshape(shape)
    steps = ov_preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    return steps.build()


def measure(strategy: str, model_path: Path, threads: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    # Aspect ratios from portrait to panorama, as a folder of photographs has them.
    widths = [int(-(-HEIGHT * aspect // 8) * 8) for aspect in rng.uniform(0.5, 2.4, 200)]
    process = psutil.Process()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = ov.Core()
    compiled: OrderedDict[int, Any] = OrderedDict()
    compilations = 0
    before = process.memory_info().rss

    def request_for(width: int) -> tuple[Any, int]:
        nonlocal compilations
        if strategy == "open":
            key, shape, run_width = -1, [-1, 3, -1, -1], width
        else:
            run_width = -(-width // 64) * 64 if strategy == "bucket" else width
            key, shape = run_width, [1, 3, HEIGHT, run_width]
        if key not in compiled:
            compilations += 1
            compiled[key] = core.compile_model(build(model_path, shape), "CPU", settings).create_infer_request()
            if strategy == "lru8" and len(compiled) > 8:
                compiled.popitem(last=False)
        compiled.move_to_end(key)
        return compiled[key], run_width

    def run(width: int) -> tuple[float, float]:
        wall, cpu = perf_counter(), process_time()
        request, run_width = request_for(width)
        image = np.zeros((1, HEIGHT, run_width, 3), np.uint8)
        request.set_input_tensor(ov.Tensor(image, shared_memory=True))
        request.infer()
        return 1e3 * (perf_counter() - wall), 1e3 * (process_time() - cpu)

    memory, seen = [], set()
    first: list[tuple[float, float]] = []
    for width in widths:
        times = run(width)
        if width not in seen:
            first.append(times)
        seen.add(width)
        memory.append(process.memory_info().rss)
    run(456)
    repeated = [run(456) for _ in range(40)]
    return {
        "sizes": len(seen),
        "compilations": compilations,
        "first_image_of_a_size_ms": spread([wall for wall, _ in first]),
        "first_image_of_a_size_cpu_ms": spread([cpu for _, cpu in first]),
        "repeated_size_ms": spread([wall for wall, _ in repeated]),
        "repeated_size_cpu_ms": spread([cpu for _, cpu in repeated]),
        "memory_grown_mb": {
            str(count): round((memory[count - 1] - before) / 2**20) for count in (1, 20, 60, 100, 150, 200)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--strategy", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.strategy:
        print(json.dumps(measure(options.strategy, options.model, options.threads)))
        return
    results = {}
    for name, key in STRATEGIES.items():
        command = [sys.executable, __file__, "--model", str(options.model), "--threads", str(options.threads)]
        done = subprocess.run([*command, "--strategy", key], check=True, capture_output=True, text=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    report = {"model": options.model.name, "height": HEIGHT, "threads": options.threads, "strategies": results}
    publish(report, options.json)


if __name__ == "__main__":
    main()
