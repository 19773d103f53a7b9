"""What scenes and hidden heads cost, and how many heads of photographs are hidden.

Cost: a frame of 1280x720 with ten people whose joints are known, on top of finding them. Heads: every photograph of
coco-val, at one height as `featherpose overlay` looks at it and at the heights of ``--every-head``; a head counts as
hidden if all its labeled noses and eyes lie in the hidden area. The missed ones go into a contact sheet.

The least scores of `HeadOptions` are chosen on held-out images of coco-train (id divisible by ten) with
``--min-scores``: the highest that hides, at one height and at several, as many of all labeled heads as the lowest does.

    python benchmarks/augment.py --keep-heads --json benchmarks/results/augment.json
    python benchmarks/augment.py --heads ../shared/data/coco-val --sheet missed.png --json ...
    python benchmarks/augment.py --heads held-out --min-scores 0.02 0.03 0.05 0.08 0.12 --json ...
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
from reports import publish, spread

from featherpose.augment.effects import CANDIDATE_SCORE
from featherpose.augment.privacy.anonymize import hide_heads
from featherpose.augment.privacy.heads import HeadOptions, Heads, find_heads
from featherpose.augment.scene_file import builtin_scenes, load_scene
from featherpose.augment.several_heights import BEST_HEIGHTS, SeveralHeights
from featherpose.evaluation.anonymize import HeadTruth, HiddenShare, heads_of_labels, judge_heads, summarize
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
    """Milliseconds a frame, after a warm-up; of the processor as well, which does not count while others have it."""
    for frame in range(10):
        work(frame)
    spent, busy = [], []
    for frame in range(10, 10 + ROUNDS):
        started, started_busy = perf_counter(), process_time()
        work(frame)
        busy.append(1e3 * (process_time() - started_busy))
        spent.append(1e3 * (perf_counter() - started))
    return {**spread(spent), "least": round(min(spent), 2), "processor median": round(float(np.median(busy)), 2)}


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


@dataclass(slots=True)
class Tally:
    """Labeled heads of photographs, and what was hidden there."""

    sizes: list[float] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    wasted: list[float] = field(default_factory=list)
    heads: int = 0

    def add(self, photo: Photo, heads: Heads) -> list[bool]:
        """Count a photograph; tell which of its labeled heads are hidden."""
        done, share = judge_heads(photo.truth, heads, (photo.image.shape[1], photo.image.shape[0]), photo.unknown)
        self.sizes += [head.size_px for head in photo.truth]
        self.hidden += done
        self.wasted.append(share)
        self.heads += len(heads)
        return done

    def figures(self) -> dict[str, Any]:
        """Shares by size, and what they cost."""
        ranges = summarize(self.sizes, self.hidden)
        everyone = HiddenShare("all sizes", len(self.hidden), sum(self.hidden))
        return {
            **{f"hidden, {s.name}": f"{s.hidden} of {s.heads} ({100 * s.share:.1f} %)" for s in (*ranges, everyone)},
            "falsely covered, mean share of an image": round(float(np.mean(self.wasted)), 4),
            "heads hidden an image": round(self.heads / len(self.wasted), 2),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photograph, its labeled heads, the boxes of people without labels, and everyone who was found."""

    image: np.ndarray
    truth: list[HeadTruth]
    unknown: list[tuple[float, float, float, float]]
    found: Poses


def photographs(folder: Path, heights: tuple[int, ...], least: float) -> Iterator[Photo]:
    """Look at every photograph of a folder, with candidates from a score on."""
    data = parse_json((folder / "annotations.json").read_bytes())
    people: dict[int, list[dict[str, Any]]] = {}
    for annotation in data["annotations"]:
        people.setdefault(annotation["image_id"], []).append(annotation)
    estimator = SeveralHeights(heights=heights, refine="off", candidates=least)
    for record in data["images"]:
        image = read_image(folder / "images" / record["file_name"]).copy()
        here = people.get(record["id"], [])
        labeled = [np.reshape(a["keypoints"], (17, 3)) for a in here if a.get("num_keypoints", 0)]
        boxes = [a["bbox"] for a in here if not a.get("num_keypoints", 0)]
        found = estimator.submit(image).timed_result()[0]
        yield Photo(image, heads_of_labels(labeled), [(x, y, x + w, y + h) for x, y, w, h in boxes], found)
    estimator.close()


