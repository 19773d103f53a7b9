"""Limits of the machine in arithmetic and memory, and how near the networks and the decoder come to them.

The roofline of Williams, Waterman and Patterson (2009): a program that does I operations for each byte it moves cannot
exceed min(peak, I x bandwidth). Operations are counted two for each multiply-accumulate; bytes are the least that a
network must move, each layer's input, weights and output once, in the number format it computes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OptionError
from featherpose.evaluation.performance.timing import Timing, time_in_turns
from featherpose.evaluation.performance.variants import Variant
from featherpose.runtime.backend import WARMUP_INFERENCES
from featherpose.runtime.engines import open_backend
from featherpose.runtime.openvino.graphs import read_layers
from featherpose.runtime.openvino.matmul import MatmulPeak, measure_matmul, native_formats
from featherpose.runtime.processor import available_cores

__all__ = [
    "DecodingFloor",
    "MachineLimits",
    "NetworkPoint",
    "measure_bandwidth",
    "measure_decoding",
    "measure_limits",
    "measure_networks",
]

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """Peak arithmetic and bandwidth of the machine.

    Attributes:
        threads: Threads that were used; 0 for all cores.
        peaks: Fastest large matrix product in each number format.
        bandwidth_gbs: Thousand million bytes a second read from memory by all threads.
        bandwidth_1_gbs: The same by one thread.
    """

    threads: int
    peaks: tuple[MatmulPeak, ...]
    bandwidth_gbs: float
    bandwidth_1_gbs: float

    def peak(self, precision: str) -> float | None:
        """Return the peak of a number format in GFLOP/s, None if it was not measured."""
        return next((peak.gflops for peak in self.peaks if peak.precision == precision), None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        return {
            "threads": self.threads,
            "peaks": [asdict(peak) for peak in self.peaks],
            "bandwidth_gbs": round(self.bandwidth_gbs, 2),
            "bandwidth_1_gbs": round(self.bandwidth_1_gbs, 2),
        }


@dataclass(frozen=True, slots=True)
class NetworkPoint:
    """A network under the roof.

    Attributes:
        label: Name and number format.
        precision: Number format of its layers.
        size: (width, height) of the input in pixels.
        macs: Multiply-accumulates for one image.
        bytes: Least bytes it must move for one image.
        time: Time of one image.
        peak_gflops: The machine's peak in that format, None if it was not measured.
    """

    label: str
    precision: str
    size: tuple[int, int]
    macs: int
    bytes: int
    time: Timing
    peak_gflops: float | None

    @property
    def gflops(self) -> float:
        """Return the thousand million operations a second of its best run, as the peak is that of the best run."""
        return 2 * self.macs / self.time.best_ms / 1e6

    @property
    def intensity(self) -> float:
        """Return the operations for each byte moved."""
        return 2 * self.macs / self.bytes

    @property
    def fraction(self) -> float | None:
        """Return the part of the machine's peak, 0..1."""
        return None if self.peak_gflops is None else self.gflops / self.peak_gflops

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        return {
            "network": self.label,
            "precision": self.precision,
            "size": list(self.size),
            "gmacs": round(self.macs / 1e9, 4),
            "megabytes": round(self.bytes / 1e6, 3),
            "operations_per_byte": round(self.intensity, 2),
            "time": self.time.as_dict(),
            "gflops": round(self.gflops, 2),
            "fraction_of_peak": None if self.fraction is None else round(self.fraction, 4),
        }


@dataclass(frozen=True, slots=True)
class DecodingFloor:
    """Time of decoding against the time to read the maps at all.

    Attributes:
        map_bytes: Size of the heatmaps and part affinity fields.
        floor_ms: Time in which one thread reads this much from memory.
        decoding: Time of decoding.
        people: How many were found.
    """

    map_bytes: int
    floor_ms: float
    decoding: Timing
    people: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        return {
            "map_bytes": self.map_bytes,
            "floor_ms": round(self.floor_ms, 5),
            "people": self.people,
            "decoding": self.decoding.as_dict(),
        }


def measure_bandwidth(threads: int, *, megabytes: int = 256, repeats: int = 5) -> float:
    """Return the GB/s that threads read from memory: sum of squares of an array far larger than the caches, best run.

    Args:
        threads: Each reads its own part.
        megabytes: Size of the array.
        repeats: Runs.

    Raises:
        OptionError: If an argument is not positive.

    Example:
        >>> measure_bandwidth(1, megabytes=8, repeats=1) > 0
        True
    """
    if threads < 1 or megabytes < 1 or repeats < 1:
        raise OptionError(f"{threads} threads, {megabytes} MB, {repeats} repeats", expected="positive numbers")
    parts = np.array_split(np.ones(megabytes * 2**18, np.float32), threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats + 1):
            started = perf_counter()
            list(pool.map(_read_all, parts))
            best = min(best, perf_counter() - started)
    return megabytes * 2**20 / best / 1e9


