"""RMPE's network in published size (Fang et al. 2017, arXiv 1612.00137).

Section 3.1: a spatial transformer network (STN) in front of a single-person pose estimator (SPPE) finds, from an
imprecise box, the region around the person; the inverse transformation (SDTN) brings the heatmaps back. In training a
parallel SPPE, which is frozen, looks at the transformed region alone and punishes transformations that do not center
the person. Section 4.2: the SPPE is a stacked hourglass of four stacks, the localization network a ResNet-18.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.crops import CropShape
from featherpose.methods.hourglass import HOURGLASS
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import conv_norm, conv_norm_relu
from featherpose.nn.layers.transformer import axis_aligned, inverse_of, transformed
from featherpose.nn.outputs import PoseModule
from featherpose.nn.published.hourglass import StackedHourglass
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["Rmpe"]


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5, left)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*conv_norm_relu(channels, out, stride=stride), *conv_norm(out, out))
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else conv_norm(channels, out, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


class _Localization(nn.Module):
    """ResNet-18 and a linear layer of four numbers, the scales and the shift of the region."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [*conv_norm_relu(3, 64, 7, stride=2), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for width in (64, 128, 256, 512):
            blocks += [_BasicBlock(channels, width, 1 if width == 64 else 2), _BasicBlock(width, width, 1)]
            channels = width
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.region = nn.Linear(channels, 4)
        nn.init.zeros_(self.region.weight)
        nn.init.zeros_(self.region.bias)

    def forward(self, images: Tensor) -> Tensor:
        return axis_aligned(self.region(self.features(images)))


class Rmpe(PoseModule):
    """STN, four stacks, SDTN.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     stages = Rmpe()(torch.zeros(1, 3, 256, 192))
        >>> len(stages), tuple(stages[-1].heatmaps.shape)
        (4, (1, 17, 64, 48))
    """

    MARK: ClassVar[str] = "localization.region.weight"
    method: Method = HOURGLASS
    crop = CropShape(width=192, height=256)

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, HOURGLASS.outputs(skeleton))
        self.localization = _Localization()
        self.sppe = StackedHourglass(skeleton, stacks=4)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute the heatmaps of every stack, in the crop as it was given, for BGR images, 0..255."""
        floats = images if images.is_floating_point() else images.float()
        region = self.localization((floats - 128) / 256)
        stages = self.sppe(transformed(floats, region))
        back = inverse_of(region)
        return tuple(SinglePersonMaps(transformed(stage.heatmaps, back)) for stage in stages)
