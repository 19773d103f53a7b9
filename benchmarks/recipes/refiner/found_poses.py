r"""Find everyone by a bottom-up network, in several looks at each photograph, for a refiner that takes these poses.

    python benchmarks/recipes/refiner/found_poses.py DATA --found coco-train.json ... --out poses.npz

DATA and the files of `featherpose annotate` are those of `dense.py`, and so is the order of the people. The looks are
the image at input heights 256 and 208, and the mirror image at 256 and 320: the network has learned from most of these
photographs and finds worse poses in others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from people_crops import Person, found_people, read_people
from shorten import FOLDERS

from featherpose import PoseEstimator
from featherpose.data.labeled_pixels import read_image
from featherpose.geometry import box_overlaps
from featherpose.skeleton import COCO_17
from featherpose.topdown.boxes import person_boxes

LOOKS = ((256, False), (256, True), (208, False), (320, True))
"""Input heights, and whether the image is mirrored."""
LEAST_OVERLAP = 0.3


def look_at(image: np.ndarray, estimator: PoseEstimator, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return float32[N, 17, 3] keypoints with scores, and float32[N, 4] boxes, in pixels of the image."""
    poses = estimator(np.ascontiguousarray(image[:, ::-1]) if mirrored else image)
    boxes, same = person_boxes(poses), poses.to_skeleton(COCO_17)
    keypoints = np.concatenate([same.keypoints, same.keypoint_scores[..., None]], axis=2)
    if mirrored:
        last = np.float32(image.shape[1] - 1)
        keypoints = keypoints[:, list(COCO_17.flip_order)]
        keypoints[..., 0] = last - keypoints[..., 0]
        boxes = np.stack([last - boxes[:, 2], boxes[:, 1], last - boxes[:, 0], boxes[:, 3]], axis=1)
    return keypoints, boxes


def match(boxes: np.ndarray, people: np.ndarray) -> list[tuple[int, int]]:
    """Pair boxes with people's boxes, the best overlap first, each once."""
    if not len(boxes):
        return []
    pairs, overlaps = [], np.array([box_overlaps(box, people) for box in boxes])
    while overlaps.max() > LEAST_OVERLAP:
        box, person = divmod(int(overlaps.argmax()), overlaps.shape[1])
        pairs.append((box, person))
        overlaps[box], overlaps[:, person] = 0, 0
    return pairs


def find(people: Sequence[Person], model: str, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32[P, looks, 17, 3] keypoints with scores and float32[P, looks, 4] boxes, NaN where not found."""
    keypoints = np.full((len(people), len(LOOKS), 17, 3), np.nan, np.float32)
    boxes = np.full((len(people), len(LOOKS), 4), np.nan, np.float32)
    in_photograph: dict[Path, list[int]] = {}
    for number, person in enumerate(people):
        in_photograph.setdefault(person.path, []).append(number)
    estimators = {height: PoseEstimator(model, quality="fast", height=height, threads=threads) for height, _ in LOOKS}
    for done, (path, numbers) in enumerate(in_photograph.items()):
        true = np.array([people[number].box for number in numbers], np.float32)
        for look, (height, mirrored) in enumerate(LOOKS):
            found, found_boxes = look_at(read_image(path), estimators[height], mirrored)
            for one, which in match(found_boxes, true):
                keypoints[numbers[which], look], boxes[numbers[which], look] = found[one], found_boxes[one]
        if done % 500 == 0:
            print(f"{done} of {len(in_photograph)} photographs", flush=True)
    return keypoints, boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--found", type=Path, nargs="*", default=[], help="files of `featherpose annotate`")
    parser.add_argument("--model", default="feather", help="name or file of a bottom-up network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    people = read_people([options.data / name for name in FOLDERS])
    people += found_people(options.found, people)
    keypoints, boxes = find(people, options.model, options.threads)
    seen = np.isfinite(boxes[:, :, 0])
    parts = ", ".join(f"{part:.3f}" for part in seen.mean(axis=0))
    print(f"{len(people)} people, of whom each look found {parts}; {seen.any(axis=1).sum()} were found at all")
    np.savez(options.out, keypoints=keypoints, boxes=boxes)


if __name__ == "__main__":
    main()
