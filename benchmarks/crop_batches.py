"""Crops of one person one by one, on cores of their own, and in batches: the refiner behind a network of whole images.

    python benchmarks/crop_batches.py [--json benchmarks/results/crop_batches.json]

Before each measurement the bundled network looks at an image, as in use: the refiner's weights and kernels then come
from the slower caches. "one by one": each crop on all threads; "side by side": as many crops at once as there are
threads; "batched": what `PersonEstimator` does. The ways take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from matplotlib import cbook
from reports import publish, spread

from featherpose.media.images import read_image
from featherpose.runtime.backend import Backend, EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.zoo.resolve import resolve_model

COUNTS = (1, 2, 3, 5, 10)
INPUT = (456, 256)


def open_network(stack: ExitStack, name: str, threads: int, streams: int = 1) -> Backend:
    """Open a network until the stack is closed."""
    found = resolve_model(name)
    options = EngineOptions(threads=threads, num_streams=streams)
    return stack.enter_context(closing(open_backend(found.path, found.spec, options)))


def one_by_one(backend: Backend, crops: np.ndarray) -> None:
    """Run each crop alone."""
    for i in range(len(crops)):
        backend.infer(crops[i : i + 1])


def side_by_side(backend: Backend, crops: np.ndarray) -> None:
    """Run each crop alone, as many at once as the backend can."""
    for running in [backend.submit(crops[i : i + 1]) for i in range(len(crops))]:
        running.result()


def measure(refiner: str, threads: int, rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the spread of milliseconds by way and number of crops."""
    photograph = read_image(Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))))
    image = np.asarray(cv2.resize(photograph, INPUT))[None]
    with ExitStack() as stack:
        whole = open_network(stack, "feather", threads)
        apart = open_network(stack, refiner, threads, threads)
        together = open_network(stack, refiner, threads)
        width, height = together.spec.only_size or (0, 0)
        crop = np.asarray(cv2.resize(photograph, (width, height)))
        ways: dict[str, Callable[[np.ndarray], object]] = {
            "one by one": partial(one_by_one, together),
            "side by side": partial(side_by_side, apart),
            "batched": together.infer,
        }
        taken: dict[str, dict[str, list[float]]] = {way: {str(n): [] for n in COUNTS} for way in ways}
        for turn in range(rounds + 10):
            for count in COUNTS:
                crops = np.repeat(crop[None], count, axis=0)
                for way, run in ways.items():
                    whole.infer(image)
                    started = perf_counter()
                    run(crops)
                    if turn >= 10:  # batches are compiled after eight
                        taken[way][str(count)].append(1e3 * (perf_counter() - started))
    return {way: {count: spread(ms) for count, ms in by_count.items()} for way, by_count in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refiner", default="refiner", help="a single-person network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {
        "benchmark": "crop_batches",
        "refiner": Path(options.refiner).name,
        "threads": options.threads,
        "crops": measure(options.refiner, options.threads, options.rounds),
    }
    publish(report, options.json)


if __name__ == "__main__":
    main()
