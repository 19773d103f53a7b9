r"""Train a dense refiner from fresh weights towards the heatmaps of the full refiner.

    python benchmarks/recipes/refiner/dense.py DATA --maps teacher.npy --out dense.safetensors

DATA is a folder with coco-train, coco-extra and people (COCO keypoint format). The teacher looks at everyone once; its
maps, a file of 0.7 GB, are warped to every crop that is drawn. Where joints are annotated, Gaussians replace a part of
them. Images whose id is divisible by ten are held out. The first part of the time shows small crops, which cost less;
the learning rate falls over all of it. What is written, every four minutes, are averaged weights. With --init it goes
on from such a file.
"""

from __future__ import annotations

import argparse
import copy
import math
import queue
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from people_crops import CropDraw, Crops, found_people, read_found_poses, read_people
from shorten import FOLDERS, LOADERS, batches, heatmap_loss, prepare
from teacher_maps import TeacherMaps
from torch import nn
from torch.nn import functional as F

from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.dense_refiner import DenseRefiner
from featherpose.nn.networks import as_module
from featherpose.training.muon import Muon
from featherpose.training.precision import MixedPrecision, keep_freed_memory

WEIGHT_DECAY, WARM_UP, LARGEST_GRADIENT, AVERAGE, LAST_RATE = 0.02, 100, 5.0, 0.9995, 0.01
ANNOTATED = 0.3
"""Part of a target that an annotated joint replaces."""
SMALL = 2 / 3
"""Part of the width and height that the crops of the first part have, rounded up to whole cells of stride 32."""
SAVE_S, LOG_S = 240.0, 30.0


class Run:
    """One training.

    Args:
        network: Trained in place.
        maps: The teacher's.
        options: Of the command line.
    """

    def __init__(self, network: DenseRefiner, maps: TeacherMaps, options: argparse.Namespace) -> None:
        self._precision = MixedPrecision.choose("cpu", "auto")
        self._precision.place(network)
        self._network = network.train()
        self._average = copy.deepcopy(network)
        self._maps = maps
        self._options = options
        convolutions = [p for p in network.parameters() if p.dim() > 1]
        others = [p for p in network.parameters() if p.dim() <= 1]
        self._optimizer = Muon(
            [{"params": convolutions, "weight_decay": WEIGHT_DECAY}, {"params": others}], lr=options.rate
        )
        self._steps = 0

    def train(self, source: queue.Queue[Crops], first: float, last: float) -> None:
        """Train from one minute to another of the whole time."""
        started, saved, logged = perf_counter(), 0.0, 0.0
        errors: list[tuple[float, float]] = []
        while (spent := perf_counter() - started) < 60 * (last - first):
            passed = (first + spent / 60) / self._options.minutes
            errors.append(self._step(source.get(), passed))
            if spent - logged > LOG_S:
                loss, error = np.mean(errors, axis=0)
                print(
                    f"{first + spent / 60:.1f} min, {self._steps * self._options.batch} crops: loss {loss:.4f}, "
                    f"of the teacher's size {error:.4f}",
                    flush=True,
                )
                errors, logged = [], spent
            if spent - saved > SAVE_S:
                self.save()
                saved = spent

    def save(self) -> None:
        """Write the averaged weights."""
        facts = {"crops": str(self._steps * self._options.batch)}
        save_network(self._options.out, self._average, "refiner-dense", facts=facts)

    def _step(self, drawn: Crops, passed: float) -> tuple[float, float]:
        falling = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.rate * min(1.0, (self._steps + 1) / WARM_UP) * falling
        heatmaps = self._maps.targets(drawn)
        annotated = ANNOTATED * torch.from_numpy(drawn.labeled)[:, :, None, None]
        target = heatmaps * (1 - annotated) + torch.from_numpy(drawn.heatmaps) * annotated
        with self._precision.autocast():
            ((found,),) = self._network.training_stages(torch.from_numpy(drawn.crops).permute(0, 3, 1, 2).float())
        found = found.float()
        loss = heatmap_loss(found, target)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._network.parameters(), LARGEST_GRADIENT)
        self._optimizer.step()
        self._steps += 1
        self._update_average()
        return float(loss.detach()), float(F.mse_loss(found.detach(), heatmaps) / heatmaps.square().mean())

    @torch.no_grad()
    def _update_average(self) -> None:
        part = 1 - min(AVERAGE, self._steps / (self._steps + 20))
        current = self._network.state_dict()
        for name, value in self._average.state_dict().items():
            if value.is_floating_point():  # running statistics of batch norms too
                value.lerp_(current[name], part)


def with_prior(network: DenseRefiner) -> DenseRefiner:
    """Return a network that takes another one's pose, with the same weights."""
    if network.prior is not None:
        return network
    weights = network.state_dict()
    guided = DenseRefiner(network.skeleton, **{**DenseRefiner.options_of(weights), "prior": True})
    guided.load_state_dict(weights, strict=False)
    return guided


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--teacher", default="refiner", help="name or model file of a refiner")
    parser.add_argument("--maps", type=Path, required=True, help="file of the teacher's maps, computed if missing")
    parser.add_argument("--found", type=Path, nargs="*", default=[], help="files of `featherpose annotate`, named like "
                        "the folders: people without a box of their own take part, too")  # fmt: skip
    parser.add_argument("--hidden", type=float, default=0.0, help="part of the crops in which a patch hides something")
    parser.add_argument("--poses", type=Path, help="file of `found_poses.py`: the network takes these poses, too")
    parser.add_argument("--init", type=Path, help="weights to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=112.0)
    parser.add_argument("--small-minutes", type=float, default=42.0, help="of these with small crops")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prepare(options)
    keep_freed_memory()
    network = DenseRefiner() if options.init is None else as_module(load_network(options.init, name="refiner-dense"))
    assert isinstance(network, DenseRefiner)
    people = read_people([options.data / name for name in FOLDERS])
    people += found_people(options.found, people)
    poses = None
    if options.poses is not None:
        poses, network = read_found_poses(options.poses), with_prior(network)
    assert network.crop is not None
    run = Run(network, TeacherMaps(people, options.teacher, options.maps, options.threads), options)
    width, height = (32 * math.ceil(SMALL * size / 32) for size in (network.crop.width, network.crop.height))
    small = replace(network.crop, width=width, height=height)
    parts = ((small, 0.0, options.small_minutes), (network.crop, options.small_minutes, options.minutes))
    for number, (shape, first, last) in enumerate(parts):
        if last > first:
            seeds = [LOADERS * (2 * options.seed + number) + i for i in range(LOADERS)]
            draws = [CropDraw(people, shape, seed, options.hidden, poses) for seed in seeds]
            run.train(batches(draws, options.batch), first, last)
    run.save()


if __name__ == "__main__":
    main()
