"""Network and post-processing together: the slides' last table, baseline against proposed, measured in one run.

Every system is timed frame by frame (latency) and with several frames in flight (throughput), on a chosen number of
processor cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OptionError
from featherpose.evaluation.performance.cores import run_on_cores
from featherpose.evaluation.performance.mosaics import VideoMosaic
from featherpose.evaluation.performance.timing import Timing
from featherpose.evaluation.performance.variants import Variant
from featherpose.evaluation.reference.paf import PlainPafDecoder
from featherpose.geometry import Letterbox
from featherpose.methods.method import Arrays
from featherpose.methods.paf.method import maps_of
from featherpose.runtime.backend import Backend, EngineOptions
from featherpose.runtime.engines import open_backend

__all__ = ["PUBLISHED", "System", "SystemTimes", "fill_mosaic", "measure_systems"]

PUBLISHED = MappingProxyType(
    {
        "baseline, CPU FP32": (0.95, 2.47, 1.54),
        "proposed, CPU FP32": (26.0, 33.0, 125.0),
        "baseline, NUC FP16": (1.17, 3.92, 1.66),
        "proposed, NUC FP16": (28.0, 33.0, 160.0),
    }
)
"""The slides' last table: fps of all, of the network, of post-processing. 456x256, more than 20 people.
CPU: Intel Core i7-6850K, 6 cores; NUC: Intel NUC6i7KYB, GPU Iris Pro Graphics P580."""

Decoding = Literal["resize to image", "ours"]
_BLOCK = 5  # frames of one system before the next has its turn
_TILES = (1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21, 24, 28, 32, 40)


@dataclass(frozen=True, slots=True)
class System:
    """A system that is compared.

    Attributes:
        network: The network and its number format.
        decoding: How maps become people. An untrained network is timed, its maps are discarded, and those of the first
            trained system are decoded in their place.
        slow: Measured on a few frames only.
    """

    network: Variant
    decoding: Decoding = "ours"
    slow: bool = False


@dataclass(frozen=True, slots=True)
class SystemTimes:
    """Times of one system on one number of cores.

    Attributes:
        system: Its name.
        cores: Processor cores it had.
        network: Time of the network.
        postprocessing: Time from maps to people.
        frame: Time of a whole frame, resize included: the latency.
        throughput_fps: Frames a second with several in flight.
        people: Median number of people found.
        trained: Whether the network's weights are trained.
    """

    system: str
    cores: int
    network: Timing
    postprocessing: Timing
    frame: Timing
    throughput_fps: float
    people: float
    trained: bool

    @property
    def fps(self) -> float:
        """Return frames a second, one after the other, as in the slides' table."""
        return self.frame.fps

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        return {
            "system": self.system,
            "trained": self.trained,
            "cores": self.cores,
            "fps": round(self.fps, 3),
            "network_fps": round(self.network.fps, 3),
            "postprocessing_fps": round(self.postprocessing.fps, 3),
            "throughput_fps": round(self.throughput_fps, 3),
            "people": self.people,
            "network": self.network.as_dict(),
            "postprocessing": self.postprocessing.as_dict(),
            "frame": self.frame.as_dict(),
        }


def fill_mosaic(
    videos: Sequence[Path],
    variant: Variant,
    *,
    height: int,
    people: int = 20,
    frames: int = 30,
    device: str = "CPU",
    size: tuple[int, int] = (1280, 720),
) -> tuple[VideoMosaic, float]:
    """Return the smallest mosaic of real videos in which a network finds more than the given number of people.

    Args:
        videos: Files.
        variant: The network that finds the people.
        height: Network input height in pixels.
        people: The median frame must show more people than this.
        frames: Length of the mosaic.
        device: Device that runs the network.
        size: (width, height) of the mosaic in pixels.

    Returns:
        The mosaic and the median number of people found.

    Raises:
        OptionError: If no number of tiles shows that many.
        SourceError: If a video cannot be read.
    """
    backend = open_backend(variant.path, variant.spec, variant.engine(device=device))
    decode = variant.spec.decoder()
    best = 0.0
    try:
        for tiles in _TILES:
            sample = VideoMosaic(tuple(videos), tiles, size, 3)
            counts = []
            for image in sample:
                network_input, box = _prepared(image, backend, height)
                counts.append(len(decode(backend.infer(network_input)[0], box)))
            best = max(best, float(np.median(counts)))
            if np.median(counts) > people:
                return VideoMosaic(tuple(videos), tiles, size, frames), float(np.median(counts))
    finally:
        backend.close()
    raise OptionError(
        f"at most {best:g} people are found in {', '.join(video.name for video in videos)} at height {height}",
        expected=f"more than {people}",
        hint="give videos with more people, or a greater --height",
    )


