"""Fit the network that estimates a person's box from the keypoints that a bottom-up network found.

    python benchmarks/recipes/people/fit_box.py DATA --out src/featherpose/topdown/person_box.npz

DATA is a folder with coco-train, coco-extra and people (COCO keypoint format with boxes). The bundled network sees
every image at height 256, those of COCO at 368 as well; the people it finds are matched with annotated ones by OKS over
0.3. Images of coco-train whose id is divisible by ten are held out: the overlap of estimated and annotated boxes is
printed for them. Everything is seeded; what was found is kept in --cache.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from small_network import linear_layers, parse_arguments, train
from torch import nn

from featherpose import PoseEstimator, Poses
from featherpose.data.coco_file import CocoPerson, read_coco_file
from featherpose.geometry import box_overlaps
from featherpose.media.images import read_image
from featherpose.oks import oks_matrix
from featherpose.rating.layers import write_layers
from featherpose.rating.shape import shape_features
from featherpose.skeleton import COCO_17

FOLDERS = {"coco-train": (256, 368), "coco-extra": (256, 368), "people": (256,)}
SAME_OKS = 0.3
HIDDEN = 64
EPOCHS = 80


def collect(data: Path) -> dict[str, np.ndarray]:
    """Return keypoints, image size, annotated box, held-out flag and weight of everyone who is found and annotated."""
    rows: list[tuple[np.ndarray, tuple[int, int], np.ndarray, bool, float]] = []
    for name, heights in FOLDERS.items():
        file = read_coco_file(data / name / "annotations.json", COCO_17)
        people = {image.image_id: [p for p in file.people if p.image_id == image.image_id] for image in file.images}
        for height in heights:
            estimator = PoseEstimator(quality="fast", height=height)
            paths = (data / name / "images" / image.file_name for image in file.images)
            for image, poses in zip(file.images, estimator.map(read_image(path) for path in paths), strict=True):
                held = name == "coco-train" and image.image_id % 10 == 0
                weight = 0.5 if name == "people" else 1.0
                known = [p for p in people[image.image_id] if (p.keypoints[:, 2] > 0).any() and not p.is_crowd]
                for person, box in matched(poses.to_skeleton(COCO_17), known):
                    rows.append((person, poses.image_size, box, held, weight))
            print(name, height, len(rows), flush=True)
    keypoints, sizes, boxes, held_out, weights = zip(*rows, strict=True)
    return {
        "keypoints": np.array(keypoints, np.float32), "sizes": np.array(sizes), "boxes": np.array(boxes, np.float32),
        "held_out": np.array(held_out), "weights": np.array(weights, np.float32),
    }  # fmt: skip


def matched(found: Poses, known: list[CocoPerson]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pair found people with the annotated person they resemble most."""
    if not len(found) or not known:
        return []
    points = np.array([np.where(p.keypoints[:, 2:] > 0, p.keypoints[:, :2], np.nan) for p in known], np.float32)
    truth = Poses(
        points, (~np.isnan(points[..., 0])).astype(np.float32), np.ones(len(points), np.float32), COCO_17,
        found.image_size,
    )  # fmt: skip
    similarity = oks_matrix(truth, found, areas=np.array([p.area for p in known], np.float32))
    pairs = []
    for place in range(len(found)):
        best = int(similarity[:, place].argmax())
        if similarity[best, place] > SAME_OKS:
            x, y, width, height = known[best].box
            pairs.append((found.keypoints[place], np.array([x, y, x + width, y + height])))
    return pairs


def features_of(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return features, hulls, sides and clipped boxes."""
    parts = [shape_features(k[None], tuple(s)) for k, s in zip(data["keypoints"], data["sizes"], strict=True)]
    features, hulls, sides = (np.concatenate(part) for part in zip(*parts, strict=True))
    limits = np.concatenate((data["sizes"], data["sizes"]), axis=1).astype(np.float32)
    return features, hulls, sides, np.clip(data["boxes"], 0, limits)


def mirrored(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the same people in mirrored images."""
    width = data["sizes"][:, :1].astype(np.float32)
    keypoints = data["keypoints"][:, list(COCO_17.flip_order)].copy()
    keypoints[..., 0] = width - 1 - keypoints[..., 0]
    boxes = data["boxes"].copy()
    boxes[:, 0], boxes[:, 2] = width[:, 0] - data["boxes"][:, 2], width[:, 0] - data["boxes"][:, 0]
    return {**data, "keypoints": keypoints, "boxes": boxes}


def fit(data: dict[str, np.ndarray], seed: int) -> nn.Sequential:
    """Train the network and print the overlap on held-out people."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    both = [features_of(data), features_of(mirrored(data))]
    chosen = ~data["held_out"] & np.isfinite(both[0][0]).all(axis=1)
    inputs = torch.tensor(np.concatenate([f[chosen] for f, *_ in both]))
    wanted = torch.tensor(np.concatenate([((b - h) / s)[chosen] for _, h, s, b in both])).clamp(-4, 4).float()
    weights = torch.tensor(np.tile(data["weights"][chosen], 2))
    network = nn.Sequential(
        nn.Linear(inputs.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 4)
    )

    def loss(some: torch.Tensor) -> torch.Tensor:
        error = nn.functional.smooth_l1_loss(network(inputs[some]), wanted[some], beta=0.1, reduction="none")
        return (error.sum(1) * weights[some]).mean()

    train(network, len(inputs), loss, epochs=EPOCHS, weight_decay=3e-3)
    features, hulls, sides, boxes = both[0]
    held = data["held_out"] & np.isfinite(features).all(axis=1)
    with torch.no_grad():
        estimated = hulls[held] + network(torch.tensor(features[held])).numpy() * sides[held]
    limits = np.concatenate((data["sizes"], data["sizes"]), axis=1)[held]
    result = box_overlaps(np.clip(estimated, 0, limits), boxes[held])
    hull = box_overlaps(hulls[held], boxes[held])
    print(f"{held.sum()} held-out people; mean overlap {result.mean():.4f}, boxes of the keypoints {hull.mean():.4f}")
    print(f"under one half: {(result < 0.5).mean():.4f}, boxes of the keypoints {(hull < 0.5).mean():.4f}")
    return network


def main() -> None:
    """Collect, fit and save."""
    arguments = parse_arguments("person-box-data.npz")
    if arguments.cache.exists():
        with np.load(arguments.cache) as file:
            data = dict(file)
    else:
        data = collect(arguments.data)
        np.savez_compressed(arguments.cache, allow_pickle=False, **data)
    layers = linear_layers(fit(data, arguments.seed))
    write_layers(arguments.out, [(weight.half().numpy(), bias.half().numpy()) for weight, bias in layers])


if __name__ == "__main__":
    main()
