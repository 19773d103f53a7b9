"""Throughput of process_stream on a real video: against the plain loop of the same parts, and against the cores.

    python benchmarks/stream.py [--data ../shared] [--out benchmarks/results] [--repeats 5] [--videos VIDEO ...]

Each round runs, one after the other, on the same video (its first twelve seconds):

- *plain loop*: read, estimate, track, one after the other; the network on all cores;
- *process_stream*: the same parts with the same estimator, overlapped;
- *process_stream, side by side*: with the network as `featherpose predict` runs it on files, an inference on each core.

The ratios are taken within each round, so that a machine that is busy with something else slows both. Reading is in
all of them: the video is decompressed from its file each time.

What the cores allow: each stage is run alone, and the processor time that it takes for a frame is taken, the network's
with one inference on one core. Cores divided by the sum of these is the bound; ``of the bound`` is the share reached.
``busy`` is the processor time of a run divided by its duration and the cores: it says whether a core ever waited, but
counts threads that spin as busy.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from reports import publish

from featherpose.estimator import PoseEstimator
from featherpose.media.sources.find import open_source
from featherpose.preprocess import prepare
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.stream import StreamOptions, process_stream
from featherpose.tracking import PoseTracker, warm_up
from featherpose.zoo.resolve import ResolvedModel, resolve_model

_RELEASED = "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
# Frames on which the stages are run alone; they are held in memory.
_STAGE_FRAMES = 60
_END_S = 12.0


def plain(video: Path, estimator: PoseEstimator) -> int:
    tracker, frames = PoseTracker(), 0
    with open_source(video, end=_END_S) as source:
        for frame in source:
            tracker.update(estimator(frame.image), frame.timestamp_s)
            frames += 1
    return frames


def streamed(video: Path, estimator: PoseEstimator, options: StreamOptions) -> int:
    with open_source(video, end=_END_S) as source:
        return sum(1 for _ in process_stream(source, estimator, PoseTracker(), options=options))


def core_ms(work: Callable[[], object], frames: int, repeats: int) -> float:
    """Processor time that the whole process takes for a frame, milliseconds; the least of a few runs."""
    spent = []
    for _ in range(repeats):
        began = process_time()
        work()
        spent.append(1e3 * (process_time() - began) / frames)
    return min(spent)


def stages(video: Path, model: ResolvedModel, height: int, repeats: int) -> dict[str, float]:
    """Core-milliseconds a frame of each stage, run alone."""
    with open_source(video, end=_END_S) as source:
        frames = list(source)
    some = frames[:: max(1, len(frames) // _STAGE_FRAMES)]
    spec = model.spec

    def inputs() -> list[Any]:
        return [
            prepare(f.image, height=height, size_multiple=spec.size_multiple, pad_value=spec.pad_value) for f in some
        ]

    def read() -> int:
        with open_source(video, end=_END_S) as source:
            return sum(1 for _ in source)

    def exhaust(values: Iterable[object]) -> None:
        for _ in values:
            pass

    prepared = inputs()
    decoder = spec.decoder()
    backend = open_backend(model.path, spec, EngineOptions(threads=1))
    try:
        maps = [backend.infer(image)[0] for image, _ in prepared]
        poses = [decoder(m, box) for m, (_, box) in zip(maps, prepared, strict=True)]

        def track() -> None:
            tracker = PoseTracker()
            exhaust(tracker.update(p, f.timestamp_s) for p, f in zip(poses, some, strict=True))

        n = len(some)
        return {
            "read": core_ms(read, len(frames), repeats),
            "prepare": core_ms(inputs, n, repeats),
            "infer": core_ms(lambda: exhaust(backend.infer(image) for image, _ in prepared), n, repeats),
            "decode": core_ms(lambda: exhaust(map(decoder, maps, [box for _, box in prepared])), n, repeats),
            "track": core_ms(track, n, repeats),
        }
    finally:
        backend.close()


def measure(video: Path, model: ResolvedModel, height: int, repeats: int, cores: int) -> dict[str, Any]:
    """All of it on one video."""
    alone = stages(video, model, height, max(3, repeats // 2))
    bound_fps = 1e3 * cores / sum(alone.values())
    runs: dict[str, list[dict[str, float]]] = {
        "plain loop": [], "process_stream": [], "process_stream, side by side": [],
    }  # fmt: skip
    side_by_side = EngineOptions(num_streams=max(2, cores))
    with (
        PoseEstimator(model, height=height) as estimator,
        PoseEstimator(model, height=height, engine=side_by_side) as several,
    ):
        kinds: tuple[Callable[[], int], ...] = (
            lambda: plain(video, estimator),
            lambda: streamed(video, estimator, StreamOptions()),
            lambda: streamed(video, several, StreamOptions(in_flight=side_by_side.num_streams + 2)),
        )
        for repeat in range(repeats + 1):
            for name, run in zip(runs, kinds, strict=True):
                began, cpu = perf_counter(), process_time()
                frames = run()
                seconds, cpu = perf_counter() - began, process_time() - cpu
                if repeat:  # the first round is the warm-up
                    runs[name].append(
                        {
                            "fps": round(frames / seconds, 2),
                            "of the bound": round(frames / seconds / bound_fps, 3),
                            "core ms a frame": round(1e3 * cpu / frames, 2),
                            "busy": round(cpu / seconds / cores, 3),
                        }
                    )
    loop = [r["fps"] for r in runs["plain loop"]]
    return {
        "frames": frames,
        "core ms a frame of each stage alone": {stage: round(ms, 3) for stage, ms in alone.items()},
        "what the cores allow, fps": round(bound_fps, 2),
        "median": {
            name: {key: round(median(r[key] for r in some), 3) for key in some[0]} for name, some in runs.items()
        },
        "ratio to the plain loop": {
            name: {"median": round(median(ratios), 3), "least": round(min(ratios), 3)}
            for name, some in runs.items()
            if name != "plain loop" and (ratios := [r["fps"] / p for r, p in zip(some, loop, strict=True)])
        },
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", help="the released INT8 network unless given")
    parser.add_argument(
        "--videos", type=Path, nargs="+", help="two-people.mp4 and one-by-one.mp4 of --data unless given"
    )
    parser.add_argument("--height", type=int, default=256)
    options = parser.parse_args()
    model = resolve_model(options.model or options.data / _RELEASED)
    folder = options.data / "data/videos"
    cores = len(os.sched_getaffinity(0))
    warm_up()
    report = {
        "model": model.path.name,
        "height": options.height,
        "cores": cores,
        "videos": {
            video.name: measure(video, model, options.height, options.repeats, cores)
            for video in options.videos or (folder / "two-people.mp4", folder / "one-by-one.mp4")
        },
    }
    publish(report, options.out / "stream.json")


if __name__ == "__main__":
    main()
