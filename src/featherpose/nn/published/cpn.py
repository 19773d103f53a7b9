"""Cascaded Pyramid Network in published size (Chen et al. 2018, arXiv 1711.07319).

GlobalNet (section 3.2.1) is a feature pyramid over ResNet-50 with a 1x1 convolution before each addition and heatmaps
at every level. RefineNet (section 3.2.2) passes each level through more bottlenecks the coarser it is, upsamples all
to stride 4, concatenates them, and is trained on the keypoints that are hardest for it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.crops import CropShape
from featherpose.methods.cascade import CASCADE
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import Bottleneck, conv_norm, conv_norm_relu
from featherpose.nn.outputs import PoseModule, normalized
from featherpose.nn.published.resnet import RESNET_CHANNELS, ResNet
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["CascadedPyramid"]

_CHANNELS = 256


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class _GlobalNet(nn.Module):
    """A pyramid with heatmaps at each level, coarsest first."""

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv_norm_relu(c, _CHANNELS, 1) for c in reversed(RESNET_CHANNELS))
        self.rise = nn.ModuleList(conv_norm(_CHANNELS, _CHANNELS, 1) for _ in RESNET_CHANNELS[1:])
        self.heatmaps = nn.ModuleList(
            nn.Sequential(conv_norm_relu(_CHANNELS, _CHANNELS, 1), *conv_norm(_CHANNELS, keypoints, 3))
            for _ in RESNET_CHANNELS
        )

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        features: list[Tensor] = []
        for number, level in enumerate(reversed(levels)):
            x = self.laterals[number](level)
            if number:
                x = x + self.rise[number - 1](_resized(features[-1], x))
            features.append(x)
        # Every level is supervised at the finest size.
        heatmaps = [_resized(head(x), levels[0]) for head, x in zip(self.heatmaps, features, strict=True)]
        return features, heatmaps


class _RefineNet(nn.Module):
    """Bottlenecks on each level, 3 on the coarsest to none on the finest, and one over all of them."""

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(*(Bottleneck(_CHANNELS, 128, out=_CHANNELS) for _ in range(3 - number)))
            for number in range(4)
        )
        self.mix = Bottleneck(4 * _CHANNELS, 128, out=_CHANNELS)
        self.heatmaps = nn.Sequential(*conv_norm(_CHANNELS, keypoints, 3))

    def forward(self, features: list[Tensor]) -> Tensor:
        raised = [_resized(level(x), features[-1]) for level, x in zip(self.levels, features, strict=True)]
        heatmaps: Tensor = self.heatmaps(self.mix(torch.cat(raised, 1)))
        return heatmaps


class CascadedPyramid(PoseModule):
    """CPN on ResNet-50: the four levels of GlobalNet as stages, coarsest first, then RefineNet.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> with torch.device("meta"):
        ...     stages = CascadedPyramid()(torch.zeros(1, 3, 256, 192))
        >>> len(stages), tuple(stages[-1].heatmaps.shape)
        (5, (1, 17, 64, 48))
    """

    MARK: ClassVar[str] = "refine.mix.reduce.0.weight"
    method: Method = CASCADE
    crop = CropShape(width=192, height=256)

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, CASCADE.outputs(skeleton))
        self.backbone = ResNet(50)
        self.globalnet = _GlobalNet(skeleton.num_keypoints)
        self.refine = _RefineNet(skeleton.num_keypoints)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute the heatmaps of every level and of RefineNet for BGR images, 0..255."""
        features, coarse = self.globalnet(self.backbone(normalized(images)))
        return (*(SinglePersonMaps(x) for x in coarse), SinglePersonMaps(self.refine(features)))
