"""Fit the networks that rate people: what accuracy is expected of a pose, judged by itself.

    python benchmarks/recipes/people/fit_rating.py DATA --out src/featherpose/rating

DATA is a folder with coco-train (COCO keypoint format). The bundled networks find people at heights 256 and 368; each
person's target is the share of COCO's ten thresholds at which the evaluation matches it with an annotated person, and
people that the evaluation ignores are left out. ``found.npz`` rates the people of networks for whole images,
``refined.npz`` those that the refiner looked at again. Images whose id is divisible by ten are held out: AP with the
ranks before, with ratings, and with the true shares is printed for them. Everything is seeded; what was found is kept
in --cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from small_network import linear_layers, parse_arguments, train
from torch import nn

from featherpose import PafOptions, PoseEstimator, Poses
from featherpose.evaluation.keypoints.coco_ap import evaluated, poses_as_results, summarized
from featherpose.evaluation.keypoints.dataset import CocoDataset, read_coco_dataset
from featherpose.evaluation.reference.rating import rate, rating_features
from featherpose.media.images import read_image
from featherpose.rating.layers import Layers, write_layers
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import COCO_17
from featherpose.topdown.person_estimator import open_person_estimator
from featherpose.topdown.refinement import Refiner
from featherpose.topdown.topdown_options import RefineOptions
from featherpose.zoo.resolve import resolve_model

RUNS = {
    "found": (("feather", 256), ("feather", 368), ("accurate", 256), ("accurate", 368)),
    "refined": (("feather", 256), ("feather", 368)),
}
HIDDEN = 64
EPOCHS = 25
DROPOUT = 0.3


def collect(data: CocoDataset, model: str, height: int, *, refine: bool) -> list[Poses]:
    """Find everyone, ranked as without a rating."""
    resolved = resolve_model(model)
    refiner: Refiner | None = None
    if refine:  # one that does not rate, whatever its card says
        refiner = Refiner(open_person_estimator("refiner"), resolved.spec.skeleton, RefineOptions(mode="all"), None)
    backend = open_backend(resolved.path, resolved.spec)
    options = PafOptions(rate=False)
    with PoseEstimator.from_backend(backend, height=height, options=options, refiner=refiner) as estimator:
        return list(estimator.map(read_image(image.path) for image in data.images))


def kept(path: Path, data: CocoDataset, model: str, height: int, *, refine: bool) -> list[Poses]:
    """Find everyone, or read what was found before."""
    if not path.exists():
        found = collect(data, model, height, refine=refine)
        people = [poses.to_skeleton(COCO_17) for poses in found]
        np.savez_compressed(
            path, allow_pickle=False, counts=[len(p) for p in people], sizes=[p.image_size for p in people],
            keypoints=np.concatenate([p.keypoints for p in people]),
            keypoint_scores=np.concatenate([p.keypoint_scores for p in people]),
            scores=np.concatenate([p.scores for p in people]),
        )  # fmt: skip
    with np.load(path) as file:
        arrays = dict(file)
    ends = np.cumsum(arrays["counts"])
    return [
        Poses(
            arrays["keypoints"][a:b], arrays["keypoint_scores"][a:b], arrays["scores"][a:b], COCO_17,
            (int(size[0]), int(size[1])),
        )
        for a, b, size in zip(ends - arrays["counts"], ends, arrays["sizes"], strict=True)
    ]  # fmt: skip


def mirrored(poses: Poses) -> Poses:
    """Return the same people in the mirrored image."""
    order = list(COCO_17.flip_order)
    keypoints = poses.keypoints[:, order].copy()
    keypoints[..., 0] = poses.image_size[0] - 1 - keypoints[..., 0]
    return replace(poses, keypoints=keypoints, keypoint_scores=poses.keypoint_scores[:, order])


def targets(data: CocoDataset, found: list[Poses]) -> Iterator[np.ndarray]:
    """Yield for each image the share of thresholds that each person passes; NaN where the evaluation ignores it."""
    results = [
        r for image, poses in zip(data.images, found, strict=True) for r in poses_as_results(poses, image.image_id)
    ]
    shares = np.full(len(results), np.nan)
    for image in evaluated(data, results).evalImgs:
        if image is None or tuple(image["aRng"]) != (0, 1e10):
            continue
        rows = np.array(image["dtIds"], int) - 1
        passed = (image["dtMatches"] > 0).mean(axis=0)
        shares[rows] = np.where((image["dtIgnore"] > 0).any(axis=0), np.nan, passed)
    ends = np.cumsum([len(poses) for poses in found])
    yield from np.split(shares, ends[:-1])


def precision(data: CocoDataset, found: list[Poses], scores: list[np.ndarray]) -> float:
    """Return AP with other scores."""
    ranked = [replace(poses, scores=np.asarray(s, np.float32)) for poses, s in zip(found, scores, strict=True)]
    results = [r for i, poses in zip(data.images, ranked, strict=True) for r in poses_as_results(poses, i.image_id)]
    return summarized(evaluated(data, results))[0]


def fit(features: np.ndarray, wanted: np.ndarray, seed: int) -> Layers:
    """Train a network, and fold the normalization of its features into the first layer."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-3
    inputs, truth = torch.tensor((features - mean) / spread), torch.tensor(wanted)
    network = nn.Sequential(
        nn.Linear(features.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1),
    )  # fmt: skip

    def loss(some: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(network(inputs[some])[:, 0], truth[some])

    train(network, len(inputs), loss, epochs=EPOCHS, weight_decay=0.05)
    parts = [(weight.numpy(), bias.numpy()) for weight, bias in linear_layers(network)]
    weight, bias = parts[0]
    parts[0] = weight / spread, bias - weight @ (mean / spread)
    return tuple((w.astype(np.float16).astype(np.float32), b.astype(np.float32)) for w, b in parts)


def main() -> None:
    """Collect, fit, report and save both networks."""
    arguments = parse_arguments("person-rating")
    arguments.cache.mkdir(exist_ok=True)
    data = read_coco_dataset(arguments.data / "coco-train")
    held = np.array([image.image_id % 10 == 0 for image in data.images])
    held_out = data.only([image.path.name for image, out in zip(data.images, held, strict=True) if out])
    for name, runs in RUNS.items():
        rows: list[np.ndarray] = []
        wanted: list[np.ndarray] = []
        tests: list[tuple[str, list[Poses], list[np.ndarray], list[float]]] = []
        for model, height in runs:
            path = arguments.cache / f"{name}-{model}-{height}.npz"
            found = kept(path, data, model, height, refine=name == "refined")
            scales = [height / poses.image_size[1] if name == "found" else 1.0 for poses in found]
            shares = list(targets(data, found))
            for poses, share, scale, out in zip(found, shares, scales, held, strict=True):
                counts = np.isfinite(share)
                if not out and counts.any():
                    rows += [rating_features(side, scale)[counts] for side in (poses, mirrored(poses))]
                    wanted += [share[counts]] * 2
            chosen = [part for part, out in zip(zip(found, shares, scales, strict=True), held, strict=True) if out]
            tests.append((f"{model} {height}", *map(list, zip(*chosen, strict=True))))  # type: ignore[arg-type]
        layers = fit(np.concatenate(rows), np.concatenate(wanted).astype(np.float32), arguments.seed)
        for label, people, truth, scales in tests:
            rated = [rate(p, layers, s) if len(p) else np.zeros(0) for p, s in zip(people, scales, strict=True)]
            before = precision(held_out, people, [p.scores for p in people])
            after = precision(held_out, people, rated)
            best = precision(held_out, people, [np.nan_to_num(share) for share in truth])
            print(f"{name} {label}: AP {before:.4f}, rated {after:.4f}, with the true shares {best:.4f}", flush=True)
        write_layers(arguments.out / f"{name}.npz", [(weight.astype(np.float16), bias) for weight, bias in layers])


if __name__ == "__main__":
    main()
