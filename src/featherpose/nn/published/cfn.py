"""Coarse-Fine Network in the size of its trunk (Huang, Gong and Tao 2017, ICCV).

The paper gives the design, not every width. Built here: Inception v2; coarse detectors behind the stages of strides 16
and 32 (multi-level supervision, each level with a label radius of its own, wider where the features are coarser); and a
fine detector that reads the features of all strides at stride 4. The probability of the coarse detectors gates the fine
one: where no level sees the keypoint, the fine detector's answer does not count.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.crops import CropShape
from featherpose.methods.coarse_fine import COARSE_FINE
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.outputs import PoseModule, normalized
from featherpose.nn.published.inception import InceptionV2
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["CoarseFine"]

_WIDTH = 256


class CoarseFine(PoseModule):
    """Coarse heatmaps of strides 32 and 16 as stages, then the gated fine ones; all at stride 4.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> with torch.device("meta"):
        ...     stages = CoarseFine()(torch.zeros(1, 3, 256, 192))
        >>> len(stages), tuple(stages[-1].heatmaps.shape)
        (3, (1, 17, 64, 48))
    """

    MARK: ClassVar[str] = "backbone.stages.0.1.branches.0.0.weight"
    method: Method = COARSE_FINE
    crop = CropShape(width=192, height=256)
    probabilities = True

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, COARSE_FINE.outputs(skeleton))
        self.backbone = InceptionV2()
        k = skeleton.num_keypoints
        self.coarse = nn.ModuleList(
            nn.Sequential(conv_norm_relu(channels, _WIDTH), nn.Conv2d(_WIDTH, k, 1)) for channels in (1024, 576)
        )
        self.laterals = nn.ModuleList(conv_norm_relu(channels, _WIDTH, 1) for channels in (192, 320, 576, 1024))
        self.fine = nn.Sequential(conv_norm_relu(4 * _WIDTH, _WIDTH), nn.Conv2d(_WIDTH, k, 1))

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute the heatmaps of every level for BGR images, 0..255."""
        levels = self.backbone(normalized(images))
        size = levels[0].shape[2:]

        def raised(x: Tensor) -> Tensor:
            return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

        coarse = [raised(head(x)).sigmoid() for head, x in zip(self.coarse, (levels[3], levels[2]), strict=True)]
        fine = self.fine(torch.cat([raised(side(x)) for side, x in zip(self.laterals, levels, strict=True)], 1))
        gated = fine.sigmoid() * torch.maximum(*coarse)
        return (*(SinglePersonMaps(x) for x in coarse), SinglePersonMaps(gated))
