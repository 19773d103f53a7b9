r"""Distill a refiner of fewer layers from the full one.

    python benchmarks/recipes/refiner/shorten.py DATA --full refiner-full.safetensors --out short.safetensors

DATA is a folder with coco-train, coco-extra and people (COCO keypoint format). The full network has 2, 4 and 2
exchanges of its branches, in which each branch receives from all others, and gates in its units. The shorter one keeps
1, 3 and 2 of them, and only neighbors exchange features. It starts from the weights that both have; its gates become 1
over the first third of the time and are then left out. Its targets are the full network's heatmaps, half of them
replaced by Gaussians where joints are annotated, and at first also the features of its four branches. Images whose id
is divisible by ten are held out. The learning rate falls over --minutes; what is written, every four minutes, are
averaged weights. With --init it goes on from such a file.
"""

from __future__ import annotations

import argparse
import copy
import math
import queue
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import openvino as ov
import torch
from people_crops import CropDraw, Crops, read_people
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.networks import as_module
from featherpose.nn.refiner import Refiner
from featherpose.training.precision import MixedPrecision

KEPT: tuple[tuple[int, ...], ...] = ((0,), (1, 2, 3), (0, 1))
"""Exchanges of two, three and four branches that stay."""
FOLDERS = ("coco-train", "coco-extra", "people")
LOADERS, WAITING = 2, 4
"""Threads that draw crops, and batches that wait."""
WEIGHT_DECAY, WARM_UP, LARGEST_GRADIENT, AVERAGE = 0.02, 100, 5.0, 0.999
ANNOTATED = 0.5
"""Part of a target that an annotated joint replaces."""
PEAK_WEIGHT = 3.0
"""How much more a cell counts at the top of a heatmap."""
GATES_OPEN = 0.35
"""Part of the time after which all gates are 1."""
SAVE_S, LOG_S = 240.0, 30.0


def shortened(full: Refiner, kept: Sequence[Sequence[int]]) -> Refiner:
    """Return a network of some of the exchanges, with the weights that both have."""
    short, known = Refiner(full.skeleton, exchanges=[len(k) for k in kept], far=False), full.state_dict()
    short.load_state_dict({name: known[_origin(name, kept)] for name in short.state_dict()})
    return short


def without_gates(network: Refiner) -> Refiner:
    """Return the same network as residual blocks, if all gates are 1; itself otherwise."""
    if not all(torch.equal(gate, torch.ones_like(gate)) for gate in gates_of(network).values()):
        return network
    weights = network.state_dict()
    plain = Refiner(network.skeleton, **{**Refiner.options_of(weights), "gated": False})
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    return plain


def read_refiner(path: Path) -> Refiner:
    """Read a refiner of any size."""
    network = as_module(load_network(path, name="refiner"))
    assert isinstance(network, Refiner)
    return network


def gates_of(network: Refiner) -> dict[str, nn.Parameter]:
    """Return the gates by name."""
    return {name: parameter for name, parameter in network.named_parameters() if name.endswith(".gate")}


def _origin(name: str, kept: Sequence[Sequence[int]]) -> str:
    """Return the full network's name of a tensor.

    Example:
        >>> _origin("stages.1.0.units.0.0.gate", KEPT)
        'stages.1.1.units.0.0.gate'
    """
    if not name.startswith("stages."):
        return name
    _, stage, exchange, rest = name.split(".", 3)
    return f"stages.{stage}.{kept[int(stage)][int(exchange)]}.{rest}"


class Outputs(nn.Module):
    """The heatmaps of a refiner, and its branches."""

    def __init__(self, network: Refiner) -> None:
        super().__init__()
        self.network = network

    def forward(self, bgr: Tensor) -> tuple[Tensor, ...]:
        """Compute heatmaps, then the branches at strides 4 to 32."""
        top, *branches = self.network.features(bgr)
        return (self.network.heatmaps(top), *branches)


class Teacher:
    """The full network in OpenVINO, in half precision where the processor has it.

    Args:
        network: The full network.
        batch: Crops at once.
        threads: Of the engine.
    """

    def __init__(self, network: Refiner, batch: int, threads: int) -> None:
        assert network.crop is not None
        shape = (batch, 3, network.crop.height, network.crop.width)
        with warnings.catch_warnings():
            # OpenVINO traces the network, which PyTorch deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            example = torch.zeros(1, *shape[1:])
            model = ov.convert_model(Outputs(network.eval()), example_input=example, input=list(shape))
        steps = ov.preprocess.PrePostProcessor(model)
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout("NCHW"))
        compiled = ov.Core().compile_model(steps.build(), "CPU", {"INFERENCE_NUM_THREADS": threads})
        self._request = compiled.create_infer_request()

    def __call__(self, crops: np.ndarray) -> list[Tensor]:
        """Return heatmaps and branches, valid until the next call."""
        found = self._request.infer({0: crops})
        return [torch.from_numpy(array) for array in found.values()]


