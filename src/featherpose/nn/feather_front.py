"""feather's first layers: strides 2 and 4, half of the network's time.

They have the shape of MoveNet's front, at any width: `FeatherFront.start_from` keeps the channels that move the next
layer most and refits that layer by least squares. Narrower and denser fronts were trained and measured
(benchmarks/recipes/feather): they lose more accuracy than a smaller input of the same time, so the full width stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.nn.movenet import FrontFeatures, InvertedResidual, MoveNetFront, SameConv2d

__all__ = ["FeatherFront", "FrontShape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontShape:
    """Widths of the front; those of the public one unless given.

    Attributes:
        stem: Channels at stride 2 behind the first convolution.
        first: Expanded channels of the block from stride 2 to 4.
        block: Expanded channels of the block at stride 4.
        entry: Expanded channels of the block from stride 4 to 8.
    """

    stem: int = 48
    first: int = 144
    block: int = 240
    entry: int = 240


class FeatherFront(nn.Module):
    """MoveNet's front, with as many channels or fewer.

    Args:
        shape: Widths.
    """

    def __init__(self, shape: FrontShape | None = None) -> None:
        super().__init__()
        shape = shape or FrontShape()
        self.stem = SameConv2d(3, shape.stem)
        self.depthwise = nn.Conv2d(shape.stem, shape.stem, 3, 1, 1, groups=shape.stem)
        self.project = nn.Conv2d(shape.stem, 24, 1)
        self.first = InvertedResidual(24, shape.first, 40, 2)
        self.block = InvertedResidual(40, shape.block, 40, 1)
        self.entry = InvertedResidual(40, shape.entry, 48, 2)

    def forward(self, bgr: Float[Tensor, "B 3 H W"]) -> FrontFeatures:
        """Compute features of BGR images, 0..255."""
        x = bgr * (2 / 255) - 1
        x = self.project(F.relu6(self.depthwise(F.relu6(self.stem(x)))))
        x = self.block(self.first(x))
        return FrontFeatures(x, self.entry(x))

    @torch.no_grad()
    def start_from(self, source: MoveNetFront, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Copy what fits from the public front.

        Args:
            source: The public weights.
            images: BGR, 0..255, on which the refitted layers reproduce the source's best; eight are enough.
        """
        rgb = [p.flip(1) * (2 / 255) - 1 for p in images]
        wide = [F.relu6(source.depthwise(F.relu6(source.stem(x)))) for x in rgb]
        narrow = [source.project(x) for x in wide]
        keep = _most_useful(wide, source.project, self.stem.out_channels)
        _copy_rows(source.stem, self.stem, keep)
        self.stem.weight.copy_(self.stem.weight.flip(1))  # the public network reads RGB
        _copy_rows(source.depthwise, self.depthwise, keep)
        _refit(self.project, [x[:, keep] for x in wide], narrow)

        first, second = source.blocks
        assert isinstance(first, InvertedResidual)
        assert isinstance(second, InvertedResidual)
        outer = [first(x) for x in narrow]
        _narrow_block(first, self.first, narrow)
        _narrow_block(second, self.block, outer)
        _narrow_block(source.entry, self.entry, [second(x) for x in outer])


def _most_useful(inputs: Sequence[Tensor], reader: nn.Conv2d, count: int) -> Tensor:
    """Rank channels by how much they move the next layer's output: their spread times the norm of its weights."""
    spread = torch.cat([x.transpose(0, 1).flatten(1) for x in inputs], 1).std(1)
    useful: Tensor = (spread * reader.weight[:, :, 0, 0].norm(dim=0)).argsort(descending=True)[:count]
    return useful.sort().values


def _copy_rows(source: nn.Conv2d, target: nn.Conv2d, keep: Tensor) -> None:
    target.weight.copy_(source.weight[keep])
    _bias(target).copy_(_bias(source)[keep])


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # batch norms are folded: every convolution has one
    return conv.bias


def _refit(target: nn.Conv2d, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Return the 1x1 convolution from ``inputs`` to ``outputs`` with the least squared error."""
    x = torch.cat([v.permute(0, 2, 3, 1).flatten(0, 2) for v in inputs]).double()
    y = torch.cat([v.permute(0, 2, 3, 1).flatten(0, 2) for v in outputs]).double()
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    steady = 1e-6 * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    solution = torch.linalg.solve(x.T @ x + steady, x.T @ y).float()
    target.weight.copy_(solution[:-1].T[:, :, None, None])
    _bias(target).copy_(solution[-1])


def _narrow_block(source: InvertedResidual, target: InvertedResidual, inputs: Sequence[Tensor]) -> None:
    wide = [source.inside(x) for x in inputs]
    keep = _most_useful(wide, source.project, target.expand.out_channels)
    _copy_rows(source.expand, target.expand, keep)
    _copy_rows(source.depthwise, target.depthwise, keep)
    _refit(target.project, [x[:, keep] for x in wide], [source.project(x) for x in wide])
