"""Convolutions with batch norm, and the residual blocks made of them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BasicBlock", "Bottleneck", "PreActBottleneck", "conv_norm", "conv_norm_relu"]


def conv_norm(channels: int, out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution and batch norm, padded so that a stride of 1 keeps the size."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, padding, dilation, bias=False), nn.BatchNorm2d(out)
    )  # fmt: skip


def conv_norm_relu(channels: int, out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU, padded so that a stride of 1 keeps the size."""
    return nn.Sequential(
        *conv_norm(channels, out, kernel, stride=stride, dilation=dilation), nn.ReLU(inplace=True)
    )  # fmt: skip


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, "Deep Residual Learning", figure 2).

    Args:
        channels: Of input and output.

    Example:
        >>> import torch
        >>> tuple(BasicBlock(16)(torch.zeros(1, 16, 8, 8)).shape)
        (1, 16, 8, 8)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_norm_relu(channels, channels)
        self.second = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features behind the block."""
        return F.relu(x + self.second(self.first(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut (He et al. 2016, "Deep Residual Learning", figure 5).

    Args:
        channels: Input channels.
        width: Channels of the 3x3 convolution.
        stride: Of the 3x3 convolution.
        dilation: Of the 3x3 convolution.
        out: Output channels; four times the width unless given.

    Example:
        >>> import torch
        >>> tuple(Bottleneck(64, 32, stride=2)(torch.zeros(1, 64, 8, 8)).shape)
        (1, 128, 4, 4)
    """

    def __init__(
        self, channels: int, width: int, *, stride: int = 1, dilation: int = 1, out: int | None = None
    ) -> None:
        super().__init__()
        out = 4 * width if out is None else out
        self.reduce = conv_norm_relu(channels, width, 1)
        self.spatial = conv_norm_relu(width, width, 3, stride=stride, dilation=dilation)
        self.expand = conv_norm(width, out, 1)
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else conv_norm(channels, out, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features behind the block."""
        return F.relu(self.expand(self.spatial(self.reduce(x))) + self.shortcut(x))


class PreActBottleneck(nn.Module):
    """Batch norm and ReLU in front of each convolution: half width, 3x3, back (Newell et al. 2016, figure 4).

    Args:
        channels: Input channels.
        out: Output channels; the bottleneck has half of them.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        width = out // 2

        def convolution(before: int, after: int, kernel: int) -> nn.Sequential:
            return nn.Sequential(
                nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, kernel, padding=kernel // 2)
            )  # fmt: skip

        self.branch = nn.Sequential(
            convolution(channels, width, 1), convolution(width, width, 3), convolution(width, out, 1)
        )
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features behind the block."""
        result: Tensor = self.shortcut(x) + self.branch(x)
        return result
