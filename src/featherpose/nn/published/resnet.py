"""ResNet-50 and ResNet-101, and a feature pyramid over them (He et al. 2016, Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.nn.layers.residual import Bottleneck, conv_norm_relu

__all__ = ["RESNET_CHANNELS", "FeaturePyramid", "ResNet"]

RESNET_CHANNELS = 256, 512, 1024, 2048
"""Channels of the four stages."""

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ResNet(nn.Module):
    """The trunk of a residual network of bottlenecks (He et al. 2016, "Deep Residual Learning", table 1).

    Args:
        depth: 50 or 101.
        output_stride: Largest stride, 8, 16 or 32; beyond it 3x3 convolutions are dilated instead (Chen et al. 2018,
            "DeepLab", section 3.1).

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     levels = ResNet(50)(torch.zeros(1, 3, 64, 96))
        >>> [tuple(level.shape[1:]) for level in levels]
        [(256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]
    """

    def __init__(self, depth: int = 50, *, output_stride: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_norm_relu(3, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList()
        channels, reached, dilation = 64, 4, 1
        for number, blocks in enumerate(_BLOCKS[depth]):
            width, stage = 64 * 2**number, nn.Sequential()
            stride = 1 if number == 0 else 2
            if reached * stride > output_stride:
                stride, dilation = 1, dilation * 2
            reached *= stride
            for block in range(blocks):
                stage.append(Bottleneck(channels, width, stride=stride if block == 0 else 1, dilation=dilation))
                channels = 4 * width
            self.stages.append(stage)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of the four stages, finest first."""
        x, levels = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return tuple(levels)


class FeaturePyramid(nn.Module):
    """Coarse features added to the finer ones, every level with the same channels (Lin et al. 2017, section 3).

    Args:
        channels: Of each input level, finest first.
        out: Of each output level.
    """

    def __init__(self, channels: Sequence[int] = RESNET_CHANNELS, out: int = 256) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, out, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(out, out, 3, padding=1) for _ in channels)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid's levels, finest first."""
        x, found = None, []
        for lateral, smooth, level in zip(
            reversed(self.laterals), reversed(self.smooth), reversed(levels), strict=True
        ):
            here = lateral(level)
            x = here if x is None else here + F.interpolate(x, size=here.shape[2:], mode="nearest")
            found.append(smooth(x))
        return tuple(reversed(found))
