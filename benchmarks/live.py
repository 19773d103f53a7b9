"""A live source that outruns the machine: age of the results, frames dropped, memory over time.

    python benchmarks/live.py [--seconds 600] [--fps 60] [--model MODEL] [--data ../shared] [--out benchmarks/results]

A real video, scaled to 1280x720 and encoded in H.264 once, plays over and over at ``--fps`` through `process_stream`
with the policy ``latest``, with tracking and smoothing, as a camera would. Two ages are stated: *from capture* begins
when the camera would have taken the image, so it holds decompression; *from delivery* (``FrameResult.latency_ms``)
begins when the source had it ready. Both end when the result is in the caller's hands.

Memory is the resident set of this process, the median of each minute; growth is that of any later minute over the
first one.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, perf_counter, process_time, sleep
from typing import Any

import cv2
import numpy as np
import psutil
from reports import publish

from featherpose.estimator import PoseEstimator
from featherpose.media.sinks.video import open_video_sink
from featherpose.media.sources.find import open_source
from featherpose.media.sources.source import Frame
from featherpose.stream import StreamOptions, process_stream
from featherpose.tracking import PoseTracker

SIZE = (1280, 720)
_RELEASED = "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"


class PlayedCamera:
    """A video played for ever at a steady rate; what is not read in time is lost, as a camera loses it.

    Attributes:
        live: It is a live source, whatever it is made of.
        delivered: Frames read so far.
        missed: Moments at which the reader was still busy with the frame before.
    """

    live = True

    def __init__(self, video: Path, fps: float, seconds: float) -> None:
        self.delivered = 0
        self.missed = 0
        self.started_s = 0.0
        self._video = video
        self._fps = fps
        self._seconds = seconds

    def __iter__(self) -> Iterator[Frame]:
        self.started_s = perf_counter()
        tick = 0
        for frame in itertools.chain.from_iterable(self._plays()):
            yield Frame(frame.image, tick, tick / self._fps, "played camera")
            self.delivered += 1
            now = perf_counter() - self.started_s
            due = max(tick + 1, int(now * self._fps))
            self.missed += due - tick - 1
            tick = due
            sleep(max(0.0, tick / self._fps - now))
            if now > self._seconds:
                return

    def _plays(self) -> Iterator[Iterator[Frame]]:
        while True:
            with open_source(self._video) as source:
                yield iter(source)


def scaled(video: Path, to: Path, frames: int) -> None:
    """Write the beginning of a video as H.264 of 1280x720."""
    with open_source(video) as source, open_video_sink(to, 60) as sink:
        for i, frame in enumerate(itertools.islice(source, frames)):
            sink.write(np.asarray(cv2.resize(frame.image, SIZE, interpolation=cv2.INTER_LINEAR)), i / 60)


def measure(video: Path, estimator: PoseEstimator, options: argparse.Namespace) -> dict[str, Any]:
    camera = PlayedCamera(video, options.fps, options.seconds)
    process = psutil.Process()
    captured, delivered = array("d"), array("d")
    stages = dict.fromkeys(("wait", "prepare", "infer", "decode", "track"), 0.0)
    memory: list[tuple[float, float]] = []
    last_index, out_of_order, dropped, people = -1, 0, 0, 0
    tracker = PoseTracker()
    stream = StreamOptions(in_flight=options.in_flight)
    cpu = process_time()
    for result in process_stream(camera, estimator, tracker, options=stream):
        now = perf_counter() - camera.started_s
        captured.append(1e3 * (now - result.frame.timestamp_s))
        delivered.append(result.latency_ms)
        out_of_order += result.frame.index <= last_index
        last_index, dropped, people = result.frame.index, result.dropped, people + len(result.poses)
        spent = (
            result.queue_ms,
            result.stage_times.preprocess_ms,
            result.stage_times.inference_ms,
            result.stage_times.postprocess_ms,
            result.track_ms,
        )
        for stage, ms in zip(stages, spent, strict=True):
            stages[stage] += ms
        if not memory or now - memory[-1][0] >= 1:
            memory.append((now, process.memory_info().rss / 1e6))
    seconds = perf_counter() - camera.started_s
    cpu = process_time() - cpu
    minutes = [
        round(float(np.median([mb for at, mb in memory if int(at // 60) == minute])), 1)
        for minute in range(int(memory[-1][0] // 60) + 1)
    ]
    return {
        "seconds": round(seconds, 1),
        "source fps": options.fps,
        "results": len(captured),
        "results a second": round(len(captured) / seconds, 2),
        "frames delivered": camera.delivered,
        "dropped because late": dropped,
        "missed while reading": camera.missed,
        "age from capture ms": _spread(captured),
        "age from delivery ms": _spread(delivered),
        "mean ms": {stage: round(ms / len(captured), 2) for stage, ms in stages.items()},
        "out of order": out_of_order,
        "people a frame": round(people / len(captured), 2),
        "ids": tracker.count,
        "cores busy": round(cpu / seconds, 2),
        "memory MB by minute": minutes,
        "memory growth after the first minute": (
            round(max(minutes[1:]) / minutes[0] - 1, 4) if len(minutes) > 1 else None
        ),
    }


def _spread(ms: array[float]) -> dict[str, float]:
    p50, p95, p99 = (round(float(p), 1) for p in np.percentile(ms, (50, 95, 99)))
    return {"p50": p50, "p95": p95, "p99": p99, "max": round(max(ms), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--fps", type=float, default=60.0, help="of the camera")
    parser.add_argument("--model", help="the released INT8 network unless given")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--in-flight", type=int, help="networks at once; the stream's own choice unless given")
    parser.add_argument("--video", type=Path, help="one-by-one.mp4 of --data unless given")
    parser.add_argument("--frames", type=int, default=900, help="of the video, before it starts again")
    options = parser.parse_args()
    model = options.model or str(options.data / _RELEASED)
    video = options.video or options.data / "data/videos/one-by-one.mp4"
    with tempfile.TemporaryDirectory() as folder, PoseEstimator(model, height=options.height) as estimator:
        played = Path(folder) / "played.mp4"
        scaled(video, played, options.frames)
        estimator.warm_up()
        began = monotonic()
        while monotonic() - began < min(3.0, options.seconds):  # the engine's first inferences allocate
            estimator(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        figures = measure(played, estimator, options)
        info = estimator.info
    report = {
        "source": f"{video.name}, scaled to {SIZE[0]}x{SIZE[1]}, H.264, decompressed while it plays",
        "model": Path(model).name,
        "height": options.height,
        "precision": info.precision,
        "threads": info.threads,
        "policy": "latest, tracked and smoothed",
        **figures,
    }
    publish(report, options.out / "live.json")


if __name__ == "__main__":
    main()
