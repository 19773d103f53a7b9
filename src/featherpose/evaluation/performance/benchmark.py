"""Time by stage, throughput and memory of an estimator on this machine.

Two kinds of input: frames of the user's own, or a scene with a chosen number of people. In the scene the network runs
on an image without content (a network's time does not depend on content), and decoding and drawing are timed on maps
encoded from people placed over the image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import UInt8

from featherpose.drawing.draw import draw_poses
from featherpose.errors import OptionError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.performance.crowds import lay_out_people
from featherpose.evaluation.performance.machine import machine_facts, peak_memory_mb
from featherpose.geometry import Letterbox
from featherpose.methods.method import Arrays, Decoder
from featherpose.runtime.backend import WARMUP_INFERENCES

__all__ = ["BenchOptions", "BenchReport", "Crowd", "StageFigures", "bench_crowd", "bench_frames", "make_crowd"]

Image = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Duration of a measurement.

    Attributes:
        frames: Frames measured one by one, and again with several in flight.
        warmup: Frames before that, which are not counted.
        in_flight: Frames in flight at once in the throughput part.
    """

    frames: int = 100
    warmup: int = WARMUP_INFERENCES
    in_flight: int = 4

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise OptionError(f"{self.frames} frames", expected="at least 1")
        if self.warmup < 0:
            raise OptionError(f"{self.warmup} warm-up frames", expected="0 or more")
        if self.in_flight < 1:
            raise OptionError(f"{self.in_flight} frames in flight", expected="at least 1")


@dataclass(frozen=True, slots=True)
class StageFigures:
    """Times of one stage, milliseconds."""

    mean_ms: float
    p50_ms: float
    p95_ms: float


@dataclass(slots=True)
class BenchReport:
    """Result of a measurement.

    Attributes:
        stages: By stage, in the order in which a frame passes them, and ``total``.
        frames: Frames behind the stage times.
        people: Mean number of people found.
        size: (width, height) of the first frame.
        throughput_hz: Frames per second with ``in_flight`` frames in flight.
        in_flight: How many that were.
        peak_memory_mb: Peak memory of the process.
        notes: Conditions to publish beside the figures.
    """

    stages: dict[str, StageFigures]
    frames: int
    people: float
    size: tuple[int, int]
    throughput_hz: float
    in_flight: int
    peak_memory_mb: float
    notes: list[str] = field(default_factory=list)

    def as_dict(self, estimator: PoseEstimator) -> dict[str, Any]:
        """Return plain data, with the facts of the run and of the machine."""
        return {
            **estimator.describe(),
            "frames": self.frames,
            "size": list(self.size),
            "people": round(self.people, 2),
            "stages": {
                name: {
                    "mean_ms": round(f.mean_ms, 3),
                    "p50_ms": round(f.p50_ms, 3),
                    "p95_ms": round(f.p95_ms, 3),
                }
                for name, f in self.stages.items()
            },
            "in_flight": self.in_flight,
            "throughput_hz": round(self.throughput_hz, 2),
            "peak_memory_mb": round(self.peak_memory_mb, 1),
            "notes": self.notes,
            "machine": machine_facts(),
        }


class _Stopwatch:
    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    def add(self, **stages_ms: float) -> None:
        for stage, spent in {**stages_ms, "total": sum(stages_ms.values())}.items():
            self._times.setdefault(stage, []).append(spent)

    def figures(self) -> dict[str, StageFigures]:
        return {
            stage: StageFigures(float(np.mean(t)), float(np.percentile(t, 50)), float(np.percentile(t, 95)))
            for stage, t in self._times.items()
        }


def bench_frames(estimator: PoseEstimator, frames: Iterable[Image], options: BenchOptions | None = None) -> BenchReport:
    """Measure on given frames.

    Args:
        estimator: What is measured.
        frames: Read one by one, and the reading is timed. Those of the stage times are kept for the throughput part,
            which starts over with them when it runs out.
        options: How many.

    Raises:
        SourceError: If there is no frame.
    """
    options = options or BenchOptions()
    estimator.warm_up()
    reader = iter(frames)
    kept: deque[Image] = deque(maxlen=options.in_flight + 12)  # what the throughput part cycles through
    watch, people, size = _Stopwatch(), [], (0, 0)
    for number in range(options.warmup + options.frames):
        started = perf_counter()
        image = next(reader, None)
        read = perf_counter()
        if image is None:
            break
        size = size if size != (0, 0) else (image.shape[1], image.shape[0])
        kept.append(image.copy())  # drawing changes the image
        poses, times = estimator.timed(image)
        decoded = perf_counter()
        draw_poses(image, poses)
        drawn = perf_counter()
        if number >= options.warmup:
            people.append(len(poses))
            watch.add(
                read=1e3 * (read - started), **times.by_stage(), draw=1e3 * (drawn - decoded),
            )  # fmt: skip
    if not kept:
        raise SourceError("the source has no frame", expected="at least one image")
    notes = []
    if not people:  # fewer frames than the warm-up takes: measure on those that exist, read once
        notes.append(f"only {len(kept)} frames: they were measured again and again, without reading")
        for number in range(options.frames):
            canvas = kept[number % len(kept)].copy()
            poses, times = estimator.timed(canvas)
            decoded = perf_counter()
            draw_poses(canvas, poses)
            people.append(len(poses))
            watch.add(
                **times.by_stage(), draw=1e3 * (perf_counter() - decoded),
            )  # fmt: skip
    elif len(people) < options.frames:
        notes.append(f"the source ended after {options.warmup + len(people)} frames")
    throughput = _throughput(estimator, list(kept), options, None)
    notes.append("throughput counts resizing, network, decoding and drawing, not reading")
    return BenchReport(
        watch.figures(),
        len(people),
        float(np.mean(people)),
        size,
        throughput,
        options.in_flight,
        peak_memory_mb(),
        notes,
    )