def measure_systems(
    systems: Sequence[System], mosaic: VideoMosaic, *, height: int, cores: int, device: str = "CPU"
) -> list[SystemTimes]:
    """Time systems in turns on this many cores, in a separate process.

    Args:
        systems: At least one of them trained.
        mosaic: The frames.
        height: Network input height in pixels.
        cores: Processor cores, engine threads and frames in flight.
        device: Device that runs the networks.

    Raises:
        OptionError: If there are not so many cores, or no system is trained.
        ModelError: If a network cannot be run.
    """
    if not any(system.network.trained for system in systems):
        raise OptionError("no system is trained", expected="at least one, whose maps are decoded")
    return run_on_cores(cores, _measure, tuple(systems), mosaic, height, cores, device)


def _prepared(
    image: UInt8[np.ndarray, "H W 3"], backend: Backend, height: int
) -> tuple[UInt8[np.ndarray, "1 h w 3"], Letterbox]:
    spec = backend.spec
    return spec.prepare(image, height=height)


def _decoder(system: System) -> Callable[[Arrays, Letterbox], Any]:
    spec = system.network.spec
    if system.decoding == "resize to image":
        plain = PlainPafDecoder(spec.skeleton)
        return lambda outputs, box: plain(maps_of(outputs, spec.outputs), box)
    decoder = spec.decoder()
    decoder.warm_up()
    return decoder


def _measure(
    systems: tuple[System, ...], mosaic: VideoMosaic, height: int, cores: int, device: str
) -> list[SystemTimes]:
    images = list(mosaic)
    donor = next(system for system in systems if system.network.trained).network
    reader = open_backend(donor.path, donor.spec, donor.engine(threads=cores, device=device))
    donated = [reader.infer(_prepared(image, reader, height)[0])[0] for image in images]
    reader.close()
    runners = [_Runner(system, images, donated, height) for system in systems]
    for runner in runners:
        runner.open(runner.system.network.engine(threads=cores, device=device))
    waiting = runners
    while waiting:
        waiting = [runner for runner in waiting if runner.take_turn()]
    # Several frames in flight: as many streams as cores, each on its share of them.
    rates = []
    for runner in runners:
        runner.close()
        runner.open(runner.system.network.engine(threads=cores, device=device, num_streams=cores if cores > 1 else 0))
        rates.append(runner.throughput(cores + 1))
        runner.close()
    return [runner.times(cores, rate) for runner, rate in zip(runners, rates, strict=True)]


class _Runner:
    """One system and its measurements so far."""

    def __init__(
        self, system: System, images: Sequence[UInt8[np.ndarray, "H W 3"]], donated: Sequence[Arrays], height: int
    ) -> None:
        self.system = system
        count = max(2, len(images) // 10) if system.slow else len(images)
        self._images, self._donated = images[:count], donated[:count]
        self._height = height
        self._decode = _decoder(system)
        self._backend: Backend | None = None
        self._next = 0
        self._samples: list[tuple[float, float, float]] = []
        self._people: list[int] = []

    def open(self, engine: EngineOptions) -> None:
        network = self.system.network
        self._backend = open_backend(network.path, network.spec, engine)
        self._backend.infer(_prepared(self._images[0], self._backend, self._height)[0])

    def close(self) -> None:
        if self._backend is not None:
            self._backend.close()

    def _maps(self, index: int, own: Arrays) -> Arrays:
        return own if self.system.network.trained else self._donated[index]

    def take_turn(self) -> bool:
        """Measure the next few frames; return False once all are done."""
        assert self._backend is not None
        for _ in range(1 if self.system.slow else _BLOCK):
            if self._next >= len(self._images):
                return False
            started = perf_counter()
            network_input, box = _prepared(self._images[self._next], self._backend, self._height)
            prepared = perf_counter()
            own = self._backend.infer(network_input)[0]
            inferred = perf_counter()
            poses = self._decode(self._maps(self._next, own), box)
            ended = perf_counter()
            self._samples.append((inferred - prepared, ended - inferred, ended - started))
            self._people.append(len(poses))
            self._next += 1
        return self._next < len(self._images)

    def throughput(self, depth: int) -> float:
        """Return frames a second while ``depth`` of them are in flight."""
        assert self._backend is not None
        waiting: deque[Callable[[], Any]] = deque()
        started = perf_counter()
        for index, image in enumerate(self._images):
            network_input, box = _prepared(image, self._backend, self._height)
            waiting.append(partial(self._finish, index, self._backend.submit(network_input), box))
            if len(waiting) >= depth:
                waiting.popleft()()
        while waiting:
            waiting.popleft()()
        return len(self._images) / (perf_counter() - started)

    def _finish(self, index: int, pending: Any, box: Letterbox) -> None:
        self._decode(self._maps(index, pending.result()[0]), box)

    def times(self, cores: int, throughput_fps: float) -> SystemTimes:
        network, post, frame = (Timing.of([1e3 * t for t in column]) for column in zip(*self._samples, strict=True))
        return SystemTimes(
            self.system.network.label, cores, network, post, frame, throughput_fps,
            float(np.median(self._people)), self.system.network.trained,
        )  # fmt: skip