def batches(draws: Sequence[CropDraw], size: int) -> queue.Queue[Crops]:
    """Draw batches for ever, in threads that end with the program."""
    waiting: queue.Queue[Crops] = queue.Queue(WAITING)

    def fill(draw: CropDraw) -> None:
        while True:
            waiting.put(draw.batch(size))

    for draw in draws:
        threading.Thread(target=fill, args=(draw,), daemon=True).start()
    return waiting


def heatmap_loss(found: Tensor, target: Tensor) -> Tensor:
    """Return the squared error, which counts more at peaks, relative to the target's size."""
    weight = 1 + PEAK_WEIGHT * target.clamp(0, 1)
    return ((found - target).square() * weight).mean() / target.square().mean()


def feature_loss(found: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Return the squared error of features, relative to the size of each channel."""
    total = torch.zeros(())
    for ours, theirs in zip(found, target, strict=True):
        size = theirs.square().mean((0, 2, 3), keepdim=True)
        total = total + ((ours - theirs).square() / (size + 0.01 * size.mean())).mean()
    return total / len(found)


@torch.no_grad()
def update_average(average: Mapping[str, Tensor], current: Mapping[str, Tensor], steps: int) -> None:
    """Move averaged weights towards the current ones; gates, which are not trained, are copied."""
    part = 1 - min(AVERAGE, steps / (steps + 20))
    for name, value in average.items():
        value.lerp_(current[name], 1.0 if name.endswith(".gate") else part)


def distill(network: Refiner, teacher: Teacher, source: queue.Queue[Crops], options: argparse.Namespace) -> None:
    """Train until the time is over; write the averaged weights."""
    MixedPrecision.choose("cpu", "fp32").place(network)
    gates = gates_of(network)
    first_gates = {name: gate.detach().clone() for name, gate in gates.items()}
    for gate in gates.values():
        gate.requires_grad_(False)
    outputs, average = Outputs(network).train(), copy.deepcopy(network)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=options.rate,
    )
    started, saved, logged, steps = perf_counter(), 0.0, 0.0, 0
    errors: list[tuple[float, float]] = []
    while (spent := perf_counter() - started) < 60 * options.minutes:
        passed = spent / (60 * options.minutes)
        rate = options.rate * min(1.0, (steps + 1) / WARM_UP) * (0.5 * (1 + math.cos(math.pi * passed)) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        opened = min(1.0, passed / GATES_OPEN)
        for name, gate in gates.items():
            gate.data.copy_(first_gates[name] * (1 - opened) + opened)
        drawn = source.get()
        heatmaps, *branches = teacher(drawn.crops)
        annotated = ANNOTATED * torch.from_numpy(drawn.labeled)[:, :, None, None]
        target = heatmaps * (1 - annotated) + torch.from_numpy(drawn.heatmaps) * annotated
        # Depthwise convolutions are trained faster in FP32 than in bfloat16.
        found, *features = outputs(torch.from_numpy(drawn.crops).permute(0, 3, 1, 2).float())
        loss, distance = heatmap_loss(found, target), feature_loss(features, branches)
        optimizer.zero_grad()
        torch.autograd.backward(loss + distance * max(0.02, 1 - 1.2 * passed))
        nn.utils.clip_grad_norm_(trained, LARGEST_GRADIENT)
        optimizer.step()
        steps += 1
        update_average(average.state_dict(), network.state_dict(), steps)
        errors.append((float(loss.detach()), float(F.mse_loss(found.detach(), heatmaps) / heatmaps.square().mean())))
        if spent - logged > LOG_S:
            mean = np.mean(errors, axis=0)
            print(f"{spent / 60:.1f} min, {steps} steps: loss {mean[0]:.4f}, of the teacher's size {mean[1]:.4f}")
            errors, logged = [], spent
        if spent - saved > SAVE_S:
            save_network(options.out, without_gates(average), "refiner")
            saved = spent
    facts = {"steps": str(steps), "crops": str(steps * options.batch)}
    save_network(options.out, without_gates(average), "refiner", facts=facts)


def prepare(options: argparse.Namespace) -> None:
    """Set threads and seed of a run."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--full", type=Path, required=True, help="weights of the full network")
    parser.add_argument("--init", type=Path, help="weights of a shorter network to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prepare(options)
    full = read_refiner(options.full)
    assert full.crop is not None
    network = shortened(full, KEPT) if options.init is None else read_refiner(options.init)
    people = read_people([options.data / name for name in FOLDERS])
    draws = [CropDraw(people, full.crop, options.seed * LOADERS + i) for i in range(LOADERS)]
    distill(network, Teacher(full, options.batch, options.threads), batches(draws, options.batch), options)


if __name__ == "__main__":
    main()