@dataclass(frozen=True, slots=True)
class Crowd:
    """A scene: an image for the network, and the maps that the decoder gets instead of the network's.

    Attributes:
        image: uint8[H, W, 3]; smooth noise, as incompressible for caches as a photograph.
        maps: Encoded from the people.
        letterbox: How the image becomes the network's input.
        people: Number of people in the maps.
    """

    image: Image
    maps: Arrays
    letterbox: Letterbox
    people: int


def make_crowd(estimator: PoseEstimator, people: int, size: tuple[int, int] = (1280, 720), *, seed: int = 0) -> Crowd:
    """Make a scene with a chosen number of people.

    Raises:
        OptionError: If the number is negative.
    """
    width, height = size
    spec = estimator.spec
    blank = np.zeros((height, width, 3), np.uint8)
    _, box = spec.prepare(blank, height=estimator.height)
    layout = lay_out_people(people, spec.skeleton, size, seed=seed)
    target = spec.method.encode(
        box.forward(layout.reshape(-1, 2)).reshape(layout.shape), np.empty((0, 4), np.float32), spec.skeleton,
        box.network_size, spec.outputs, spec.method.Targets(),
    )  # fmt: skip
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    image = np.ascontiguousarray(coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width])
    return Crowd(image, target.values, box, people)


def bench_crowd(estimator: PoseEstimator, crowd: Crowd, options: BenchOptions | None = None) -> BenchReport:
    """Measure on a scene; every frame has the same people, nothing is read."""
    options = options or BenchOptions()
    estimator.warm_up()
    decode = estimator.spec.decoder(estimator.options)
    watch, found = _Stopwatch(), 0
    canvas = crowd.image.copy()
    for number in range(options.warmup + options.frames):
        _, times = estimator.timed(crowd.image)
        inferred = perf_counter()
        poses = decode(crowd.maps, crowd.letterbox)
        decoded = perf_counter()
        draw_poses(canvas, poses)
        drawn = perf_counter()
        found = len(poses)
        if number >= options.warmup:
            watch.add(
                prepare=times.preprocess_ms, infer=times.inference_ms,
                decode=1e3 * (decoded - inferred), draw=1e3 * (drawn - decoded),
            )  # fmt: skip
    return BenchReport(
        watch.figures(), options.frames, float(found), (crowd.image.shape[1], crowd.image.shape[0]),
        _throughput(estimator, [crowd.image], options, (decode, crowd)), options.in_flight, peak_memory_mb(),
        [
            f"synthetic scene: {crowd.people} people laid out over the image, {found} found",
            "prepare and infer are timed on an image of noise (a network's time does not depend on content), "
            "decode and draw on maps encoded from the people",
        ],
    )  # fmt: skip


def _throughput(
    estimator: PoseEstimator, images: list[Image], options: BenchOptions, crowd: tuple[Decoder, Crowd] | None
) -> float:
    """Return frames per second with several in flight: the rate of a video or a folder without reading and writing."""
    canvas = images[0].copy()

    def run(count: int) -> None:
        shown = _cycle(images, count)
        for image, poses in zip(shown, estimator.map(_cycle(images, count), in_flight=options.in_flight), strict=True):
            if crowd is not None:
                decode, scene = crowd
                poses = decode(scene.maps, scene.letterbox)
            draw_poses(canvas if canvas.shape == image.shape else image.copy(), poses)

    run(options.warmup)
    started = perf_counter()
    run(options.frames)
    return options.frames / (perf_counter() - started)


def _cycle(images: list[Image], count: int) -> Iterator[Image]:
    for number in range(count):
        yield images[number % len(images)]
