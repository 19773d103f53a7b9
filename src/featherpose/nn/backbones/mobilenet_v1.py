"""MobileNet v1 (Howard et al. 2017), cut and dilated so that its features have stride 8.

Layer names follow the paper's table as the slides count them: conv1 is the first convolution, conv2_1 the first
depthwise-separable block, conv5_6 the block that widens to 1024 channels.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from featherpose.nn.layers.blocks import conv_norm_block, separable_block

__all__ = ["MobileNetV1Cut", "mobilenet_v1", "mobilenet_v1_channels"]

MobileNetV1Cut = Literal["conv4_1", "conv5_5", "conv5_6"]

# (name, output channels, stride, dilation). The paper halves the resolution again at conv4_2 and conv5_6; here the
# first of the wide blocks is dilated by two instead.
_BLOCKS = (
    ("conv2_1", 64, 1, 1), ("conv2_2", 128, 2, 1),
    ("conv3_1", 128, 1, 1), ("conv3_2", 256, 2, 1),
    ("conv4_1", 256, 1, 1), ("conv4_2", 512, 1, 1),
    ("conv5_1", 512, 1, 2), ("conv5_2", 512, 1, 1), ("conv5_3", 512, 1, 1), ("conv5_4", 512, 1, 1),
    ("conv5_5", 512, 1, 1), ("conv5_6", 1024, 1, 1),
)  # fmt: skip


def mobilenet_v1_channels(cut: MobileNetV1Cut) -> int:
    """Channels of the last block that is kept."""
    return next(out for name, out, _, _ in _BLOCKS if name == cut)


def mobilenet_v1(cut: MobileNetV1Cut = "conv5_5", *, norm: bool = True) -> nn.Sequential:
    """Build the blocks up to and including ``cut``, output stride 8.

    Args:
        cut: Name of the last block.
        norm: False if batch norms are folded into the convolutions.

    Example:
        >>> import torch
        >>> tuple(mobilenet_v1("conv4_1")(torch.zeros(1, 3, 64, 96)).shape)
        (1, 256, 8, 12)
    """
    layers = nn.Sequential(conv_norm_block(3, 32, stride=2, bias=False, norm=norm))
    channels = 32
    for name, out, stride, dilation in _BLOCKS:
        layers.append(separable_block(channels, out, stride=stride, dilation=dilation, norm=norm))
        channels = out
        if name == cut:
            break
    return layers
