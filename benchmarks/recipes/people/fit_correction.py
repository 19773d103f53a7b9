"""Fit the network that moves keypoints from the maximum of their heatmap to where the joint is.

    python benchmarks/recipes/people/fit_correction.py DATA --out src/featherpose/methods/paf

DATA is a folder with coco-train (COCO keypoint format). The bundled networks find people at heights 256 and 368, in the
images and in their mirror images; each keypoint of somebody whom an annotated person resembles is an example, and its
target is the way to the annotated joint. Further examples come from maps that are drawn around annotated people: where
a map is right, nothing is to be moved. The loss is one minus the keypoint's part of OKS. Images whose id is divisible
by ten are held out: AP before and after is printed for them. Everything is seeded; what was found is kept in --cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from small_network import linear_layers, parse_arguments, train
from torch import nn

from featherpose import PafOptions, Poses
from featherpose.evaluation.keypoints.coco_ap import evaluated, poses_as_results, summarized
from featherpose.evaluation.keypoints.dataset import CocoDataset, read_coco_dataset
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.methods.paf.correction import CORRECTION_UNIT_PX, correction_features
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.maps import Maps
from featherpose.methods.paf.method import maps_of
from featherpose.preprocess import prepare
from featherpose.rating.layers import Layers, run_layers, write_layers
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import COCO_17, OPENPOSE_18
from featherpose.zoo.resolve import resolve_model

RUNS = (("feather", 256), ("feather", 368), ("accurate", 256), ("accurate", 368))
HIDDEN = 64
EPOCHS = 12
DROPOUT = 0.2
ALIKE = 0.2  # OKS from which a found and an annotated person are one
DRAWN = 5  # one image of so many has drawn maps as well
_NECK_SIGMA = COCO_17.sigmas[COCO_17.keypoints.index("left_shoulder")]
_SIGMAS = np.array(
    [
        COCO_17.sigmas[COCO_17.keypoints.index(k)] if k in COCO_17.keypoints else _NECK_SIGMA
        for k in OPENPOSE_18.keypoints
    ]
)
_VARIANCES = (2 * _SIGMAS) ** 2


@dataclass(frozen=True)
class Examples:
    """Keypoints that were found: float32[N, F] features, the way to the joint in units, and the spread of OKS there.

    ``way`` float32[N, 2] is NaN where no annotated joint is known, ``spread`` float32[N] is in units squared.
    """

    features: Float32[np.ndarray, "N F"]
    way: Float32[np.ndarray, "N 2"]
    spread: Float32[np.ndarray, " N"]


@dataclass(frozen=True)
class Annotated:
    """One person of the data: float64[18, 2] keypoints, NaN where there is no label, and the area of COCO."""

    keypoints: np.ndarray
    area: float


def annotated_people(data: CocoDataset) -> dict[int, list[Annotated]]:
    """Return the people of each image, by the image's id."""
    people: dict[int, list[Annotated]] = {}
    for one in data.annotations["annotations"]:
        if one["num_keypoints"] and not one["iscrowd"]:
            labels = np.array(one["keypoints"], np.float32).reshape(1, -1, 3)
            points = np.where(labels[..., 2:] > 0, labels[..., :2], np.float32(np.nan))
            scores = (labels[..., 2] > 0).astype(np.float32)
            pose = Poses(points, scores, np.ones(1, np.float32), COCO_17, (1, 1)).to_skeleton(OPENPOSE_18)
            people.setdefault(one["image_id"], []).append(Annotated(pose.keypoints[0].astype(float), one["area"]))
    return people


def mirrored(person: Annotated, width: int) -> Annotated:
    """Return the same person in the mirrored image."""
    keypoints = person.keypoints[list(OPENPOSE_18.flip_order)].copy()
    keypoints[:, 0] = width - 1 - keypoints[:, 0]
    return Annotated(keypoints, person.area)


def pairs(found: Poses, people: list[Annotated]) -> Iterator[tuple[int, Annotated]]:
    """Yield who was found, best first, with the annotated person whom they resemble most and nobody before them did."""
    left = list(people)
    for p, keypoints in enumerate(found.keypoints):
        alike = []
        for person in left:
            known = ~np.isnan(person.keypoints[:, 0])
            apart = ((np.nan_to_num(keypoints, nan=1e6) - person.keypoints) ** 2).sum(axis=1)[known]
            alike.append(np.exp(-apart / (2 * person.area * _VARIANCES[known])).mean())
        if alike and max(alike) > ALIKE:
            yield p, left.pop(int(np.argmax(alike)))


