"""Time of decoding and encoding by the number of people, on one core, beside the plain full-resize decoder.

People are real arrangements of keypoints from COCO annotations, each scaled to fit a place of a grid, drawn into maps
of 32x57 cells (network input 456x256) or 64x114 (912x512). How many of them come out is part of the result.

    python benchmarks/decode.py --annotations ANNOTATIONS.json.gz --out benchmarks/results/decode.json
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from featherpose.evaluation.performance.machine import machine_facts
from featherpose.evaluation.performance.timing import Timing
from featherpose.evaluation.reference.paf import PlainPafDecoder
from featherpose.evaluation.reference.round_trip import arrangements
from featherpose.geometry import Letterbox
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_into, encode_maps
from featherpose.methods.paf.maps import Maps
from featherpose.oks import oks_matrix
from featherpose.poses import Poses
from featherpose.skeleton import OPENPOSE_18


def timed(calls: Sequence[Callable[[], object]], rounds: int, block: int = 5) -> dict[str, Any]:
    """Time calls in turns: the processor time of this thread, and the time on the wall.

    The two agree on an idle machine; on a busy one the processor time still tells what the work costs.
    """
    for call in calls:
        call()
    processor: list[float] = []
    wall: list[float] = []
    for _ in range(rounds):
        for call in calls:
            for _ in range(block):
                cpu, clock = time.thread_time(), time.perf_counter()
                call()
                processor.append(1e3 * (time.thread_time() - cpu))
                wall.append(1e3 * (time.perf_counter() - clock))
    return {"processor": Timing.of(processor).as_dict(), "wall": Timing.of(wall).as_dict()}


_ASPECT = 0.55  # width to height of a standing person


def whole_people(annotations: Path) -> list[np.ndarray]:
    """Upright people with at least 14 of 18 keypoints, the limbs to the knees among them, at the origin."""
    people = []
    for _, _, persons in arrangements(annotations, OPENPOSE_18):
        for person in persons:
            seen = ~np.isnan(person[:, 0])
            if seen.sum() >= 14 and seen[[1, 2, 5, 8, 11]].all():
                low, high = np.nanmin(person, axis=0), np.nanmax(person, axis=0)
                width, height = (high - low).tolist()
                if height > 100 and width < 0.6 * height:
                    people.append(person - low)
    return people


def crowd(people: list[np.ndarray], count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """``count`` people in a grid that fills a network input."""
    width, height = size
    rows = max(1, round(math.sqrt(count * height * _ASPECT / width)))
    while -(-count // rows) * (height / rows) * _ASPECT > width * 1.25:
        rows += 1
    columns = -(-count // rows)
    cell = np.array([width / columns, height / rows])
    chosen = np.random.default_rng(seed).permutation(len(people))
    drawn = []
    for i in range(count):
        person = people[chosen[i % len(people)]]
        extent = np.nanmax(person, axis=0)
        scale = float((cell * (0.86, 0.9) / extent).min())
        place = np.array([i % columns, i // columns]) * cell + (cell - extent * scale) / 2
        drawn.append(person * scale + place)
    return np.array(drawn, np.float32)


def came_out(truth: np.ndarray, poses: Poses) -> int:
    """People that a decoded person matches with an OKS of at least 0.5."""
    drawn = Poses(truth, np.ones(truth.shape[:2], np.float32), np.ones(len(truth), np.float32), OPENPOSE_18, (1, 1))
    if not len(poses):
        return 0
    similarity = oks_matrix(drawn, poses)
    matched = 0
    for _ in range(min(similarity.shape)):
        best = np.unravel_index(int(similarity.argmax()), similarity.shape)
        if similarity[best] < 0.5:
            break
        matched += 1
        similarity[best[0]] = similarity[:, best[1]] = 0
    return matched


def measure(people: list[np.ndarray], count: int, size: tuple[int, int], rounds: int, plain: bool) -> dict[str, Any]:
    """Return the times of one crowd: the median over five different ones."""
    box = Letterbox(size, size, (0, 0), size)
    better, published = PafDecoder(OPENPOSE_18), PafDecoder(OPENPOSE_18, PafOptions.published())
    truths = [crowd(people, count, size, seed) for seed in range(5)]
    scenes = [encode_maps(truth, OPENPOSE_18, size) for truth in truths]
    results: dict[str, Any] = {"people": count, "map": [size[1] // 8, size[0] // 8]}
    for name, decoder in (("default", better), ("published", published)):
        found = [came_out(truth, decoder(maps, box)) for truth, maps in zip(truths, scenes, strict=True)]
        results[f"{name}_came_out"] = round(sum(found) / (5 * count), 4)

    def each(decoder: PafDecoder | PlainPafDecoder, maps: Maps) -> Any:
        return lambda: decoder(maps, box)

    for name, decoder in (("default", better), ("published", published)):
        results[name] = timed([each(decoder, maps) for maps in scenes], rounds)
    if plain:
        for name, ratio in (("plain_x4", 4), ("plain_image_1280x720", None)):
            source = box if ratio else Letterbox((1280, 720), (455, 256), (0, 0), size)
            slow = PlainPafDecoder(OPENPOSE_18, ratio=ratio)
            call = lambda slow=slow, source=source: slow(scenes[0], source)  # noqa: E731
            results[name] = timed([call], 3, 1)
    return results


def measure_encoding(people: list[np.ndarray]) -> dict[str, Any]:
    """Ten people into maps of 46x46 cells that exist already, as in training."""
    truth = crowd(people, 10, (368, 368))
    heatmaps, pafs = np.empty((19, 46, 46), np.float32), np.empty((38, 46, 46), np.float32)
    times = timed([lambda: encode_into(truth, OPENPOSE_18, heatmaps, pafs)], 100)
    return {"people": 10, "map": [46, 46], **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-plain", action="store_true", help="leave the slow decoder out")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    people = whole_people(options.annotations)
    report: dict[str, Any] = {"machine": machine_facts(), "threads": 1, "encode": measure_encoding(people)}
    print("encode", report["encode"])
    report["decode"] = []
    for size, counts in (((456, 256), (1, 5, 10, 20, 35, 50, 100)), ((912, 512), (1, 10, 20, 50, 100, 150, 200))):
        for count in counts:
            plain = not options.no_plain and size[0] == 456 and count in (1, 10)
            row = measure(people, count, size, options.rounds, plain)
            report["decode"].append(row)
            print(json.dumps(row), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
