"""Training throughput of Lightweight OpenPose at 368x368: our loop against the authors' way of training, in one run.

The authors' way, as their published code describes it, is written anew here: FP32 PyTorch in its default memory layout,
worker processes that resize, rotate, crop and mirror image and mask one after the other, targets drawn cell by cell
in Python around each keypoint and limb, masks repeated for every channel. Ours is what `featherpose train` runs, in the
format that it chooses here and in FP32, as one process on all cores and as one process a core, which torchrun starts
for a user. Each runs in processes of its own. Rounds of all alternate, so that a busy machine slows them alike; each
round times its steps behind one that is not counted, with loading under way. Processor seconds count workers and
processes.

    python benchmarks/training_throughput.py --data ../shared/data/coco-train
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import multiprocessing
import os
import random
import socket
import statistics
import time
from collections.abc import Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import AnnotatedImage, read_coco
from featherpose.data.dataset import EpochSampler, PoseDataset
from featherpose.data.loading import load_batches
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.nn.layers.depthwise import DepthwiseConv2d
from featherpose.nn.networks import as_module, create_network
from featherpose.skeleton import OPENPOSE_18
from featherpose.training.config import LossConfig, OptimizerConfig
from featherpose.training.distributed import Distributed
from featherpose.training.optimizer import build_optimizer
from featherpose.training.precision import MixedPrecision, keep_freed_memory

_SIDE, _STRIDE, _SIGMA = 368, 8, 7.0


class PlainSamples(Dataset[tuple[np.ndarray, ...]]):
    """The authors' data set: one operation after the other, targets cell by cell in Python."""

    def __init__(self, images: list[AnnotatedImage]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        sample = copy.deepcopy(self.images[index])
        image = cv2.imread(str(sample.path), cv2.IMREAD_COLOR)
        assert image is not None
        people: list[list[list[float]]] = sample.keypoints.tolist()
        mask = np.ones(image.shape[:2], np.float32)
        for left, top, right, bottom in sample.ignore_boxes.astype(int).tolist():
            mask[max(0, top) : bottom + 1, max(0, left) : right + 1] = 0
        image, mask = self._view(np.asarray(image), mask, people)
        small = cv2.resize(mask, None, fx=1 / _STRIDE, fy=1 / _STRIDE, interpolation=cv2.INTER_AREA)
        heatmaps, pafs = plain_targets(people)
        heatmap_mask, paf_mask = np.zeros_like(heatmaps), np.zeros_like(pafs)
        for channel in heatmap_mask:
            channel[:] = small
        for channel in paf_mask:
            channel[:] = small
        return image.astype(np.float32).transpose(2, 0, 1), heatmaps, pafs, heatmap_mask, paf_mask

    @staticmethod
    def _view(image: np.ndarray, mask: np.ndarray, people: list[list[list[float]]]) -> tuple[np.ndarray, np.ndarray]:
        """Resize to a tall person of 0.6 views, times 0.5 to 1.1; rotate by up to 40 degrees; crop; mirror."""
        main = random.choice(people)
        ys = [y for _, y in main if math.isfinite(y)]
        scale = 0.6 * _SIDE / max(40.0, 1.15 * (max(ys) - min(ys))) * random.uniform(0.5, 1.1)
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale))
        mask = np.asarray(cv2.resize(mask, None, fx=scale, fy=scale))
        height, width = mask.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-40, 40), 1)
        cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
        size = (int(height * sin + width * cos), int(height * cos + width * sin))
        turn[0, 2] += size[0] / 2 - width / 2
        turn[1, 2] += size[1] / 2 - height / 2
        image = np.asarray(cv2.warpAffine(image, turn, size, borderValue=(128, 128, 128)))
        mask = np.asarray(cv2.warpAffine(mask, turn, size, borderValue=(1,)))
        for person in people:
            for point in person:
                x, y = point[0] * scale, point[1] * scale
                point[0] = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2]
                point[1] = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2]
        xs, ys = ([p[axis] for p in main if math.isfinite(p[0])] for axis in (0, 1))
        left = int((min(xs) + max(xs)) / 2 + random.randint(-40, 40) - _SIDE / 2)
        top = int((min(ys) + max(ys)) / 2 + random.randint(-40, 40) - _SIDE / 2)
        seen, known = np.full((_SIDE, _SIDE, 3), 128, np.uint8), np.ones((_SIDE, _SIDE), np.float32)
        rows, columns = (max(0, top), min(size[1], top + _SIDE)), (max(0, left), min(size[0], left + _SIDE))
        if rows[0] < rows[1] and columns[0] < columns[1]:
            there = np.s_[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
            seen[there], known[there] = image[slice(*rows), slice(*columns)], mask[slice(*rows), slice(*columns)]
        mirrored = random.random() < 0.5
        if mirrored:
            seen, known = np.asarray(cv2.flip(seen, 1)), np.asarray(cv2.flip(known, 1))
        for number, person in enumerate(people):
            for point in person:
                point[0], point[1] = point[0] - left, point[1] - top
                if mirrored:
                    point[0] = _SIDE - 1 - point[0]
            if mirrored:
                people[number] = [person[k] for k in OPENPOSE_18.flip_order]
        return seen, known


def plain_targets(people: list[list[list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and fields as the published training code draws them: Python loops over the cells around each."""
    cells = _SIDE // _STRIDE
    heatmaps = np.zeros((19, cells, cells), np.float32)
    pafs = np.zeros((38, cells, cells), np.float32)
    for person in people:
        for k, (x, y) in enumerate(person):
            if math.isfinite(x):
                _add_gaussian(heatmaps[k], x, y, cells)
        for i, (a, b) in enumerate(OPENPOSE_18.limbs):
            if math.isfinite(person[a][0]) and math.isfinite(person[b][0]):
                cx, cy = OPENPOSE_18.paf_channels[i]
                _set_field(pafs[cx], pafs[cy], person[a], person[b], cells)
    heatmaps[18] = 1 - heatmaps[:18].max(axis=0)
    return heatmaps, pafs


def _add_gaussian(heatmap: np.ndarray, x: float, y: float, cells: int) -> None:
    reach = 4 * _SIGMA
    for row in range(max(0, int(y - reach)) // _STRIDE, min(cells * _STRIDE, int(y + reach)) // _STRIDE):
        for column in range(max(0, int(x - reach)) // _STRIDE, min(cells * _STRIDE, int(x + reach)) // _STRIDE):
            distance = (column * _STRIDE + 3.5 - x) ** 2 + (row * _STRIDE + 3.5 - y) ** 2
            exponent = distance / 2 / _SIGMA / _SIGMA
            if exponent > 4.6052:
                continue
            heatmap[row, column] += math.exp(-exponent)
            if heatmap[row, column] > 1:
                heatmap[row, column] = 1


def _set_field(field_x: np.ndarray, field_y: np.ndarray, a: list[float], b: list[float], cells: int) -> None:
    xa, ya, xb, yb = a[0] / _STRIDE, a[1] / _STRIDE, b[0] / _STRIDE, b[1] / _STRIDE
    length = math.hypot(xb - xa, yb - ya)
    if length < 1e-7:
        return
    ux, uy = (xb - xa) / length, (yb - ya) / length
    for row in range(int(max(min(ya, yb) - 1, 0)), int(min(max(ya, yb) + 1, cells))):
        for column in range(int(max(min(xa, xb) - 1, 0)), int(min(max(xa, xb) + 1, cells))):
            if abs((column - xa) * uy - (row - ya) * ux) <= 1:
                field_x[row, column], field_y[row, column] = ux, uy


def ordinary(module: nn.Module) -> nn.Module:
    """Return the same network with PyTorch's own convolutions everywhere."""
    for name, child in module.named_children():
        if isinstance(child, DepthwiseConv2d):
            plain = nn.Conv2d(
                child.in_channels, child.out_channels, 3, cast(Any, child.stride), cast(Any, child.padding),
                cast(Any, child.dilation), child.groups, child.bias is not None,
            )  # fmt: skip
            setattr(module, name, plain)
        else:
            ordinary(child)
    return module


class Authors:
    """The authors' loop."""

    def __init__(self, images: list[AnnotatedImage], batch: int, workers: int) -> None:
        self.network = ordinary(as_module(create_network("lightweight-openpose", OPENPOSE_18)).train())
        self.optimizer = torch.optim.Adam(self.network.parameters(), 4e-5)
        self.samples, self.batch, self.workers = PlainSamples(images), batch, workers

    def run(self) -> Generator[None]:
        """Yield steps without end; each ``next`` is one."""
        while True:
            loader = DataLoader(self.samples, self.batch, shuffle=True, num_workers=self.workers, drop_last=True)
            for images, heatmaps, pafs, heatmap_mask, paf_mask in loader:
                stages = self.network(images)
                self.optimizer.zero_grad()
                loss: Tensor = torch.zeros(())
                for maps in stages:
                    for found, truth, mask in (
                        (maps.heatmaps, heatmaps, heatmap_mask), (maps.pafs, pafs, paf_mask),
                    ):  # fmt: skip
                        part = ((found - truth) * mask).square().sum() / 2 / self.batch
                        part.item()  # it is logged
                        loss = loss + part
                torch.autograd.backward(loss)
                self.optimizer.step()
                yield


class Ours:
    """What `featherpose train` does at each step."""

    def __init__(self, images: list[AnnotatedImage], batch: int, workers: int, precision: str) -> None:
        self.processes = Distributed.init()
        self.mixed = MixedPrecision.choose("cpu", precision)
        self.network = create_network("lightweight-openpose", OPENPOSE_18)
        module = self.mixed.place(as_module(self.network)).train()
        self.optimizer = build_optimizer(module, OptimizerConfig())
        augment = AugmentOptions(size_px=_SIDE, min_scale=0.5, max_scale=1.1)
        method, outputs = self.network.method, self.network.outputs
        self.dataset = PoseDataset(images, OPENPOSE_18, method=method, outputs=outputs, augment=augment)
        self.batch, self.workers = batch, workers

    def run(self) -> Generator[None]:
        """Yield steps without end; each ``next`` is one."""
        rank, world = self.processes.rank, self.processes.world
        sampler = EpochSampler(len(self.dataset), batch=self.batch, seed=0, rank=rank, world=world)
        for batch in load_batches(self.dataset, sampler, self.batch // world, threads=max(1, self.workers // world)):
            with self.mixed.autocast():
                stages = self.network(self.mixed.images(batch.images))
            loss, _ = self.network.method.loss(
                [stage._asdict() for stage in stages], batch.values, batch.masks, LossConfig(), OPENPOSE_18,
                probabilities=False,
            )  # fmt: skip
            torch.autograd.backward(loss)
            self.processes.average_gradients(as_module(self.network))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            float(loss.detach())
            yield


class InProcesses:
    """A loop in processes of its own, driven from here step by step: the authors', or ours shared by several.

    What one loop asks of the process, such as how freed memory is kept, is then not done to the other.
    """

    def __init__(self, loop: str, arguments: tuple[Any, ...], *, processes: int, threads: int) -> None:
        context, self._ends = multiprocessing.get_context("spawn"), list[Connection]()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for rank in range(processes):
            end, other = context.Pipe()
            context.Process(target=_drive, args=(other, loop, arguments, rank, processes, port, threads)).start()
            other.close()
            self._ends.append(end)
        self._tell("ready")

    def _tell(self, what: str) -> None:
        for end in self._ends:
            end.send(what)
        for end in self._ends:
            end.recv()

    def run(self) -> Generator[None]:
        """Yield steps without end; each ``next`` is one."""
        try:
            while True:
                self._tell("step")
                yield
        finally:
            self._tell("stop")

    def close(self) -> None:
        """End the processes."""
        self._tell("end")


def _drive(
    orders: Connection, name: str, arguments: tuple[Any, ...], rank: int, world: int, port: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    loop: Authors | Ours
    if name == "authors":
        loop = Authors(*arguments)
    else:
        if world > 1:
            os.environ |= {
                "RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
        keep_freed_memory()
        loop = Ours(*arguments)
    steps: Generator[None] | None = None
    order = ""
    while order != "end":
        order = orders.recv()
        if order == "step":
            steps = steps or loop.run()
            next(steps)
        elif order == "stop" and steps is not None:
            steps.close()
            steps = None
        orders.send(order)


def _processor_s() -> float:
    """Processor seconds of this process and its workers."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of PyTorch")
    parser.add_argument("--workers", type=int, default=2, help="that load: processes of the authors', threads of ours")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results/training_throughput.json")
    options = parser.parse_args()
    images = [p for p in read_coco(options.data / "annotations.json", options.data / "images", OPENPOSE_18) if
                len(p.keypoints)][:400]  # fmt: skip
    given, threads = (images, options.batch, options.workers), options.threads
    loops = {
        "authors": InProcesses("authors", given, processes=1, threads=threads),
        "featherpose": InProcesses("ours", (*given, "auto"), processes=1, threads=threads),
        "featherpose fp32": InProcesses("ours", (*given, "fp32"), processes=1, threads=threads),
        "featherpose, a process a core": InProcesses("ours", (*given, "auto"), processes=threads, threads=1),
        "featherpose fp32, a process a core": InProcesses("ours", (*given, "fp32"), processes=threads, threads=1),
    }
    wall: dict[str, list[float]] = {name: [] for name in loops}
    processor: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(options.rounds):
        for name, loop in loops.items():
            steps = loop.run()
            next(steps)
            started, used = time.perf_counter(), _processor_s()
            for _ in range(options.steps):
                next(steps)
            wall[name].append((time.perf_counter() - started) / options.steps / options.batch)
            processor[name].append((_processor_s() - used) / options.steps / options.batch)
            steps.close()
            print(f"round {number + 1}: {name} {1 / wall[name][-1]:.2f} images/s", flush=True)
    for loop in loops.values():
        loop.close()
    result = {
        "what": "training throughput, Lightweight OpenPose, 368x368",
        "batch": options.batch, "threads": options.threads, "workers": options.workers,
        "format": str(MixedPrecision.choose("cpu", "auto").half or torch.float32).removeprefix("torch."),
        "images_per_s": {name: 1 / statistics.median(values) for name, values in wall.items()},
        "processor_s_per_image": {name: statistics.median(values) for name, values in processor.items()},
        "ratio": {name: _paired(wall["authors"], wall[name]) for name in loops if name != "authors"},
        "ratio_of_processor_time": {
            name: _paired(processor["authors"], processor[name]) for name in loops if name != "authors"
        },
        "machine": machine_facts(),
    }  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=2))


def _paired(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
