"""What scenes and hidden heads cost, and how many heads of photographs are hidden.

Cost: a frame of 1280x720 with ten people whose joints are known, on top of finding them. Heads: every photograph of
coco-val, at one height as `featherpose overlay` looks at it and at the heights of ``--every-head``; a head counts as
hidden if all its labeled noses and eyes lie in the hidden area. The missed ones go into a contact sheet.

    python benchmarks/augment.py --json benchmarks/results/augment.json
    python benchmarks/augment.py --heads ../shared/data/coco-val --sheet missed.png --json ...
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from reports import publish, spread

from featherpose.augment.anonymize import hide_heads
from featherpose.augment.effects import CANDIDATE_SCORE
from featherpose.augment.heads import HeadOptions, find_heads
from featherpose.augment.scene_file import builtin_scenes, load_scene
from featherpose.augment.several_heights import BEST_HEIGHTS, SeveralHeights
from featherpose.evaluation.anonymize import heads_of_labels, judge_heads, summarize
from featherpose.evaluation.motion.paper_people import Proportions, standing_joints
from featherpose.media.images import read_image, write_image
from featherpose.parsing import parse_json
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17

SIZE = (1280, 720)
PEOPLE = 10
ROUNDS = 200
TILE = 160


def crowd(frame: int) -> Poses:
    """Ten people of 230 to 420 pixels who move."""
    people = []
    for i in range(PEOPLE):
        body = Proportions(70 + 6 * i, 1, 1, (110 + 115 * i + 3 * np.sin(frame / 5 + i), 300 + 8 * i))
        joints = standing_joints(body, {"left_elbow": 40 * np.sin(frame / 9), "right_wrist": -60})
        people.append([joints[name] for name in COCO_17.keypoints])
    points = np.array(people, np.float32)
    return Poses(points, np.ones(points.shape[:2], np.float32), np.ones(PEOPLE, np.float32), COCO_17, SIZE,
                 np.arange(PEOPLE))  # fmt: skip


def times(work: Callable[[int], object]) -> dict[str, float]:
    """Milliseconds a frame, after a warm-up."""
    for frame in range(10):
        work(frame)
    spent = []
    for frame in range(10, 10 + ROUNDS):
        started = perf_counter()
        work(frame)
        spent.append(1e3 * (perf_counter() - started))
    return {**spread(spent), "least": round(min(spent), 2)}


def measure_cost() -> dict[str, Any]:
    """Cost of every shipped scene and of hiding ten heads."""
    image = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    crowds = [crowd(frame) for frame in range(10 + ROUNDS)]
    report: dict[str, Any] = {}
    for name in builtin_scenes():
        player = load_scene(name).player()

        def draw(frame: int, player: Any = player) -> None:
            player.render(image, crowds[frame], frame / 30)

        report[f"scene {name}, ms a frame"] = times(draw)
    for method in ("blur", "pixelate", "box"):

        def hide(frame: int, method: Any = method) -> None:
            hide_heads(image, find_heads(crowds[frame]), method)

        report[f"anonymize {method}, ms a frame"] = times(hide)
    return report


def measure_heads(folder: Path, heights: tuple[int, ...], sheet: Path | None) -> dict[str, Any]:
    """Share of labeled heads that are hidden, by size."""
    data = parse_json((folder / "annotations.json").read_bytes())
    people: dict[int, list[dict[str, Any]]] = {}
    for annotation in data["annotations"]:
        people.setdefault(annotation["image_id"], []).append(annotation)
    estimator = SeveralHeights(heights=heights, refine="off", candidates=CANDIDATE_SCORE)
    sizes: list[float] = []
    hidden: list[bool] = []
    wasted: list[float] = []
    missed: list[np.ndarray] = []
    heads_found = 0
    for record in data["images"]:
        image = read_image(folder / "images" / record["file_name"]).copy()
        here = people.get(record["id"], [])
        labeled = [np.reshape(a["keypoints"], (17, 3)) for a in here if a.get("num_keypoints", 0)]
        boxes = [a["bbox"] for a in here if not a.get("num_keypoints", 0)]
        truth = heads_of_labels(labeled)
        heads = find_heads(estimator.submit(image).timed_result()[0], HeadOptions())
        done, share = judge_heads(
            truth, heads, (image.shape[1], image.shape[0]), [(x, y, x + w, y + h) for x, y, w, h in boxes]
        )
        hide_heads(image, heads, "pixelate")
        missed += [
            around(image, head.points.mean(0), head.size_px) for head, ok in zip(truth, done, strict=True) if not ok
        ]
        sizes += [head.size_px for head in truth]
        hidden += done
        wasted.append(share)
        heads_found += len(heads)
    estimator.close()
    if sheet is not None and missed:
        rows = [missed[i : i + 8] for i in range(0, len(missed), 8)]
        rows[-1] += [np.zeros_like(missed[0])] * (len(rows[0]) - len(rows[-1]))
        write_image(sheet, np.vstack([np.hstack(row) for row in rows]))
    return {
        "images": len(data["images"]),
        "heights": list(heights),
        **{f"hidden, {s.name}": f"{s.hidden} of {s.heads} ({100 * s.share:.1f} %)" for s in summarize(sizes, hidden)},
        "falsely covered, mean share of an image": round(float(np.mean(wasted)), 4),
        "heads hidden an image": round(heads_found / len(data["images"]), 2),
    }


def around(image: np.ndarray, center: np.ndarray, size: float) -> np.ndarray:
    """Cut a missed head out with its surroundings."""
    half = int(max(24, 3 * size))
    padded = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_CONSTANT)
    x, y = (int(v) for v in center)
    part = padded[y : y + 2 * half, x : x + 2 * half]
    return np.asarray(cv2.resize(part, (TILE, TILE), interpolation=cv2.INTER_AREA))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, help="folder of coco-val")
    parser.add_argument("--sheet", type=Path, help="contact sheet of the heads that --every-head misses")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report: dict[str, Any] = {"size": list(SIZE), "people": PEOPLE, **measure_cost()}
    if given.heads is not None:
        report["heads at one height"] = measure_heads(given.heads, (256,), None)
        report["heads with --every-head"] = measure_heads(given.heads, BEST_HEIGHTS, given.sheet)
    publish(report, given.json)


if __name__ == "__main__":
    main()
