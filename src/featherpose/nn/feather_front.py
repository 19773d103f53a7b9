"""feather's first layers: strides 2 and 4, where most of a light network's time goes.

MoveNet's front spends half of the whole network's INT8 time, most of it where 48 and 144 channels run at stride 2.
Here one dense 3x3 convolution takes the place of the first expansion and its depthwise filter: as many multiply-
accumulates, a third of the memory traffic, and an instruction (VNNI) made for it. `FeatherFront.from_movenet` starts
it from the public weights: channels that matter most are kept, the layer behind them is refitted by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.nn.movenet import FrontFeatures, InvertedResidual, MoveNetFront, same_conv

__all__ = ["FeatherFront", "FrontShape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontShape:
    """Widths of the front.

    Attributes:
        stem: Channels at stride 2 behind the first convolution.
        down: Channels of the dense convolution from stride 2 to 4.
        block: Expanded channels of the block at stride 4.
        entry: Expanded channels of the block from stride 4 to 8.
    """

    stem: int = 32
    down: int = 64
    block: int = 160
    entry: int = 192


class FeatherFront(nn.Module):
    """Stem, one dense convolution down, one inverted residual, the entry to stride 8.

    Args:
        shape: Widths.
    """

    def __init__(self, shape: FrontShape | None = None) -> None:
        super().__init__()
        shape = shape or FrontShape()
        self.stem = nn.Conv2d(3, shape.stem, 3, 2)
        self.depthwise = nn.Conv2d(shape.stem, shape.stem, 3, 1, 1, groups=shape.stem)
        self.project = nn.Conv2d(shape.stem, 24, 1)
        self.down = nn.Conv2d(24, shape.down, 3, 2)
        self.down_project = nn.Conv2d(shape.down, 40, 1)
        self.block = InvertedResidual(40, shape.block, 40, 1)
        self.entry = InvertedResidual(40, shape.entry, 48, 2)

    def forward(self, bgr: Float[Tensor, "B 3 H W"]) -> FrontFeatures:
        """Features of BGR pictures, 0..255."""
        x = bgr * (2 / 255) - 1
        x = self.project(F.relu6(self.depthwise(F.relu6(same_conv(self.stem, x)))))
        x = self.block(self.down_project(F.relu6(same_conv(self.down, x))))
        return FrontFeatures(x, self.entry(x))

    @torch.no_grad()
    def start_from(self, source: MoveNetFront, pictures: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Take over what fits of the public front.

        Args:
            source: The public weights.
            pictures: BGR, 0..255, on which the refitted layers reproduce the source's best; eight are enough.
        """
        rgb = [p.flip(1) * (2 / 255) - 1 for p in pictures]
        wide = [F.relu6(source.depthwise(F.relu6(same_conv(source.stem, x)))) for x in rgb]
        narrow = [source.project(x) for x in wide]
        keep = _most_useful(wide, source.project, self.stem.out_channels)
        _copy_rows(source.stem, self.stem, keep)
        self.stem.weight.copy_(self.stem.weight.flip(1))  # the public network reads RGB
        _copy_rows(source.depthwise, self.depthwise, keep)
        _refit(self.project, [x[:, keep] for x in wide], narrow)

        first = source.blocks[0]
        assert isinstance(first, InvertedResidual)
        inner = [F.relu6(same_conv(first.depthwise, F.relu6(first.expand(x)))) for x in narrow]
        outer = [first.project(x) for x in inner]
        keep = _most_useful(inner, first.project, self.down.out_channels)
        # Without the activation between them, expansion and depthwise filter are one dense convolution.
        self.down.weight.copy_(first.depthwise.weight[keep] * first.expand.weight[keep])
        reach = first.depthwise.weight[keep].sum((1, 2, 3))
        _bias(self.down).copy_(_bias(first.depthwise)[keep] + reach * _bias(first.expand)[keep])
        _refit(self.down_project, [F.relu6(same_conv(self.down, x)) for x in narrow], outer)

        second = source.blocks[1]
        assert isinstance(second, InvertedResidual)
        _narrow_block(second, self.block, outer)
        _narrow_block(source.entry, self.entry, [second(x) for x in outer])


def _most_useful(inputs: Sequence[Tensor], reader: nn.Conv2d, count: int) -> Tensor:
    """Channels by how much they move what the next layer computes: their spread times the norm of its weights."""
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
    """The 1x1 convolution that gives ``outputs`` from ``inputs`` with the least squared error."""
    x = torch.cat([v.permute(0, 2, 3, 1).flatten(0, 2) for v in inputs]).double()
    y = torch.cat([v.permute(0, 2, 3, 1).flatten(0, 2) for v in outputs]).double()
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    steady = 1e-6 * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    solution = torch.linalg.solve(x.T @ x + steady, x.T @ y).float()
    target.weight.copy_(solution[:-1].T[:, :, None, None])
    _bias(target).copy_(solution[-1])


def _narrow_block(source: InvertedResidual, target: InvertedResidual, inputs: Sequence[Tensor]) -> None:
    def inside(block: InvertedResidual, x: Tensor) -> Tensor:
        y = F.relu6(block.expand(x))
        return F.relu6(block.depthwise(y) if block.depthwise.stride == (1, 1) else same_conv(block.depthwise, y))

    wide = [inside(source, x) for x in inputs]
    keep = _most_useful(wide, source.project, target.expand.out_channels)
    _copy_rows(source.expand, target.expand, keep)
    _copy_rows(source.depthwise, target.depthwise, keep)
    _refit(target.project, [x[:, keep] for x in wide], [source.project(x) for x in wide])
