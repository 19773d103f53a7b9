r"""Remove the channels of feather's trunk that next to nothing depends on.

    python benchmarks/recipes/feather/prune.py DATA --weights feather.safetensors --out pruned.safetensors

DATA is a folder with coco-train and people. Expanded channels of an inverted residual are read by one layer, its
projection, those at the end of the trunk by two. On photographs (none that is held out) a channel is worth what the
reader's output loses in the mean square if the channel goes and a least squares fit of the others takes its place
(Hassibi & Stork 1993, "Optimal Brain Surgeon", section 2, for a linear layer). The least worthy goes first, sixteen at
a time, as long as all that went together costs at most --loss of the output's variance. Layers follow in the order of
the data, and each is fitted to what the whole network computes from what the layers before it have left.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.data.labeled_pixels import read_image
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.feather import Feather
from featherpose.nn.feather_front import FrontShape
from featherpose.nn.movenet import InvertedResidual
from featherpose.nn.networks import as_module

HOLD_OUT_EVERY, PHOTOGRAPHS, HEIGHTS_PX, CELLS = 10, 120, (256, 368), 300
AT_A_TIME = 16
"""Channels that processors compute at once."""


def read_photographs(data: Path) -> list[Tensor]:
    """Return float[1, 3, H, W] photographs of both folders that are not held out, at both heights."""
    found = []
    for folder in ("coco-train", "people"):
        images = [
            i for i in read_coco_dataset(data / folder).images if folder == "people" or i.image_id % HOLD_OUT_EVERY
        ]
        for image in images[:: len(images) // PHOTOGRAPHS][:PHOTOGRAPHS]:
            pixels = read_image(image.path)
            for height in HEIGHTS_PX:
                width = round(pixels.shape[1] * height / pixels.shape[0] / 8) * 8
                small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
                found.append(torch.from_numpy(small).permute(2, 0, 1)[None].float())
    return found


class Fit:
    """The least squares fit of a layer's outputs by its inputs, from which inputs are taken one after the other.

    Args:
        inputs: float[N, C], samples.
        outputs: float[N, R].
    """

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        self.means = inputs.double().mean(0), outputs.double().mean(0)
        x, y = inputs.double() - self.means[0], outputs.double() - self.means[1]
        covariance = x.T @ x / len(x)
        self._precision = torch.linalg.inv(
            covariance + 1e-9 * covariance.diagonal().mean() * torch.eye(len(covariance))
        )
        self.weights = (y.T @ x / len(x)) @ self._precision
        self.variance = float(y.square().mean(0).sum())
        self._taken: list[int] = []

    def take_least_worthy(self) -> tuple[int, float]:
        """Take the input whose loss costs least; return it and the cost."""
        worth = self.weights.square().sum(0) / self._precision.diagonal()
        worth[self._taken] = torch.inf
        channel = int(worth.argmin())
        column = self._precision[:, channel].clone()
        self.weights = self.weights - self.weights[:, channel : channel + 1] * (column / column[channel])
        self._precision = self._precision - torch.outer(column, column) / column[channel]
        self.weights[:, channel] = 0
        self._precision[channel, channel] = 1
        self._taken.append(channel)
        return channel, float(worth[channel])


def worthy(inputs: Tensor, outputs: Tensor, loss: float) -> tuple[list[int], Tensor, Tensor]:
    """Choose the inputs that stay.

    Args:
        inputs: float[N, C], samples.
        outputs: float[N, R], what is to be computed from them.
        loss: Largest part of the outputs' variance that may be lost.

    Returns:
        Their numbers, float[R, K] weights, and float[R] biases.
    """
    scale = outputs.std(0).mean()
    fit = Fit(inputs, outputs / scale)
    alive = list(range(inputs.shape[1]))
    chosen, weights, lost = list(alive), fit.weights.clone(), 0.0
    for gone in range(1, inputs.shape[1] // 2 + 1):
        channel, cost = fit.take_least_worthy()
        lost += cost
        if lost > loss * fit.variance:
            break
        alive.remove(channel)
        if gone % AT_A_TIME == 0:
            chosen, weights = list(alive), fit.weights[:, alive].clone()
    x_mean, y_mean = fit.means
    biases = (y_mean - weights @ x_mean[chosen]) * scale
    return chosen, (weights * scale).float(), biases.float()


def keep_outputs(layers: Sequence[nn.Conv2d], kept: Sequence[int]) -> None:
    """Keep some output channels of layers."""
    for layer in layers:
        assert layer.bias is not None
        layer.weight, layer.bias = nn.Parameter(layer.weight[list(kept)]), nn.Parameter(layer.bias[list(kept)])
        layer.out_channels = len(kept)
        if layer.groups > 1:
            layer.groups = layer.in_channels = len(kept)


def set_weights(layer: nn.Conv2d, weights: Tensor, biases: Tensor) -> None:
    """Replace a 1x1 convolution."""
    layer.weight, layer.bias = nn.Parameter(weights[:, :, None, None]), nn.Parameter(biases)


class Cells:
    """Draws the same cells of several maps."""

    def __init__(self) -> None:
        self._random = torch.Generator().manual_seed(0)

    def draw(self, *maps: Tensor) -> list[Tensor]:
        """Return float[N, C] of each float[1, C, h, w]."""
        flat = [m.permute(0, 2, 3, 1).flatten(0, 2) for m in maps]
        chosen = torch.randperm(len(flat[0]), generator=self._random)[:CELLS]
        return [m[chosen] for m in flat]


@torch.no_grad()
def prune(network: Feather, photographs: Sequence[Tensor], loss: float) -> Feather:
    """Return a network of fewer channels; each layer makes up for what the layers before it lost."""
    whole, cells = copy.deepcopy(network), Cells()
    smaller_front, smaller_tail = network.front, network.tail
    blocks = [smaller_front.first, smaller_front.block, smaller_front.entry, *_blocks(smaller_tail.stages)]
    origins = [whole.front.first, whole.front.block, whole.front.entry, *_blocks(whole.tail.stages)]
    x = [_behind_stem(whole, photograph) for photograph in photographs]
    pairs = [(maps, maps) for maps in x]
    widths = []
    for number, (block, origin) in enumerate(zip(blocks, origins, strict=True)):
        drawn = []
        for before, now in pairs:
            target = origin(before) - now if block.residual else origin(before)
            drawn.append(cells.draw(block.inside(now), target))
        inputs, outputs = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        kept, weights, biases = worthy(inputs, outputs, loss)
        keep_outputs((block.expand, block.depthwise), kept)
        set_weights(block.project, weights, biases)
        pairs = [(origin(before), block(now)) for before, now in pairs]
        widths.append(len(kept))
        print(f"block {number}: {inputs.shape[1]} to {len(kept)} channels", flush=True)
    readers, originals = (network.pafs.from32, network.pyramid.top), (whole.pafs.from32, whole.pyramid.top)
    drawn = []
    for before, now in pairs:
        read = F.relu6(whole.tail.top(before))
        drawn.append(cells.draw(F.relu6(smaller_tail.top(now)), *(reader(read) for reader in originals)))
    inputs, *targets = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    sizes = [target.std(0).mean() for target in targets]
    both = torch.cat([target / size for target, size in zip(targets, sizes, strict=True)], 1)
    kept, weights, biases = worthy(inputs, both, loss)
    keep_outputs((smaller_tail.top,), kept)
    start = 0
    for reader, target, size in zip(readers, targets, sizes, strict=True):
        rows = slice(start, start := start + target.shape[1])
        set_weights(reader, weights[rows] * size, biases[rows] * size)
    print(f"end: {inputs.shape[1]} to {len(kept)} channels", flush=True)
    tail = widths[3:]
    front = FrontShape(stem=network.front.stem.out_channels, first=widths[0], block=widths[1], entry=widths[2])
    options = Feather.options_of(whole.state_dict())
    smaller = Feather(network.skeleton, **{**options, "front": front, "tail": (*tail, len(kept))})
    smaller.load_state_dict(network.state_dict())
    return smaller.eval()


def _blocks(stages: nn.ModuleList) -> list[InvertedResidual]:
    return [block for stage in stages for block in stage.children() if isinstance(block, InvertedResidual)]


def _behind_stem(network: Feather, bgr: Tensor) -> Tensor:
    front = network.front
    maps: Tensor = front.project(F.relu6(front.depthwise(F.relu6(front.stem(bgr * (2 / 255) - 1)))))
    return maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--loss", type=float, default=1e-3)
    options = parser.parse_args()
    network = as_module(load_network(options.weights, name="feather"))
    assert isinstance(network, Feather)
    photographs = read_photographs(options.data)
    with torch.no_grad():
        before = [network(image)[0] for image in photographs[::8]]
        smaller = prune(network.eval(), photographs, options.loss)
        after = [smaller(image)[0] for image in photographs[::8]]
    for name in ("heatmaps", "pafs"):
        pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(before, after, strict=True)]
        error = np.sum([float((a - b).square().sum()) for a, b in pairs]) / np.sum(
            [float(a.square().sum()) for a, _ in pairs]
        )
        print(f"{name}: error {error:.5f} of their size")
    save_network(options.out, smaller, "feather")


if __name__ == "__main__":
    main()
