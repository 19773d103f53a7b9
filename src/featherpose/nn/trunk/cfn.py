"""Coarse and fine detectors on the trunk (Huang, Gong and Tao 2017, CFN)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from featherpose.methods.coarse_fine import COARSE_FINE
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.nn.trunk.network import EVERY_KEYPOINT, LEVEL_STRIDES, CropNetwork, maps_head, probability, raised
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightCoarseFine"]

# The levels with coarse detectors, coarsest first.
_COARSE = 3, 2


class LightCoarseFine(CropNetwork):
    """Coarse heatmaps of strides 32 and 16 as stages, then the fine ones times the higher of both.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> stages = LightCoarseFine().eval()(torch.zeros(1, 3, 64, 32))
        >>> len(stages), tuple(stages[0].heatmaps.shape)
        (3, (1, 17, 16, 8))
    """

    MARK: ClassVar[str] = "coarse.0.weight"
    method: Method = COARSE_FINE
    probabilities = True
    options = EVERY_KEYPOINT

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, COARSE_FINE.outputs(skeleton))
        widths, k = self.decoder.widths, skeleton.num_keypoints
        self.coarse = nn.ModuleList(maps_head(widths[level], k) for level in _COARSE)
        self.fine = nn.Sequential(conv_norm_relu(widths[0], widths[0]), maps_head(widths[0], k, first=-2.0))

    def answer(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[SinglePersonMaps, ...]:
        """Compute the heatmaps of every level."""
        coarse = [
            probability(raised(layer(levels[level]), LEVEL_STRIDES[level], levels[0]))
            for layer, level in zip(self.coarse, _COARSE, strict=True)
        ]
        gated = probability(self.fine(levels[0])) * torch.maximum(*coarse)
        return (*(SinglePersonMaps(x) for x in coarse), SinglePersonMaps(gated))
