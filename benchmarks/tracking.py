"""Tracking: time a frame, quality on rendered scenes and real videos, and what smoothing costs.

    python benchmarks/tracking.py speed scenes smoothing videos [--data ../shared] [--out benchmarks/results]

Each part writes ``tracking-<part>.json``; ``smoothing`` also draws ``tracking-smoothing.png``. Scenes have seeds under
1000; the tracker's defaults were chosen on seeds from 1000 on. ByteTrack's thresholds were set to what served it best
on those, too.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np

from featherpose.evaluation.performance.machine import machine_facts
from featherpose.evaluation.tracking.detector_noise import released_errors
from featherpose.evaluation.tracking.evaluate import TRACKERS, compare_on_scenes, count_ids, track_all
from featherpose.evaluation.tracking.scenes import render_scene
from featherpose.evaluation.tracking.simulate import detect
from featherpose.evaluation.tracking.smoothing import measure_smoothing, plot_smoothing
from featherpose.tracking import PoseSmoother, SmoothOptions

_SPEED_PEOPLE = (5, 20, 100)
# Counted by eye from the images.
_VIDEOS = {"one-by-one.mp4": 6, "two-people.mp4": None, "store-aisle.gif": None}


def speed() -> dict[str, Any]:
    """Milliseconds a frame, tracker and smoother together, beside the other trackers on the same detections.

    All of them work in one thread; the processor time of that thread stands beside the wall clock, because it holds on
    a machine that is busy with something else, too.
    """
    out = {}
    for people in _SPEED_PEOPLE:
        scene = render_scene("crowd", people, seed=0, seconds=8)
        frames = list(zip(scene.timestamps_s.tolist(), detect(scene, released_errors(), seed=0), strict=True))
        times: dict[str, list[float]] = {name: [] for name in (*TRACKERS, "featherpose + smoothing")}
        cpu: dict[str, list[float]] = {name: [] for name in times}
        for name in times:
            for repeat in range(2):  # the first is the warm-up
                tracker = TRACKERS[name.removesuffix(" + smoothing")]()
                smoother = PoseSmoother() if name.endswith("smoothing") else None
                for timestamp_s, poses in frames:
                    started, cpu_started = perf_counter(), thread_time()
                    tracked = tracker.update(poses, timestamp_s)
                    if smoother is not None:
                        smoother.update(tracked, timestamp_s)
                    if repeat:
                        cpu[name].append(1e3 * (thread_time() - cpu_started))
                        times[name].append(1e3 * (perf_counter() - started))
        out[str(people)] = {
            "detections": round(float(np.mean([len(p) for _, p in frames])), 1),
            "wall ms": {name: _spread(t) for name, t in times.items()},
            "processor ms": {name: _spread(t) for name, t in cpu.items()},
        }
    return {"people": out}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(float(np.median(values)), 4), "p95": round(float(np.percentile(values, 95)), 4)}


def scenes() -> dict[str, Any]:
    """HOTA, IDF1, switches by scene family."""
    scores = compare_on_scenes()
    return {
        "families": {f: {n: s.summary() for n, s in by.items()} for f, by in scores.items()},
        "seeds": 4,
        "seconds": 10,
    }


def smoothing(out: Path) -> dict[str, Any]:
    """Trembling and delay of a grid of settings, and the plot."""
    grid = [SmoothOptions(min_cutoff_hz=c, beta=b) for c in (0.5, 1.0, 1.5, 3.0) for b in (0.0, 0.5, 1.0, 2.0, 5.0)]
    costs = measure_smoothing(grid)
    plot_smoothing(costs, out / "tracking-smoothing.png")
    return {"settings": [asdict(cost) for cost in costs], "default": asdict(SmoothOptions())}


def videos(data: Path) -> dict[str, Any]:
    """How many ids each tracker gives on real videos."""
    from featherpose.estimator import PoseEstimator
    from featherpose.media.sources.find import open_source

    model = data / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
    out: dict[str, Any] = {}
    with PoseEstimator(model) as estimator:
        for name, people in _VIDEOS.items():
            with open_source(data / "data/videos" / name) as video:
                found = [(frame.timestamp_s, estimator(frame.image)) for frame in video]
            ids = {tracker: count_ids(track_all(make(), found)) for tracker, make in TRACKERS.items()}
            out[name] = {"frames": len(found), "people counted by eye": people, "ids": ids}
    return {"model": model.name, "height": 256, "videos": out}


def _measure(part: str, data: Path, out: Path) -> dict[str, Any]:
    if part == "speed":
        return speed()
    if part == "scenes":
        return scenes()
    return smoothing(out) if part == "smoothing" else videos(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("speed", "scenes", "smoothing", "videos"))
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        figures = _measure(part, options.data, options.out)
        text = json.dumps({**figures, "machine": machine_facts()}, indent=1)
        (options.out / f"tracking-{part}.json").write_text(text + "\n")
        print(part, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
