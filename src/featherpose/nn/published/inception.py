"""Inception v2, the trunk of CFN (Ioffe and Szegedy 2015, arXiv 1502.03167, figure 5: "BN-Inception")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featherpose.nn.layers.residual import conv_norm_relu

__all__ = ["InceptionV2"]

# 1x1; 3x3 behind its 1x1; two 3x3 behind their 1x1; the pooled branch's 1x1. No 1x1 alone and no 1x1 behind the pooling
# where the block halves its input.
_Block = tuple[int, tuple[int, int], tuple[int, int], int]
_STAGES: tuple[tuple[_Block, ...], ...] = (
    ((64, (64, 64), (64, 96), 32), (64, (64, 96), (64, 96), 64)),
    (
        (0, (128, 160), (64, 96), 0), (224, (64, 96), (96, 128), 128), (192, (96, 128), (96, 128), 128),
        (160, (128, 160), (128, 160), 96), (96, (128, 192), (160, 192), 96),
    ),
    ((0, (128, 192), (192, 256), 0), (352, (192, 320), (160, 224), 128), (352, (192, 320), (192, 224), 128)),
)  # fmt: skip


class _Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, block: _Block) -> None:
        super().__init__()
        single, (reduce3, out3), (reduce5, out5), pooled = block
        stride = 1 if single else 2
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*conv_norm_relu(channels, reduce3, 1), *conv_norm_relu(reduce3, out3, stride=stride)),
                nn.Sequential(
                    *conv_norm_relu(channels, reduce5, 1), *conv_norm_relu(reduce5, out5),
                    *conv_norm_relu(out5, out5, stride=stride),
                ),
            ]
        )  # fmt: skip
        if single:
            self.branches.append(conv_norm_relu(channels, single, 1))
            self.branches.append(nn.Sequential(nn.AvgPool2d(3, 1, 1), *conv_norm_relu(channels, pooled, 1)))
        else:
            self.branches.append(nn.MaxPool2d(3, 2, 1))
        self.channels = single + out3 + out5 + (pooled or channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class InceptionV2(nn.Module):
    """The features at strides 4, 8, 16 and 32.

    Example:
        >>> with torch.device("meta"):
        ...     levels = InceptionV2()(torch.zeros(1, 3, 64, 64))
        >>> [tuple(level.shape[1:]) for level in levels]
        [(192, 16, 16), (320, 8, 8), (576, 4, 4), (1024, 2, 2)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *conv_norm_relu(3, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1), *conv_norm_relu(64, 64, 1),
            *conv_norm_relu(64, 192),
        )  # fmt: skip
        self.stages, channels = nn.ModuleList(), 192
        for number, blocks in enumerate(_STAGES):
            stage = nn.Sequential() if number else nn.Sequential(nn.MaxPool2d(3, 2, 1))
            for block in blocks:
                layer = _Inception(channels, block)
                stage.append(layer)
                channels = layer.channels
            self.stages.append(stage)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features, finest first."""
        x = self.stem(x)
        levels = [x]
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return tuple(levels)
