"""Convolution blocks with the layer order of the published Lightweight OpenPose checkpoint.

The index of a layer in its block is part of a tensor's name there (``cpm.trunk.0.2.weight``), so the order of the
layers, activations included, is fixed.
"""

from __future__ import annotations

from torch import nn

from featherpose.nn.layers.depthwise import DepthwiseConv2d

__all__ = ["conv_block", "conv_norm_block", "elu_separable_block", "plain_conv", "separable_block"]


def plain_conv(channels: int, out: int, kernel: int = 3, *, dilation: int = 1) -> nn.Sequential:
    """Build a convolution without activation, the last layer of a branch."""
    return nn.Sequential(nn.Conv2d(channels, out, kernel, 1, dilation * (kernel // 2), dilation))


def conv_block(channels: int, out: int, kernel: int = 3) -> nn.Sequential:
    """Build a convolution and a ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, kernel, 1, kernel // 2), nn.ReLU(inplace=True))


def conv_norm_block(
    channels: int, out: int, *, stride: int = 1, dilation: int = 1, bias: bool = True, norm: bool = True
) -> nn.Sequential:
    """Build a convolution 3x3, batch norm unless it is folded away, and a ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(channels, out, 3, stride, dilation, dilation, bias=bias or not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(out))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def separable_block(channels: int, out: int, *, stride: int = 1, dilation: int = 1, norm: bool = True) -> nn.Sequential:
    """Build depthwise 3x3 and 1x1, each with batch norm (unless folded away) and ReLU (Howard et al. 2017, 3.1)."""
    depthwise = DepthwiseConv2d(channels, stride=stride, dilation=dilation, bias=not norm)
    pointwise = nn.Conv2d(channels, out, 1, bias=not norm)
    if norm:
        return nn.Sequential(
            depthwise, nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            pointwise, nn.BatchNorm2d(out), nn.ReLU(inplace=True),
        )  # fmt: skip
    return nn.Sequential(depthwise, nn.ReLU(inplace=True), pointwise, nn.ReLU(inplace=True))


def elu_separable_block(channels: int, *, bias: bool = False) -> nn.Sequential:
    """Build depthwise 3x3 and 1x1, each with ELU and no batch norm (Osokin 2018, section 4.2)."""
    return nn.Sequential(
        DepthwiseConv2d(channels, bias=bias), nn.ELU(inplace=True),
        nn.Conv2d(channels, channels, 1, bias=bias), nn.ELU(inplace=True),
    )  # fmt: skip
