"""Throughput of process_stream against the plain loop of the same parts, on a real video.

    python benchmarks/stream.py [--data ../shared] [--out benchmarks/results] [--repeats 5]

Both run in turn, and the ratio of neighbours is reported, so that a machine that is busy with something else slows
both. ``of the cores`` is frames a second times the core-seconds a frame takes, divided by the cores: 1 means that no
core ever waited; it only says something on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from featherpose.estimator import PoseEstimator
from featherpose.evaluation.machine import machine_facts
from featherpose.media.sources import open_source
from featherpose.stream import StreamOptions, process_stream
from featherpose.tracking import PoseTracker


def _plain(video: Path, estimator: PoseEstimator) -> int:
    tracker, frames = PoseTracker(), 0
    with open_source(video) as source:
        for frame in source:
            tracker.update(estimator(frame.image), frame.timestamp_s)
            frames += 1
    return frames


def _stream(video: Path, estimator: PoseEstimator) -> int:
    with open_source(video) as source:
        return sum(1 for _ in process_stream(source, estimator, PoseTracker()))


def _newest(video: Path, estimator: PoseEstimator) -> dict[str, float]:
    with open_source(video) as source:
        options = StreamOptions(policy="newest", in_flight=1)
        ages = [(r.age_ms, r.dropped) for r in process_stream(source, estimator, PoseTracker(), options=options)]
    age = [a for a, _ in ages]
    return {
        "results": len(ages),
        "dropped": ages[-1][1],
        "age median ms": round(median(age), 1),
        "age p95 ms": round(float(np.percentile(age, 95)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    model = options.data / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
    video = options.data / "data/videos/two-people.mp4"
    cores = len(os.sched_getaffinity(0))
    runs: dict[str, list[dict[str, float]]] = {"plain loop": [], "process_stream": []}
    with PoseEstimator(model) as estimator:
        estimator.warm_up()
        _plain(video, estimator)
        for _ in range(options.repeats):
            for name, run in (("plain loop", _plain), ("process_stream", _stream)):
                started, cpu = perf_counter(), process_time()
                frames = run(video, estimator)
                seconds, cpu = perf_counter() - started, process_time() - cpu
                runs[name].append(
                    {
                        "fps": round(frames / seconds, 2),
                        "core_ms a frame": round(1e3 * cpu / frames, 2),
                        "of the cores": round(cpu / seconds / cores, 3),
                    }
                )
        newest = _newest(video, estimator)
    ratios = [s["fps"] / p["fps"] for p, s in zip(runs["plain loop"], runs["process_stream"], strict=True)]
    report = {
        "video": video.name,
        "model": model.name,
        "height": 256,
        "runs": runs,
        "process_stream / plain loop, median": round(median(ratios), 3),
        "newest, source outruns the machine": newest,
        "load average at the end": os.getloadavg()[0],
        "machine": machine_facts(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "stream.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
