"""Time of the bundled network against the released one: INT8 as users get it, the same input, the same run.

    python benchmarks/network_ratio.py --released INT8.xml [--json benchmarks/results/network_ratio.json]

Both run as `PoseEstimator(threads=2)` runs them. They take turns of a few inferences each on one photograph, so that
whatever else the machine does slows both; the ratio is taken within each turn. The inputs, 448x256 and 656x368, are
nearly 16:9 at the two heights that accuracy is stated for.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import cbook
from reports import publish, spread

from featherpose.evaluation.performance.timing import Timing, time_in_turns
from featherpose.media.images import read_image
from featherpose.runtime.backend import WARMUP_INFERENCES, EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.zoo.resolve import resolve_model

SIZES = ((448, 256), (656, 368))
_BLOCK = 5  # inferences in one turn: a network finds its weights in the cache again, as in real use


def measure(models: dict[str, str], size: tuple[int, int], threads: int, turns: int) -> dict[str, Any]:
    """Return the times of every model at one size, and the ratios of the first to the second."""
    photograph = read_image(Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))))
    image = np.asarray(cv2.resize(photograph, size, interpolation=cv2.INTER_AREA))[None]
    backends = []
    try:
        for model in models.values():
            found = resolve_model(model)
            backends.append(open_backend(found.path, found.spec, EngineOptions(threads=threads)))
        calls = [partial(backend.infer, image) for backend in backends]
        times = time_in_turns(calls, rounds=turns, block=_BLOCK, warm_up=WARMUP_INFERENCES)
        formats = [backend.info.precision for backend in backends]
    finally:
        for backend in backends:
            backend.close()
    ours, theirs = (np.median(np.reshape(samples, (turns, _BLOCK)), axis=1) for samples in times)
    return {
        "size": list(size),
        **{
            name: {"precision": precision, **Timing.of(samples).as_dict()}
            for name, precision, samples in zip(models, formats, times, strict=True)
        },
        "ratio of a turn": spread((ours / theirs).tolist(), 3),
        "ratio of the best": round(min(times[0]) / min(times[1]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--released", required=True, help="the released network, INT8")
    parser.add_argument("--model", default="feather", help="the bundled network unless given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=40, help=f"of {_BLOCK} inferences of each network; 12 at least")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.turns * _BLOCK < 60:
        parser.error(f"--turns {options.turns}: a median of fewer than 60 inferences says little; 12 at least")
    models = {"bundled": options.model, "released": options.released}
    report = {
        "benchmark": "network_ratio",
        "models": {name: Path(model).name for name, model in models.items()},
        "threads": options.threads,
        "sizes": [measure(models, size, options.threads, options.turns) for size in SIZES],
    }
    publish(report, options.json)


if __name__ == "__main__":
    main()
