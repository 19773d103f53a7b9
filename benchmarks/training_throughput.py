"""Training throughput of Lightweight OpenPose at 368x368: our loop against the authors' way of training, in one run.

The authors' loop, after their published description, is written here: plain FP32 PyTorch in its default memory
layout, targets made pixel by pixel in Python, loading in the training process. Steps of both alternate, so that a
busy machine slows both alike; the figure is the median of paired ratios.

    python benchmarks/training_throughput.py --data ../shared/data/coco-train
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featherpose.data.augment import AugmentOptions, sample_view
from featherpose.data.coco import LabelledPicture, read_coco
from featherpose.data.dataset import Batch, PoseDataset, TargetOptions, collate, read_picture
from featherpose.evaluation.machine import machine_facts
from featherpose.nn.networks import as_module, create_network
from featherpose.runtime.processor import processor
from featherpose.skeleton import OPENPOSE_18
from featherpose.training.config import LossConfig, OptimiserConfig
from featherpose.training.losses import loss_of
from featherpose.training.optimiser import build_optimiser

_SIDE, _STRIDE, _SIGMA = 368, 8, 7.0


def plain_targets(people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and fields pixel by pixel, as the published training code makes them."""
    cells = _SIDE // _STRIDE
    heatmaps = np.zeros((19, cells, cells), np.float32)
    pafs = np.zeros((38, cells, cells), np.float32)
    for person in people:
        for k, (x, y) in enumerate(person):
            if not math.isfinite(x):
                continue
            for row in range(cells):
                for column in range(cells):
                    distance = (column * _STRIDE + 3.5 - x) ** 2 + (row * _STRIDE + 3.5 - y) ** 2
                    exponent = distance / 2.0 / _SIGMA / _SIGMA
                    if exponent > 4.6052:
                        continue
                    heatmaps[k, row, column] = min(1.0, heatmaps[k, row, column] + math.exp(-exponent))
        for i, (a, b) in enumerate(OPENPOSE_18.limbs):
            if not (np.isfinite(person[a]).all() and np.isfinite(person[b]).all()):
                continue
            start, end = person[a] / _STRIDE, person[b] / _STRIDE
            length = float(np.hypot(*(end - start)))
            if length < 1e-6:
                continue
            ux, uy = (end - start) / length
            cx, cy = OPENPOSE_18.paf_channels[i]
            low, high = np.minimum(start, end) - 1, np.maximum(start, end) + 1
            for row in range(max(0, int(low[1])), min(cells, int(high[1]) + 1)):
                for column in range(max(0, int(low[0])), min(cells, int(high[0]) + 1)):
                    if abs((column - start[0]) * uy - (row - start[1]) * ux) <= 1:
                        pafs[cx, row, column], pafs[cy, row, column] = ux, uy
    heatmaps[18] = 1 - heatmaps[:18].max(axis=0)
    return heatmaps, pafs


def authors_step(pictures: list[LabelledPicture], batch: int) -> Callable[[int], None]:
    """One step of the authors' loop."""
    network = as_module(create_network("lightweight-openpose", OPENPOSE_18)).train()
    optimiser = torch.optim.Adam(network.parameters(), 4e-5)
    augment = AugmentOptions(size_px=_SIDE)

    def step(number: int) -> None:
        rng = np.random.default_rng(number)
        images, heatmaps, pafs = [], [], []
        for index in range(batch):
            picture = pictures[(number * batch + index) % len(pictures)]
            image = read_picture(picture.path)
            view = sample_view((image.shape[1], image.shape[0]), picture.keypoints, augment, rng)
            images.append(view.picture(image).transpose(2, 0, 1).astype(np.float32))
            heat, paf = plain_targets(view.people(picture.keypoints, OPENPOSE_18))
            heatmaps.append(heat)
            pafs.append(paf)
        stages = network(torch.from_numpy(np.stack(images)))
        heat_truth, paf_truth = torch.from_numpy(np.stack(heatmaps)), torch.from_numpy(np.stack(pafs))
        loss: Tensor = torch.zeros(())
        for maps in stages:
            loss = loss + (maps.heatmaps - heat_truth).square().sum() / (2 * batch)
            loss = loss + (maps.pafs - paf_truth).square().sum() / (2 * batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def our_step(pictures: list[LabelledPicture], batch: int) -> Callable[[int], None]:
    """One step of `featherpose train`, its loading included and not overlapped, as on two cores nothing is free."""
    network = as_module(create_network("lightweight-openpose", OPENPOSE_18)).train()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = build_optimiser(network, OptimiserConfig())
    dataset = PoseDataset(pictures, OPENPOSE_18, augment=AugmentOptions(size_px=_SIDE), targets=TargetOptions())
    half = processor().bf16

    def step(number: int) -> None:
        first = number * batch
        made: Batch = collate([dataset[(0, (first + i) % len(pictures))] for i in range(batch)])
        images = made.pictures.contiguous(memory_format=torch.channels_last).float()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            stages = network(images)
        loss, _ = loss_of(stages, made, LossConfig(), OPENPOSE_18, logits=False)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results/training_throughput.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures = [p for p in read_coco(options.data / "annotations.json", options.data / "images", OPENPOSE_18) if
                len(p.keypoints)][:200]  # fmt: skip
    steps = {"authors": authors_step(pictures, options.batch), "featherpose": our_step(pictures, options.batch)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step(number)
            if number:  # the first round compiles and warms up
                times[name].append(time.perf_counter() - started)
    targets_ms = _targets_ms(pictures)
    ratios = [a / b for a, b in zip(times["authors"], times["featherpose"], strict=True)]
    result = {
        "what": "training throughput, Lightweight OpenPose, 368x368",
        "batch": options.batch,
        "threads": options.threads,
        "bf16": processor().bf16,
        "pictures_per_s": {name: options.batch / statistics.median(values) for name, values in times.items()},
        "ratio_median": statistics.median(ratios),
        "ratios": [round(r, 3) for r in ratios],
        "loading_ms_per_picture": targets_ms,
        "machine": machine_facts(),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=2))


def _targets_ms(pictures: list[LabelledPicture]) -> float:
    """Milliseconds to read, view and encode one picture, one core: what loading costs."""
    dataset = PoseDataset(pictures, OPENPOSE_18, augment=AugmentOptions(size_px=_SIDE), targets=TargetOptions())
    times = []
    for index in range(min(40, len(pictures))):
        started = time.perf_counter()
        dataset[index]
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


if __name__ == "__main__":
    main()