def examples(maps: Maps, box: Letterbox, found: Poses, people: list[Annotated]) -> Examples:
    """Describe every keypoint that was found in one image."""
    points, there = box.forward(found.keypoints), ~np.isnan(found.keypoints[..., 0])
    heatmaps = np.ascontiguousarray(maps.heatmaps, np.float32)
    features = correction_features(heatmaps, maps.heatmap_stride, OPENPOSE_18, points, there)
    way, spread = np.full(points.shape, np.nan, np.float32), np.ones(there.shape, np.float32)
    for p, person in pairs(found, people):
        way[p] = (box.forward(person.keypoints.astype(np.float32)) - points[p]) / CORRECTION_UNIT_PX
        spread[p] = 2 * person.area * box.scale[1] ** 2 * _VARIANCES / CORRECTION_UNIT_PX**2
    return Examples(features, way[there], spread[there])


def joined(parts: list[Examples]) -> Examples:
    """Return the examples of several images as one."""
    return Examples(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.way for part in parts]),
        np.concatenate([part.spread for part in parts]),
    )


def collect(data: CocoDataset, model: str, height: int, *, mirror: bool) -> tuple[list[Poses], list[Examples]]:
    """Find everyone, not corrected."""
    resolved, people = resolve_model(model), annotated_people(data)
    backend, decode = open_backend(resolved.path, resolved.spec), PafDecoder(OPENPOSE_18, PafOptions(correct=False))
    everyone, described = [], []
    for image in data.images:
        pixels = read_image(image.path)
        there = people.get(image.image_id, [])
        if mirror:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            there = [mirrored(person, pixels.shape[1]) for person in there]
        network_input, box = prepare(
            pixels, height=height, size_multiple=resolved.spec.size_multiple, pad_value=resolved.spec.pad_value
        )
        maps = maps_of(backend.infer(network_input)[0], resolved.spec.outputs)
        everyone.append(decode(maps, box))
        described.append(examples(maps, box, everyone[-1], there))
    backend.close()
    return everyone, described


def drawn(images: list[tuple[tuple[int, int], list[Annotated]]], height: int) -> Iterator[Examples]:
    """Yield the examples of maps as annotations draw them, given sizes and people of images; nothing is to be moved."""
    decode = PafDecoder(OPENPOSE_18, PafOptions(correct=False))
    for number, (size, people) in enumerate(images):
        if people:
            box = Letterbox.fit(size, height=height, multiple=32)
            points = np.stack([box.forward(person.keypoints.astype(np.float32)) for person in people])
            maps = encode_maps(points, OPENPOSE_18, box.network_size, heatmap_stride=(8, 4)[number % 2])
            here = examples(maps, box, decode(maps, box), [])
            yield Examples(here.features, np.zeros_like(here.way), np.ones_like(here.spread))


