"""featherpose at every level of quality beside what people use instead: AP and time, in one run on one machine.

    python benchmarks/peers.py ../shared/data/coco-val --models ../shared/models --json benchmarks/results/peers.json

AP is COCO's, on every image of the folder, at the image's own resolution, and once more on the images with five people
and more. Times are those of one whole image in, people out, on crowds of 1, 3, 10 and 30 real people composed from
photographs (--crowds). The systems take turns, so that a busy machine slows all alike; in its turn a system sees
several images, as in use, and the first of them do not count: it finds the caches full of other systems' weights. Only
what is found in --models is measured.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from peer_systems import System, detect_then_pose, movenet_multipose, yolo_pose
from reports import publish, spread

from featherpose import PoseEstimator, RefineOptions
from featherpose.evaluation.keypoints.coco_ap import average_precision
from featherpose.evaluation.keypoints.dataset import CocoDataset, read_coco_dataset
from featherpose.evaluation.performance.mosaics import compose_crowd, find_cutouts
from featherpose.formats.coco import coco_results
from featherpose.media.images import read_image

LEVELS: dict[str, dict[str, Any]] = {
    "featherpose fast": {"quality": "fast"},
    "featherpose fast, 368": {"quality": "fast", "height": 368},
    "featherpose fast, accurate": {"quality": "fast", "model": "accurate"},
    "featherpose fast, accurate, 368": {"quality": "fast", "model": "accurate", "height": 368},
    "featherpose balanced": {"quality": "balanced"},
    "featherpose balanced, 368": {"quality": "balanced", "height": 368},
    "featherpose balanced, accurate": {"quality": "balanced", "model": "accurate"},
    "featherpose, all refined": {"refine": "all"},
    "featherpose, all refined fast": {"refine": RefineOptions(mode="all", model="refiner-fast")},
    "featherpose, all refined fast, 368": {
        "refine": RefineOptions(mode="all", model="refiner-fast"),
        "height": 368,
    },
    "featherpose, all refined dense": {"refine": RefineOptions(mode="all", model="refiner-dense")},
    "featherpose, all refined dense, 368": {
        "refine": RefineOptions(mode="all", model="refiner-dense"),
        "height": 368,
    },
    "featherpose, all refined dense, accurate": {
        "refine": RefineOptions(mode="all", model="refiner-dense"),
        "model": "accurate",
    },
    "featherpose, all refined, 368": {"refine": "all", "height": 368},
    "featherpose, all refined, accurate": {"refine": "all", "model": "accurate"},
    "featherpose, all refined, accurate, 368": {"refine": "all", "model": "accurate", "height": 368},
    "featherpose best": {"quality": "best"},
}


FIRST, IN_A_ROW, WARM_UP = 10, 5, 2
"""Images of a system's first turn, in which it compiles, and of the others; images of a turn that do not count."""
CROWDED = 5
"""Annotated people that make an image a crowded one."""


def peers(models: Path) -> Iterator[System]:
    """Yield the systems whose files are there."""
    detector = models / "picodet-s-320/picodet-s-320.xml"
    found: list[tuple[Path, Callable[[Path], System]]] = [
        (models / "yolov8n-pose/yolov8n-pose-int8.xml", yolo_pose),
        *(
            (
                models / f"pp-tinypose/pp-tinypose-{size}.xml",
                lambda path, size=size: detect_then_pose(detector, path, f"PicoDet-S + PP-TinyPose {size}"),
            )
            for size in ("128x96", "256x192")
        ),
        (models / "movenet-multipose-lightning/movenet-multipose-lightning.tflite", movenet_multipose),
    ]
    for path, make in found:
        if path.exists():
            yield make(path)


