"""MobileNet v2 (Sandler et al. 2018), dilated to stride 8 and cut to conv6_3, its last bottleneck of 320 channels."""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.nn.layers.depthwise import DepthwiseConv2d

__all__ = ["CHANNELS", "mobilenet_v2"]

CHANNELS = 320

# (expansion, output channels, stride, dilation). The paper's table 2, with the strides behind stride 8 traded for
# dilation: blocks of stride 16 are dilated by two, blocks of stride 32 by four.
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1), (6, 24, 1, 1),
    (6, 32, 2, 1), (6, 32, 1, 1), (6, 32, 1, 1),
    (6, 64, 1, 2), (6, 64, 1, 2), (6, 64, 1, 2), (6, 64, 1, 2),
    (6, 96, 1, 2), (6, 96, 1, 2), (6, 96, 1, 2),
    (6, 160, 1, 4), (6, 160, 1, 4), (6, 160, 1, 4),
    (6, CHANNELS, 1, 4),
)  # fmt: skip


class _Bottleneck(nn.Module):
    """Expand by 1x1, filter by depthwise 3x3, project by 1x1 without activation (section 3.3)."""

    def __init__(self, channels: int, out: int, *, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        wide = channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)]
        layers += [
            DepthwiseConv2d(wide, stride=stride, dilation=dilation), nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True), nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out),
        ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def mobilenet_v2() -> nn.Sequential:
    """Build the network up to conv6_3, output stride 8.

    Example:
        >>> import torch
        >>> tuple(mobilenet_v2()(torch.zeros(1, 3, 64, 96)).shape)
        (1, 320, 8, 12)
    """
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True))
    layers = nn.Sequential(stem)
    channels = 32
    for expansion, out, stride, dilation in _BLOCKS:
        layers.append(_Bottleneck(channels, out, expansion=expansion, stride=stride, dilation=dilation))
        channels = out
    return layers
