"""Depthwise convolutions whose gradients are as fast as their forward pass.

oneDNN, which PyTorch calls on CPUs, has no fast backward kernel for two kinds of depthwise convolution: dilated ones
(25 times the time of plain ones, and in bf16 a wrong weight gradient, because it is summed in bf16) and strided ones
in bf16 (3 times their time in FP32). In training, the first are computed as plain convolutions on the phases of the
dilation, the second in FP32. Names, weights and the exported graph are those of an ordinary convolution.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DepthwiseConv2d", "strided_depthwise"]


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise 3x3 convolution, padded so that a stride of 1 keeps the size.

    Args:
        channels: Channels in and out.
        stride: Step between outputs.
        dilation: Step between the pixels of the kernel; with a stride of 1.
        bias: Whether each channel has a bias.

    Example:
        >>> layer = DepthwiseConv2d(8, dilation=2, bias=True).train()
        >>> plain = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        >>> _ = plain.load_state_dict(layer.state_dict())
        >>> image = torch.randn(1, 8, 7, 10)
        >>> torch.allclose(layer(image), plain(image), atol=1e-6)
        True
    """

    def __init__(self, channels: int, *, stride: int = 1, dilation: int = 1, bias: bool = False) -> None:
        super().__init__(channels, channels, 3, stride, dilation, dilation, groups=channels, bias=bias)

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:  # noqa: A002 - PyTorch's name
        """Compute the filtered channels."""
        if not self.training:
            return super().forward(input)
        if self.stride != (1, 1):
            return strided_depthwise(self, input)
        if self.dilation != (1, 1) and torch.is_grad_enabled():
            return _by_phases(self, input, self.dilation[0])
        return super().forward(input)


def strided_depthwise(layer: nn.Conv2d, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Compute a strided depthwise convolution, in FP32 while it trains in a shorter format on a CPU."""
    weight, bias, stride, padding = layer.weight, layer.bias, layer.stride, layer.padding
    if not (layer.training and torch.is_autocast_enabled("cpu") and images.device.type == "cpu"):
        return F.conv2d(images, weight, bias, stride, padding, groups=layer.groups)
    with torch.autocast("cpu", enabled=False):
        done = F.conv2d(images.float(), weight, bias, stride, padding, groups=layer.groups)
    return done.to(torch.get_autocast_dtype("cpu"))


def _by_phases(layer: nn.Conv2d, images: Float[Tensor, "B C H W"], step: int) -> Float[Tensor, "B C H W"]:
    """Compute a dilated convolution as independent plain convolutions, one for each phase of the dilation."""
    batch, channels, height, width = images.shape
    rows, columns = -(-height // step), -(-width // step)
    # Zeros beyond the border equal the padding of the convolution.
    whole = F.pad(images, (0, columns * step - width, 0, rows * step - height))
    # With channels last, rows of channels stay contiguous when the phases are split and joined.
    last = whole.permute(0, 2, 3, 1).reshape(batch, rows, step, columns, step, channels)
    phases = last.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
    done = F.conv2d(phases, layer.weight, layer.bias, padding=1, groups=layer.groups)
    joined = done.permute(0, 2, 3, 1).reshape(step, step, batch, rows, columns, channels).permute(2, 3, 0, 4, 1, 5)
    image = joined.reshape(batch, rows * step, columns * step, channels).permute(0, 3, 1, 2)
    return image[:, :, :height, :width]
