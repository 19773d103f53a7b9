"""What a server gains by batching waiting images, against several requests in flight, on the same cores.

    python benchmarks/server_batching.py [--data ../shared] [--out benchmarks/results] [--repeats 7]

Every way does the whole of an image's work - decompress, prepare, network, decode - on JPEG photographs of one size
with as many worker threads as the server has. Ways take turns, and the ratio to one request at a time is the median
over the turns, so that whatever else runs slows all of them. The processor time of an image hardly depends on what
else runs; the rates do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import cv2
import numpy as np
from reports import publish

from featherpose.estimator import PoseEstimator
from featherpose.media.images import decode_image
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.processor import available_cores


def _photos(data: Path, count: int) -> list[bytes]:
    files = sorted((data / "data/coco-val/images").glob("*.jpg"))[:count]
    found = []
    for file in files:
        image = decode_image(file.read_bytes(), file.name)
        whole, jpeg = cv2.imencode(".jpg", cv2.resize(image, (640, 480)), [cv2.IMWRITE_JPEG_QUALITY, 90])
        assert whole
        found.append(jpeg.tobytes())
    return found


def _singles(estimator: PoseEstimator, workers: int) -> Callable[[list[bytes]], None]:
    def run(photos: list[bytes]) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda photo: estimator.timed(decode_image(photo, "photo")), photos))

    return run


def _batches(estimator: PoseEstimator, workers: int, size: int) -> Callable[[list[bytes]], None]:
    def work(photos: list[bytes]) -> None:
        estimator([decode_image(photo, "photo") for photo in photos])

    def run(photos: list[bytes]) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, [photos[i : i + size] for i in range(0, len(photos), size)]))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--photos", type=int, default=48)
    options = parser.parse_args()
    model = options.data / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
    cores = available_cores()
    photos = _photos(options.data, options.photos)
    with (
        PoseEstimator(model, engine=EngineOptions()) as quick,
        PoseEstimator(model, engine=EngineOptions(num_streams=cores)) as side_by_side,
    ):
        ways: dict[str, Callable[[list[bytes]], None]] = {
            "one at a time": _singles(quick, 1),
            "3 in flight, network on all cores": _singles(quick, 3),
            f"{cores + 1} in flight, {cores} networks side by side": _singles(side_by_side, cores + 1),
            "batches of 2, 2 in flight": _batches(quick, 2, 2),
            "batches of 4, 2 in flight": _batches(quick, 2, 4),
            "batches of 8, 2 in flight": _batches(quick, 2, 8),
            f"batches of 4, {cores} networks side by side": _batches(side_by_side, cores + 1, 4),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        core_ms: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.repeats + 1):
            for name, run in ways.items():
                started, processor = perf_counter(), process_time()
                run(photos)
                if turn:  # the first turn warms up
                    rates[name].append(len(photos) / (perf_counter() - started))
                    core_ms[name].append(1e3 * (process_time() - processor) / len(photos))
    base = np.array(rates["one at a time"])
    report = {
        "model": model.name,
        "height": 256,
        "photos": f"{len(photos)} JPEG of 640x480",
        "ways": {
            name: {
                "images a second, median": round(median(values), 2),
                "times one at a time, median of turns": round(float(np.median(np.array(values) / base)), 3),
                "core ms an image, median": round(median(core_ms[name]), 2),
            }
            for name, values in rates.items()
        },
        "repeats": options.repeats,
    }
    publish(report, options.out / "server_batching.json")


if __name__ == "__main__":
    main()
