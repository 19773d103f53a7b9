"""What loading a training image costs, and what share of the machine a training step leaves it.

Milliseconds of processor time by stage (read and decode, view, light, targets and masks) on one core, for the
published recipe at 368x368 and the fine-tuning recipe at 192x192, then whole batches through the loader with one and
two threads, against the images that a training step of the same network consumes in the same run.

    python benchmarks/loading.py --data ../shared/data/coco-train
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from featherpose.data.augment import AugmentOptions, change_photometry, sample_view
from featherpose.data.coco import AnnotatedImage, read_coco
from featherpose.data.dataset import EpochSampler, PoseDataset
from featherpose.data.labeled_pixels import read_image
from featherpose.data.loading import load_batches
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.methods.paf.method import PafTargets
from featherpose.nn.networks import as_module, create_network
from featherpose.skeleton import OPENPOSE_18
from featherpose.training.config import LossConfig
from featherpose.training.precision import MixedPrecision

_RECIPES = {
    "lightweight-openpose": (AugmentOptions(), PafTargets()),
    "feather": (
        AugmentOptions(size_px=192, base_px=320, max_scale=1.0, rotation_deg=30.0),
        PafTargets(sigma_px=5.0),
    ),
}


def stages_ms(images: list[AnnotatedImage], dataset: PoseDataset) -> dict[str, float]:
    """Median processor milliseconds of each stage, one core."""
    times: dict[str, list[float]] = {"read and decode": [], "view": [], "light": [], "whole sample": []}
    dataset[0]  # compiles the encoder
    for number, sample in enumerate(images):
        rng = np.random.default_rng(number)
        marks = [time.thread_time()]
        image = read_image(sample.path)
        marks.append(time.thread_time())
        view = sample_view((image.shape[1], image.shape[0]), sample.keypoints, dataset.augment, rng)
        seen = view.warp(image)
        marks.append(time.thread_time())
        change_photometry(seen, dataset.augment, rng)
        marks.append(time.thread_time())
        dataset[number]
        marks.append(time.thread_time())
        for name, begin, end in zip(times, marks, marks[1:], strict=False):
            times[name].append(1e3 * (end - begin))
    result = {name: statistics.median(values) for name, values in times.items()}
    result["targets and masks"] = result["whole sample"] - sum(v for k, v in result.items() if k != "whole sample")
    return result


def delivered(dataset: PoseDataset, batch: int, threads: int, seconds: float) -> dict[str, float]:
    """Images that the loader delivers in a second of the clock, and in a second of one processor core."""
    batches = load_batches(dataset, EpochSampler(len(dataset), batch=batch, seed=0), batch, threads=threads)
    next(batches)
    count, started, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        next(batches)
        count += batch
    wall, processor = time.perf_counter() - started, time.process_time() - used
    return {"images_per_s": count / wall, "images_per_core_s": count / processor}


def consumed(name: str, dataset: PoseDataset, batch: int, steps: int) -> float:
    """Processor seconds of an image's forward and backward pass."""
    mixed = MixedPrecision.choose("cpu", "auto")
    network = create_network(name, OPENPOSE_18)
    mixed.place(as_module(network)).train()
    batches = load_batches(dataset, EpochSampler(len(dataset), batch=batch, seed=0), batch, threads=1)
    batch_of = [next(batches) for _ in range(2)]
    batches.close()
    times = []
    for number in range(steps + 1):
        made, used = batch_of[number % 2], time.process_time()
        with mixed.autocast():
            stages = network.training_stages(mixed.images(made.images))
        kind = LossConfig(kind="soft" if network.probabilities else "l2")
        loss, _ = network.method.loss(
            [stage._asdict() for stage in stages], made.values, made.masks, kind, OPENPOSE_18,
            probabilities=network.probabilities,
        )  # fmt: skip
        torch.autograd.backward(loss)
        as_module(network).zero_grad(set_to_none=True)
        times.append((time.process_time() - used) / batch)
    return statistics.median(times[1:])


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results/loading.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    images = [p for p in read_coco(options.data / "annotations.json", options.data / "images", OPENPOSE_18) if
                len(p.keypoints)][: options.images]  # fmt: skip
    recipes: dict[str, Any] = {}
    for name, (augment, targets) in _RECIPES.items():
        network = create_network(name)
        dataset = PoseDataset(
            images, OPENPOSE_18, method=network.method, outputs=network.outputs, augment=augment, targets=targets
        )
        loader = {
            f"{threads} threads": delivered(dataset, options.batch, threads, options.seconds) for threads in (1, 2)
        }
        step_s = consumed(name, dataset, options.batch, options.steps)
        recipes[name] = {
            "size_px": augment.size_px,
            "stages_ms": stages_ms(images, dataset),
            "loader": loader,
            "training_processor_s_per_image": step_s,
            "training_images_per_core_s": 1 / step_s,
            "loading_share_of_processor": 1 / (1 + step_s * loader["1 threads"]["images_per_core_s"]),
        }
    result = {"what": "loading of training images", "batch": options.batch, "recipes": recipes,
              "machine": machine_facts()}  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(recipes, indent=2))


if __name__ == "__main__":
    main()
