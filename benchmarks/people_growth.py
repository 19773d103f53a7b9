"""Does a frame take longer when more people are in it? From 1 to 100 real people in one image.

People are cut from annotated photographs and set side by side into a gray frame. Measured is everything but reading
and writing: resize, network, decoding. The numbers of people take turns, so that a busy machine slows all alike;
processor time stands beside wall time for the same reason.

    python benchmarks/people_growth.py --model MODEL.xml --data ../shared/data/coco-val --json FILE
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np

from featherpose.estimator import PoseEstimator
from featherpose.evaluation.performance.machine import machine_facts

COUNTS = (1, 2, 5, 10, 20, 35, 50, 100)
FRAME = (1280, 720)


def people_of(data: Path) -> list[np.ndarray]:
    """Split-outs of people of whom nearly everything is seen, the largest first."""
    annotations = json.loads((data / "annotations.json").read_text())
    names = {entry["id"]: entry["file_name"] for entry in annotations["images"]}
    whole = [entry for entry in annotations["annotations"] if entry["num_keypoints"] >= 13]
    whole.sort(key=lambda entry: -entry["bbox"][3])
    cuts = []
    for entry in whole:
        image = cv2.imread(str(data / "images" / names[entry["image_id"]]))
        assert image is not None
        left, top, width, height = entry["bbox"]
        margin = 0.08 * height
        rows = slice(max(0, int(top - margin)), int(top + height + margin))
        columns = slice(max(0, int(left - margin)), int(left + width + margin))
        cut = np.asarray(image[rows, columns], np.uint8)
        if 0.25 < cut.shape[1] / cut.shape[0] < 1:
            cuts.append(cut)
    return cuts


def compose(people: list[np.ndarray], count: int) -> np.ndarray:
    """Compose a frame with that many people in a grid, each as large as fits."""
    width, height = FRAME
    frame = np.full((height, width, 3), 128, np.uint8)
    rows = max(1, round(math.sqrt(count * height / width / 1.8)))
    columns = math.ceil(count / rows)
    cell_width, cell_height = width // columns, height // rows
    for slot in range(count):
        person = people[slot % len(people)]
        scale = min(cell_width / person.shape[1], cell_height / person.shape[0], 1.0)
        size = max(1, int(person.shape[1] * scale)), max(1, int(person.shape[0] * scale))
        small = cv2.resize(person, size, interpolation=cv2.INTER_AREA)
        y, x = slot // columns * cell_height, slot % columns * cell_width
        frame[y : y + size[1], x : x + size[0]] = small
    return frame


def measure(model: Path, data: Path, height: int, threads: int, rounds: int) -> dict[str, Any]:
    people = people_of(data)
    frames = {count: compose(people, count) for count in COUNTS}
    stages: dict[int, list[tuple[float, float, float, float]]] = {count: [] for count in COUNTS}
    found: dict[int, int] = {}
    with PoseEstimator(model, height=height, precision="int8", threads=threads) as estimator:
        for count, frame in frames.items():
            found[count] = len(estimator(frame))
        for _ in range(rounds):
            for count, frame in frames.items():
                started = process_time()
                _, times = estimator.timed(frame)
                processor_ms = 1e3 * (process_time() - started)
                stages[count].append((times.total_ms, times.inference_ms, times.postprocess_ms, processor_ms))
        info = estimator.info
    rows = {}
    for count in COUNTS:
        values = np.array(stages[count])
        median, p95 = np.median(values, axis=0), np.percentile(values, 95, axis=0)
        rows[count] = {
            "people_found": found[count],
            "total_ms": {"median": round(median[0], 2), "p95": round(p95[0], 2)},
            "inference_ms": {"median": round(median[1], 2), "p95": round(p95[1], 2)},
            "postprocess_ms": {"median": round(median[2], 3), "p95": round(p95[2], 3)},
            "processor_ms": {"median": round(median[3], 2), "p95": round(p95[3], 2)},
        }
    # Paired: each round gives one ratio, so that a machine that slows down half-way does not count as growth.
    wall = np.array([[entry[0] for entry in stages[count]] for count in COUNTS])
    processor = np.array([[entry[3] for entry in stages[count]] for count in COUNTS])
    return {
        "height": height,
        "network_input": f"{FRAME[0] * height // FRAME[1]}x{height}",
        "precision": info.precision,
        "engine": info.engine,
        "threads": info.threads,
        "rounds": rounds,
        "by_people": rows,
        "growth_1_to_100_percent": {
            "wall": round(100 * float(np.median(wall[-1] / wall[0]) - 1), 1),
            "processor": round(100 * float(np.median(processor[-1] / processor[0]) - 1), 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heights", type=int, nargs="+", default=[256, 368, 512])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    results = [
        measure(options.model, options.data, height, options.threads, options.rounds) for height in options.heights
    ]
    report = {"benchmark": "people_growth", "model": options.model.name, "frame": "x".join(map(str, FRAME))}
    report |= {"target_percent": 25, "results": results, "machine": machine_facts()}
    text = json.dumps(report, indent=1) + "\n"
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