def fit(some: Examples, seed: int) -> Layers:
    """Train a network, and fold the normalization of its features into the first layer."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    known = ~np.isnan(some.way[:, 0])
    features = some.features[known]
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    inputs = torch.tensor((features - mean) / deviation)
    way, spread = torch.tensor(some.way[known]), torch.tensor(some.spread[known])
    network = nn.Sequential(
        nn.Linear(inputs.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 2),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network[-1].parameters():
            parameter.mul_(0.1)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        apart = ((network(inputs[rows]) - way[rows]) ** 2).sum(dim=1)
        # The wider curve leads where the narrow one is flat.
        return (1.5 - torch.exp(-apart / spread[rows]) - 0.5 * torch.exp(-apart / (4 * spread[rows]))).mean()

    train(network, len(inputs), loss, epochs=EPOCHS, weight_decay=0.05)
    parts = [(weight.numpy(), bias.numpy()) for weight, bias in linear_layers(network)]
    weight, bias = parts[0]
    parts[0] = weight / deviation, bias - weight @ (mean / deviation)
    return tuple((w.astype(np.float16).astype(np.float32), b.astype(np.float32)) for w, b in parts)


def corrected(poses: Poses, features: np.ndarray, layers: Layers, scale: float) -> Poses:
    """Return poses with their keypoints moved."""
    keypoints = poses.keypoints.copy()
    moves = np.clip(run_layers(layers, features), -2, 2) * CORRECTION_UNIT_PX / scale
    keypoints[~np.isnan(keypoints[..., 0])] += moves
    return Poses(keypoints, poses.keypoint_scores, poses.scores, poses.skeleton, poses.image_size)


def precision(data: CocoDataset, found: list[Poses]) -> float:
    """Return AP."""
    people = [poses.to_skeleton(COCO_17) for poses in found]
    results = [
        r for image, poses in zip(data.images, people, strict=True) for r in poses_as_results(poses, image.image_id)
    ]
    return summarized(evaluated(data, results))[0]


def kept(path: Path, data: CocoDataset, model: str, height: int, *, mirror: bool) -> tuple[list[Poses], list[Examples]]:
    """Find everyone, or read what was found before."""
    if not path.exists():
        found, described = collect(data, model, height, mirror=mirror)
        everything = joined(described)
        np.savez(
            path, allow_pickle=False, counts=[len(p) for p in found], rows=[len(e.way) for e in described],
            sizes=[p.image_size for p in found], keypoints=np.concatenate([p.keypoints for p in found]),
            keypoint_scores=np.concatenate([p.keypoint_scores for p in found]),
            scores=np.concatenate([p.scores for p in found]), features=everything.features.astype(np.float16),
            way=everything.way, spread=everything.spread,
        )  # fmt: skip
    with np.load(path) as file:
        arrays = dict(file)
    ends, last = np.cumsum(arrays["counts"])[:-1], np.cumsum(arrays["rows"])[:-1]
    people = (np.split(arrays[name], ends) for name in ("keypoints", "keypoint_scores", "scores"))
    rows = (np.split(arrays[name], last) for name in ("features", "way", "spread"))
    return (
        [
            Poses(k, s, r, OPENPOSE_18, (int(size[0]), int(size[1])))
            for k, s, r, size in zip(*people, arrays["sizes"], strict=True)
        ],
        [Examples(f.astype(np.float32), w, s) for f, w, s in zip(*rows, strict=True)],
    )


def main() -> None:
    """Collect, fit, report and save."""
    arguments = parse_arguments("keypoint-correction")
    arguments.cache.mkdir(exist_ok=True)
    data = read_coco_dataset(arguments.data / "coco-train")
    held = [image.image_id % 10 == 0 for image in data.images]
    held_out = data.only([image.path.name for image, out in zip(data.images, held, strict=True) if out])
    learned: list[Examples] = []
    tests: list[tuple[str, int, list[Poses], list[Examples]]] = []
    for model, height in RUNS:
        for mirror in (False, True):
            path = arguments.cache / f"{model}-{height}{'-mirrored' * mirror}.npz"
            found, described = kept(path, data, model, height, mirror=mirror)
            learned += [e for e, out in zip(described, held, strict=True) if not out]
            if not mirror:
                chosen = [pair for pair, out in zip(zip(found, described, strict=True), held, strict=True) if out]
                tests.append((model, height, [p for p, _ in chosen], [e for _, e in chosen]))
    people = annotated_people(data)
    rest = [
        (poses.image_size, people.get(image.image_id, []))
        for image, poses, out in zip(data.images, found, held, strict=True)
        if not out
    ]
    learned += [one for height in (256, 368) for one in drawn(rest[::DRAWN], height)]
    layers = fit(joined(learned), arguments.seed)
    for model, height, found, described in tests:
        scales = [height / poses.image_size[1] for poses in found]
        moved = [corrected(p, e.features, layers, s) for p, e, s in zip(found, described, scales, strict=True)]
        before, after = precision(held_out, found), precision(held_out, moved)
        print(f"{model} {height}: AP {before:.4f}, corrected {after:.4f}", flush=True)
    write_layers(arguments.out / "correction.npz", [(weight.astype(np.float16), bias) for weight, bias in layers])


if __name__ == "__main__":
    main()