def measure_heads(folder: Path, heights: tuple[int, ...], sheet: Path | None) -> dict[str, Any]:
    """Share of labeled heads that are hidden, by size."""
    tally = Tally()
    missed: list[np.ndarray] = []
    for photo in photographs(folder, heights, CANDIDATE_SCORE):
        heads = find_heads(photo.found, HeadOptions())
        done = tally.add(photo, heads)
        hide_heads(photo.image, heads, "pixelate")
        missed += [
            around(photo.image, head.points.mean(0), head.size_px)
            for head, ok in zip(photo.truth, done, strict=True)
            if not ok
        ]
    if sheet is not None and missed:
        rows = [missed[i : i + 8] for i in range(0, len(missed), 8)]
        rows[-1] += [np.zeros_like(missed[0])] * (len(rows[0]) - len(rows[-1]))
        write_image(sheet, np.vstack([np.hstack(row) for row in rows]))
    return {"images": len(tally.wasted), "heights": list(heights), **tally.figures()}


def measure_scores(folder: Path, heights: tuple[int, ...], scores: Sequence[float]) -> dict[str, Any]:
    """Do the same for several least scores, of people's keypoints and of candidates alike."""
    tallies = {score: Tally() for score in scores}
    for photo in photographs(folder, heights, min(scores)):
        for score, tally in tallies.items():
            tally.add(photo, find_heads(photo.found, HeadOptions(min_keypoint_score=score, min_peak_score=score)))
    images = {len(tally.wasted) for tally in tallies.values()}.pop()
    return {
        "images": images,
        "heights": list(heights),
        **{f"from score {score:g}": tally.figures() for score, tally in tallies.items()},
    }


def around(image: np.ndarray, center: np.ndarray, size: float) -> np.ndarray:
    """Cut a missed head out with its surroundings."""
    half = int(max(24, 3 * size))
    padded = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_CONSTANT)
    x, y = (int(v) for v in center)
    part = padded[y : y + 2 * half, x : x + 2 * half]
    return np.asarray(cv2.resize(part, (TILE, TILE), interpolation=cv2.INTER_AREA))


def earlier(path: Path | None, part: str) -> dict[str, Any]:
    """Return the ``cost`` or the ``heads`` that an earlier run wrote, and where they were taken."""
    if path is None or not path.exists():
        return {}
    old = parse_json(path.read_bytes())
    machine = {key: old[key] for key in ("load average at the end", "machine")}
    kept = {
        key: value
        for key, value in old.items()
        if (key.endswith("ms a frame") if part == "cost" else key.startswith("heads ") and key != "heads taken on")
    }
    return {**kept, f"{part} taken on": old.get(f"{part} taken on", machine)} if kept else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, help="folder of coco-val; with --min-scores of held-out images")
    parser.add_argument("--sheet", type=Path, help="contact sheet of the heads that --every-head misses")
    parser.add_argument("--min-scores", type=float, nargs="+", metavar="SCORE", help="compare these; no cost, no sheet")
    parser.add_argument("--keep-cost", action="store_true", help="do not measure it: leave what --json has")
    parser.add_argument("--keep-heads", action="store_true", help="measure the cost alone: leave the heads of --json")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.heads is None and (given.min_scores or given.keep_cost):
        parser.error("--min-scores and --keep-cost need --heads")
    if given.keep_heads and given.heads is not None:
        parser.error("--keep-heads measures no heads")
    if given.min_scores:
        publish({"heads at one height": measure_scores(given.heads, (256,), given.min_scores),
                 "heads with --every-head": measure_scores(given.heads, BEST_HEIGHTS, given.min_scores)},
                given.json)  # fmt: skip
        return
    cost = earlier(given.json, "cost") if given.keep_cost else measure_cost()
    report: dict[str, Any] = {"size": list(SIZE), "people": PEOPLE, **cost}
    if given.heads is not None:
        report["heads at one height"] = measure_heads(given.heads, (256,), None)
        report["heads with --every-head"] = measure_heads(given.heads, BEST_HEIGHTS, given.sheet)
    elif given.keep_heads:
        report |= earlier(given.json, "heads")
    publish(report, given.json)


if __name__ == "__main__":
    main()
