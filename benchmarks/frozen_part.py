"""What `[network] frozen_in_engine` gains: steps of training with the frozen part in PyTorch and in OpenVINO.

Feather as in the configuration ``feather-1-pafs`` (trunk and pyramid frozen, PAF head and the last layer of the
keypoint head trained) and Lightweight OpenPose with a frozen backbone, in the format that this machine trains in and
in FP32. Steps of both ways alternate on the same batches; the ratio is the median over pairs.

    python benchmarks/frozen_part.py --data ../shared/data/coco-train
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import read_coco
from featherpose.data.dataset import Batch, EpochSampler, PoseDataset
from featherpose.data.loading import load_batches
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import Stage
from featherpose.skeleton import OPENPOSE_18
from featherpose.training.config import LossConfig, NetworkConfig, OptimizerConfig
from featherpose.training.frozen import FrozenPart
from featherpose.training.networks import build_network, freeze_batch_norm_stats
from featherpose.training.optimizer import build_optimizer
from featherpose.training.precision import MixedPrecision, keep_freed_memory

_RUNS = {
    "feather, feather-1-pafs": (
        NetworkConfig(
            arch="feather", init_from="bundled",
            freeze=("front", "tail", "pyramid", "keypoints.depthwise", "keypoints.hidden"),
        ), 256,
    ),
    "lightweight-openpose, frozen backbone": (NetworkConfig(arch="lightweight-openpose", freeze=("model",)), 368),
}  # fmt: skip


def compared(config: NetworkConfig, size_px: int, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step and of its frozen part, both ways, and the ratios."""
    mixed = MixedPrecision.choose("cpu", precision)
    network = build_network(config, OPENPOSE_18)
    module = mixed.place(as_module(network)).train()
    freeze_batch_norm_stats(module)
    optimizer = build_optimizer(module, OptimizerConfig())
    images = read_coco(options.data / "annotations.json", options.data / "images", OPENPOSE_18)[:200]
    dataset = PoseDataset(
        images, OPENPOSE_18, method=network.method, outputs=network.outputs, augment=AugmentOptions(size_px=size_px)
    )
    loading = load_batches(dataset, EpochSampler(len(dataset), batch=options.batch, seed=0), options.batch, threads=1)
    batches = [next(loading) for _ in range(3)]
    loading.close()
    part = FrozenPart(network, mixed)
    loss_config = LossConfig(kind="soft" if network.probabilities else "l2")

    def step(batch: Batch, stages: Callable[[], tuple[Stage, ...]]) -> tuple[float, float]:
        started, used = time.perf_counter(), time.process_time()
        with mixed.autocast():
            maps = stages()
        loss, _ = network.method.loss(
            [stage._asdict() for stage in maps], batch.values, batch.masks, loss_config, OPENPOSE_18,
            probabilities=network.probabilities,
        )  # fmt: skip
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
        return time.perf_counter() - started, time.process_time() - used

    seconds: dict[str, list[tuple[float, float]]] = {"pytorch": [], "engine": []}
    for number in range(options.steps + 1):
        batch = batches[number % len(batches)]

        def plain(batch: Batch = batch) -> tuple[Stage, ...]:
            return network.training_stages(mixed.images(batch.images))

        def engine(batch: Batch = batch) -> tuple[Stage, ...]:
            return part.stages(batch.images)

        pairs = {"pytorch": step(batch, plain), "engine": step(batch, engine)}
        if number:
            for name, pair in pairs.items():
                seconds[name].append(pair)
    paired = list(zip(seconds["pytorch"], seconds["engine"], strict=True))
    return {
        "format": str(mixed.half or torch.float32).removeprefix("torch."),
        "step_s": {name: statistics.median(wall for wall, _ in values) for name, values in seconds.items()},
        "processor_s": {name: statistics.median(used for _, used in values) for name, values in seconds.items()},
        "ratio": statistics.median(a[0] / b[0] for a, b in paired),
        "ratio_of_processor_time": statistics.median(a[1] / b[1] for a, b in paired),
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results/frozen_part.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    keep_freed_memory()
    found: list[dict[str, Any]] = []
    for name, (config, size_px) in _RUNS.items():
        for precision in ("auto", "fp32"):
            figures = compared(config, size_px, precision, options)
            if any(f["what"] == name and f["format"] == figures["format"] for f in found):
                continue  # no native bf16 here
            found.append({"what": name, "size_px": size_px, **figures})
            print(f"{name}, {figures['format']}: {figures['ratio']:.2f}x by the clock, "
                  f"{figures['ratio_of_processor_time']:.2f}x of processor time", flush=True)  # fmt: skip
    result = {
        "what": "a training step with the frozen part in OpenVINO against PyTorch",
        "batch": options.batch, "threads": options.threads, "steps": options.steps, "runs": found,
        "machine": machine_facts(),
    }  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
