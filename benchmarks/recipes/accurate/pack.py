"""Pack photographs and labels into two files that fit the memory of one GPU.

    python benchmarks/recipes/accurate/pack.py DATA OUT

DATA is a folder with coco-train, coco-extra, coco-unlabelled and people, each with ``images/`` and, unless it is
without labels, ``annotations.json`` in COCO's keypoint format. OUT/a.npz gets the first three, OUT/b.npz gets people.
Images of coco-train whose id is divisible by ten are packed, but marked as held out: they are never trained on.

A file holds ``blob`` (uint8, all images as WebP one behind the other), ``offsets`` (int[N + 1] into it), ``people``
(float32[P, 18, 3]: x and y in pixels, confidence in 0..1, 0 where unknown), ``index`` (int[P], each person's image) and
``held`` (bool[N]).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32

from featherpose.data.coco import map_keypoints
from featherpose.skeleton import COCO_17, OPENPOSE_18

FILES = {"a.npz": ("coco-train", "coco-extra", "coco-unlabelled"), "b.npz": ("people",)}
HELD_OUT_FOLDER, HELD_OUT_EVERY = "coco-train", 10

WEBP_QUALITY = 78
HIDDEN_CONFIDENCE = 0.9
"""Of a keypoint that was labeled though it is hidden: its place is a guess."""
SURE_SCORE = 0.8
"""Keypoints of a model count in full from this score on, and in proportion below it."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """One image file and the annotations of its people, as COCO's file states them."""

    path: Path
    held: bool
    annotations: Sequence[Mapping[str, Any]]


def photographs(folder: Path) -> list[Photograph]:
    """List the images of a folder: by id where they are annotated, by name where they are not."""
    images = folder / "images"
    if not (folder / "annotations.json").exists():
        return [Photograph(path, False, ()) for path in sorted(images.iterdir())]
    file = json.loads((folder / "annotations.json").read_text())
    people: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in file["annotations"]:
        people.setdefault(annotation["image_id"], []).append(annotation)
    found = []
    for image in sorted(file["images"], key=lambda image: int(image["id"])):
        held = folder.name == HELD_OUT_FOLDER and image["id"] % HELD_OUT_EVERY == 0
        found.append(Photograph(images / image["file_name"], held, people.get(image["id"], ())))
    return found


def labeled_keypoints(annotation: Mapping[str, Any]) -> Float32[np.ndarray, "18 3"] | None:
    """Return a person's x, y and confidence in OpenPose's order; None for crowds and people without keypoints."""
    if annotation.get("num_keypoints", 0) == 0 or annotation.get("iscrowd"):
        return None
    keypoints = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)
    visibility = keypoints[:, 2]
    if "keypoint_scores" in annotation:
        confidence = np.where(visibility > 0, np.minimum(1, np.array(annotation["keypoint_scores"]) / SURE_SCORE), 0)
    else:
        # COCO's visibility: 2 seen, 1 labeled but hidden, 0 not labeled.
        confidence = np.where(visibility > 1.5, 1, np.where(visibility > 0.5, HIDDEN_CONFIDENCE, 0))
    known = np.column_stack((keypoints[:, :2], confidence))
    return map_keypoints(known, COCO_17.mapping_to(OPENPOSE_18)).astype(np.float32)


def pack(folders: Sequence[Path], out: Path, quality: int) -> None:
    """Write the images and people of some folders to one file."""
    images: list[bytes] = []
    held: list[bool] = []
    people: list[np.ndarray] = []
    index: list[int] = []
    for photograph in (each for folder in folders for each in photographs(folder)):
        pixels = cv2.imread(str(photograph.path), cv2.IMREAD_COLOR)
        if pixels is None:
            raise SystemExit(f"{photograph.path} is no image that can be read")
        for annotation in photograph.annotations:
            if (person := labeled_keypoints(annotation)) is not None:
                people.append(person)
                index.append(len(images))
        images.append(cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes())
        held.append(photograph.held)
    np.savez(
        out, blob=np.frombuffer(b"".join(images), np.uint8), offsets=np.cumsum([0, *map(len, images)]),
        people=np.array(people, np.float32).reshape(-1, OPENPOSE_18.num_keypoints, 3), index=np.array(index, int),
        held=np.array(held, bool),
    )  # fmt: skip
    print(f"{out}: {len(images)} images ({sum(held)} held out), {len(people)} people, {out.stat().st_size >> 20} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("out", type=Path, help="folder for a.npz and b.npz")
    parser.add_argument("--quality", type=int, default=WEBP_QUALITY, help="of the WebP images, 1 to 100")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, folders in FILES.items():
        pack([options.data / folder for folder in folders], options.out / name, options.quality)


if __name__ == "__main__":
    main()