def _read_all(part: np.ndarray) -> float:
    # BLAS reads at the speed of memory, without the GIL.
    return float(np.dot(part, part))


def measure_limits(*, threads: int, seconds: float = 2.0, sizes: Sequence[int] = (512, 1024, 1536)) -> MachineLimits:
    """Measure the machine's peaks and bandwidth.

    Args:
        threads: Threads for the products; 0 for all cores.
        seconds: How long to multiply in each number format.
        sizes: Rows and columns of the matrices to try; which one suits the caches best differs by machine and format.

    Raises:
        OptionError: If an argument is not positive.
        ModelError: If the engine cannot multiply.
    """
    peaks = []
    for number_format in native_formats():
        tried = [
            measure_matmul(number_format, size=size, threads=threads, seconds=seconds / len(sizes)) for size in sizes
        ]
        peaks.append(max(tried, key=lambda peak: peak.gflops))
    return MachineLimits(threads, tuple(peaks), measure_bandwidth(threads or available_cores()), measure_bandwidth(1))


def measure_networks(
    variants: Sequence[Variant],
    image: UInt8[np.ndarray, "H W 3"],
    limits: MachineLimits,
    *,
    height: int,
    rounds: int = 5,
    slow_gmacs: float = 50.0,
) -> list[NetworkPoint]:
    """Time networks in turns on one image and place them under the machine's roof.

    Args:
        variants: Networks and number formats.
        image: uint8[H, W, 3] BGR.
        limits: Of this machine, with the threads to use.
        height: Network input height in pixels.
        rounds: Turns of five runs each.
        slow_gmacs: A network with more is run once a turn and not five times.

    Raises:
        ModelError: If a network cannot be read or run.
    """
    points = []
    calls, sizes = [], []
    layers = []
    backends = []
    try:
        for variant in variants:
            network_input, box = variant.spec.prepare(image, height=height)
            backends.append(open_backend(variant.path, variant.spec, variant.engine(threads=limits.threads)))
            layers.append(read_layers(variant.path, box.network_size))
            sizes.append(box.network_size)
            calls.append(partial(backends[-1].infer, network_input))
        heavy = [sum(layer.macs for layer in found) > 1e9 * slow_gmacs for found in layers]
        light = [call for call, slow in zip(calls, heavy, strict=True) if not slow]
        light_times = iter(time_in_turns(light, rounds=rounds, block=5, warm_up=WARMUP_INFERENCES))
        dear = [call for call, slow in zip(calls, heavy, strict=True) if slow]
        slow_times = iter(time_in_turns(dear, rounds=min(rounds, 3)))
        for variant, found, size, slow in zip(variants, layers, sizes, heavy, strict=True):
            timing = Timing.of(next(slow_times if slow else light_times))
            moved = sum(
                (layer.inputs + layer.weights + layer.outputs)
                * (1 if layer.quantized and variant.precision == "int8" else _BYTES.get(variant.precision, 4))
                for layer in found
            )
            macs = sum(layer.macs for layer in found)
            points.append(
                NetworkPoint(
                    variant.label, variant.precision, size, macs, moved, timing, limits.peak(variant.precision)
                )
            )
    finally:
        for backend in backends:
            backend.close()
    return points


def measure_decoding(
    variant: Variant,
    image: UInt8[np.ndarray, "H W 3"],
    limits: MachineLimits,
    *,
    height: int,
    repeats: int = 50,
) -> DecodingFloor:
    """Time decoding of an image's maps, and how long one thread needs to read the maps from memory.

    Args:
        variant: A trained network.
        image: uint8[H, W, 3] BGR.
        limits: Of this machine.
        height: Network input height in pixels.
        repeats: Runs.

    Raises:
        ModelError: If the network cannot be run.
    """
    backend = open_backend(variant.path, variant.spec, variant.engine(threads=limits.threads))
    try:
        network_input, box = variant.spec.prepare(image, height=height)
        maps = backend.infer(network_input)[0]
    finally:
        backend.close()
    decode = variant.spec.decoder()
    samples = time_in_turns([lambda: decode(maps, box)], rounds=repeats, warm_up=3)[0]
    moved = sum(values.nbytes for values in maps.values())
    return DecodingFloor(
        moved, 1e3 * moved / (1e9 * limits.bandwidth_1_gbs), Timing.of(samples), len(decode(maps, box))
    )
