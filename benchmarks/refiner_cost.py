"""Time of one person in a box by the bundled refiners, in times of the released network for a whole image.

    python benchmarks/refiner_cost.py --released INT8.xml [--json benchmarks/results/refiner_cost.json]

Engines have one thread. Nine boxes of one photograph are cut, run and decoded; a ninth of their time is set against the
released network at 456x256, network alone, in the same turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import cbook
from reports import publish, spread

from featherpose.evaluation.performance.timing import time_in_turns
from featherpose.media.images import read_image
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.topdown.person_estimator import open_person_estimator
from featherpose.zoo.resolve import resolve_model

REFINERS = ("refiner", "refiner-fast", "refiner-dense")
BOXES = 9
INPUT = (456, 256)


def measure(released: str, turns: int) -> dict[str, Any]:
    """Return milliseconds a crop and ratios of a turn, by refiner."""
    photograph = read_image(Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))))
    one_thread, found = EngineOptions(threads=1), resolve_model(released)
    boxes = np.array([[40 + 5 * i, 20, 400 + 10 * i, 590] for i in range(BOXES)], np.float32)
    with ExitStack() as stack:
        whole = stack.enter_context(closing(open_backend(found.path, found.spec, one_thread)))
        calls: list[Callable[[], object]] = [partial(whole.infer, np.asarray(cv2.resize(photograph, INPUT))[None])]
        for name in REFINERS:
            estimator = stack.enter_context(open_person_estimator(name, one_thread))
            estimator.warm_up()
            calls.append(partial(estimator, photograph, boxes))
        times = [np.array(taken) for taken in time_in_turns(calls, rounds=turns, block=1, warm_up=10)]
    report: dict[str, Any] = {"released network": spread(times[0].tolist())}
    for name, taken in zip(REFINERS, times[1:], strict=True):
        crop = taken / BOXES
        report[name] = {**spread(crop.tolist()), "ratio of a turn": spread((crop / times[0]).tolist(), 3)}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--released", required=True, help="the released network, INT8")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    publish({"benchmark": "refiner_cost", "ms": measure(options.released, options.turns)}, options.json)


if __name__ == "__main__":
    main()
