"""Two stacked hourglasses on the trunk (Newell et al. 2016, arXiv 1603.06937).

The published network makes its features at stride 4 from pixels and has eight hourglasses of 256 channels; here they
come from the trunk, and two hourglasses of 64 channels refine them. Both are supervised, and the heatmaps of the
first feed the second, as in the paper's section 3.3.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.hourglass import HOURGLASS
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import conv_norm, conv_norm_relu
from featherpose.nn.movenet import upsampled_onto
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.nn.trunk.network import EVERY_KEYPOINT, CropNetwork, maps_head, probability
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightHourglass"]

_DEPTH = 3


class _Residual(nn.Module):
    """Half the width, 3x3 there, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *conv_norm_relu(channels, channels // 2, 1), *conv_norm_relu(channels // 2, channels // 2),
            *conv_norm(channels // 2, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.branch(x))


class _Hourglass(nn.Module):
    """Halvings, doublings, and a skip branch at each size."""

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.skip = _Residual(channels)
        self.down = nn.Sequential(conv_norm_relu(channels, channels, stride=2), _Residual(channels))
        self.inner: nn.Module = _Hourglass(depth - 1, channels) if depth > 1 else _Residual(channels)
        self.up = _Residual(channels)

    def forward(self, x: Tensor) -> Tensor:
        return upsampled_onto(self.up(self.inner(self.down(x))), self.skip(x))


class _Stack(nn.Module):
    def __init__(self, channels: int, keypoints: int, *, last: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(_Hourglass(_DEPTH, channels), conv_norm_relu(channels, channels, 1))
        self.heatmaps = maps_head(channels, keypoints)
        self.back = None if last else nn.Conv2d(channels + keypoints, channels, 1)


class LightHourglass(CropNetwork):
    """Heatmaps of one person at stride 4, from each of two stacks.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> import torch
        >>> stages = LightHourglass().eval()(torch.zeros(1, 3, 64, 32))
        >>> len(stages), tuple(stages[-1].heatmaps.shape)
        (2, (1, 17, 16, 8))
    """

    MARK: ClassVar[str] = "stacks.0.back.weight"
    method: Method = HOURGLASS
    probabilities = True
    options = EVERY_KEYPOINT

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, HOURGLASS.outputs(skeleton))
        width = self.decoder.widths[0]
        self.stacks = nn.ModuleList(_Stack(width, skeleton.num_keypoints, last=last) for last in (False, True))

    def answer(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[SinglePersonMaps, ...]:
        """Compute the heatmaps of every stack."""
        x, stages = levels[0], []
        for stack in self.stacks:
            assert isinstance(stack, _Stack)
            features = stack.features(x)
            heatmaps = probability(stack.heatmaps(features))
            if stack.back is not None:
                x = x + stack.back(torch.cat((features, heatmaps.to(features.dtype)), 1))
            stages.append(SinglePersonMaps(heatmaps))
        return tuple(stages)
