"""Stacked Hourglass networks in published size (Newell et al. 2016, arXiv 1603.06937).

Section 3.1: convolutions and poolings lead down to the lowest resolution, nearest-neighbor upsampling and skip branches
back up. Section 3.2: every block is a residual bottleneck of 256 channels. Section 3.3: hourglasses are stacked;
between two of them the heatmaps of the first are brought back to 256 channels and added to its features, so that each
is supervised and each can correct the one before.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.crops import CropShape
from featherpose.methods.hourglass import HOURGLASS
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import PreActBottleneck
from featherpose.nn.outputs import PoseModule, normalized
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["Hourglass", "StackedHourglass"]

_CHANNELS = 256
_DEPTH = 4


class Hourglass(nn.Module):
    """One hourglass: ``depth`` halvings, and as many doublings with a skip branch at each (figure 3).

    Args:
        depth: Halvings; height and width must be multiples of ``2**depth``, else cells at the border are cut.
        channels: Everywhere.
    """

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.skip = PreActBottleneck(channels, channels)
        self.down = PreActBottleneck(channels, channels)
        inner = Hourglass(depth - 1, channels) if depth > 1 else PreActBottleneck(channels, channels)
        self.inner: nn.Module = inner
        self.up = PreActBottleneck(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute features of the same size."""
        lower = self.up(self.inner(self.down(F.max_pool2d(x, 2, ceil_mode=True))))
        upper: Tensor = self.skip(x)
        doubled = F.interpolate(lower, scale_factor=2.0, mode="nearest")
        return upper + doubled[:, :, : upper.shape[2], : upper.shape[3]]


class _Stack(nn.Module):
    """An hourglass, its heatmaps, and the way from both to the next one."""

    def __init__(self, keypoints: int, *, last: bool) -> None:
        super().__init__()
        self.hourglass = Hourglass(_DEPTH, _CHANNELS)
        self.residual = PreActBottleneck(_CHANNELS, _CHANNELS)
        self.linear = nn.Sequential(nn.Conv2d(_CHANNELS, _CHANNELS, 1), nn.BatchNorm2d(_CHANNELS), nn.ReLU())
        self.heatmaps = nn.Conv2d(_CHANNELS, keypoints, 1)
        self.from_features = None if last else nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.from_heatmaps = None if last else nn.Conv2d(keypoints, _CHANNELS, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.linear(self.residual(self.hourglass(x)))
        heatmaps = self.heatmaps(features)
        if self.from_features is not None and self.from_heatmaps is not None:
            x = x + self.from_features(features) + self.from_heatmaps(heatmaps)
        return heatmaps, x


class StackedHourglass(PoseModule):
    """Eight stacked hourglasses, heatmaps at stride 4 from each.

    Args:
        skeleton: Keypoints of the outputs.
        stacks: Hourglasses.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     stages = StackedHourglass(stacks=2)(torch.zeros(1, 3, 256, 192))
        >>> len(stages), tuple(stages[-1].heatmaps.shape)
        (2, (1, 17, 64, 48))
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("stacks",)
    MARK: ClassVar[str] = "stacks.0.hourglass.skip.branch.0.2.weight"
    method: Method = HOURGLASS
    crop = CropShape(width=192, height=256)

    def __init__(self, skeleton: Skeleton = COCO_17, *, stacks: int = 8) -> None:
        super().__init__(skeleton, HOURGLASS.outputs(skeleton))
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), PreActBottleneck(64, 128), nn.MaxPool2d(2, 2),
            PreActBottleneck(128, 128), PreActBottleneck(128, _CHANNELS),
        )  # fmt: skip
        self.stacks = nn.ModuleList(
            _Stack(skeleton.num_keypoints, last=number == stacks - 1) for number in range(stacks)
        )

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute the heatmaps of every stack for BGR images, 0..255."""
        x, stages = self.stem(normalized(images)), []
        for stack in self.stacks:
            heatmaps, x = stack(x)
            stages.append(SinglePersonMaps(heatmaps))
        return tuple(stages)