def ours(name: str, options: dict[str, Any], stack: ExitStack) -> System:
    """Return featherpose at one level."""
    estimator = stack.enter_context(PoseEstimator(**options))
    estimator.warm_up()

    def find(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = coco_results(estimator(image), 0)
        points = np.array([r["keypoints"] for r in results], np.float64).reshape(-1, 17, 3)
        return points[..., :2], np.array([r["score"] for r in results])

    return System(name, "Apache-2.0", find)


def crowded(data: CocoDataset) -> CocoDataset:
    """Return the images with at least five annotated people."""
    count = Counter(one["image_id"] for one in data.annotations["annotations"] if one["num_keypoints"])
    return data.only(str(image.image_id) for image in data.images if count[image.image_id] >= CROWDED)


def accuracy(system: System, data: CocoDataset, many: CocoDataset) -> dict[str, float]:
    """Return the AP of a system on all images, and on the crowded ones among them."""
    results = []
    for image in data.images:
        points, scores = system.find(read_image(image.path))
        for person, score in zip(points, scores, strict=True):
            flat = np.column_stack([person, np.ones(17)]).ravel().tolist()
            results.append({"image_id": image.image_id, "category_id": 1, "keypoints": flat, "score": float(score)})
    all_images = average_precision(data, results)
    ids = {image.image_id for image in many.images}
    among_many = average_precision(many, [result for result in results if result["image_id"] in ids])
    figures = {"AP": all_images.AP, "AP50": all_images.AP50, "AP75": all_images.AP75, "AP crowded": among_many.AP}
    return {name: round(value, 4) for name, value in figures.items()}


def times(systems: list[System], crowds: Path, counts: list[int], rounds: int) -> dict[str, dict[str, Any]]:
    """Return milliseconds an image by system and number of people; the systems take turns of several images."""
    cutouts = find_cutouts(crowds)
    images = {count: compose_crowd(cutouts, count) for count in counts}
    taken: dict[str, dict[int, list[float]]] = {s.name: {count: [] for count in counts} for s in systems}
    found: dict[str, dict[int, int]] = {s.name: {} for s in systems}
    for turn in range(rounds + 1):
        for (count, image), system in product(images.items(), systems):
            for place in range(IN_A_ROW if turn else FIRST):
                started = perf_counter()
                points, _ = system.find(image)
                spent = 1e3 * (perf_counter() - started)
                found[system.name][count] = len(points)
                if turn and place >= WARM_UP:
                    taken[system.name][count].append(spent)
    return {
        name: {str(count): {**spread(ms), "found": found[name][count]} for count, ms in by_count.items()}
        for name, by_count in taken.items()
    }


def plot(report: dict[str, Any], path: Path, people: str = "3") -> None:
    """Draw AP against time."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5))
    points = [(entry["ms"][people]["median"], entry["AP"]) for entry in report["systems"].values()]
    for name, (x, y) in zip(report["systems"], points, strict=True):
        own = name.startswith("featherpose")
        axes.scatter(x, y, marker="o" if own else "s", color="tab:blue" if own else "tab:gray")
        # On the right, unless another point is there: a name is about as wide as the distance to three times the time.
        left = any(x < other < 3 * x and abs(y - height) < 0.009 for other, height in points)
        axes.annotate(name.removeprefix("featherpose").strip(", "), (x, y), xytext=(-6 if left else 6, -3),
                      textcoords="offset points", fontsize=7, ha="right" if left else "left")  # fmt: skip
    axes.margins(x=0.25)
    axes.set(xscale="log", xlabel=f"ms an image of {people} people", ylabel="COCO AP")
    axes.set_title("featherpose (blue) and others (gray)")
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, help="COCO folder on which AP is measured")
    parser.add_argument("--crowds", type=Path, help="COCO folder whose people are composed; DATA unless given")
    parser.add_argument("--models", type=Path, required=True, help="folder with the files of the others")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 3, 10, 30])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only systems whose name contains one of these")
    parser.add_argument("--no-accuracy", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    data = read_coco_dataset(arguments.data)
    data = data if arguments.limit is None else data.first(arguments.limit)
    with ExitStack() as stack:
        systems = [ours(name, options, stack) for name, options in LEVELS.items()]
        released = arguments.models / "human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
        if released.exists():
            for name, more in (("Lightweight OpenPose INT8", {"quality": "fast"}),
                               ("Lightweight OpenPose INT8, best", {"quality": "best"})):  # fmt: skip
                systems.append(ours(name, {"model": released, **more}, stack))
        systems += peers(arguments.models)
        if arguments.only:
            systems = [system for system in systems if any(text in system.name for text in arguments.only)]
        taken = times(systems, arguments.crowds or arguments.data, arguments.people, arguments.rounds)
        many = crowded(data)
        report: dict[str, Any] = {
            "images": len(data.images), "people": data.people, "crowded images": len(many.images),
            "systems": {},
        }  # fmt: skip
        for system in systems:
            figures = {} if arguments.no_accuracy else accuracy(system, data, many)
            report["systems"][system.name] = {"license": system.license, **figures, "ms": taken[system.name]}
            print(system.name, figures, {n: m["median"] for n, m in taken[system.name].items()}, flush=True)
    publish(report, arguments.json)
    if arguments.plot is not None and not arguments.no_accuracy:
        plot(report, arguments.plot)


if __name__ == "__main__":
    main()
