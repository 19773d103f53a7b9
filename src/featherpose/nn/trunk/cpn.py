"""GlobalNet and RefineNet on the trunk (Chen et al. 2018, arXiv 1711.07319).

GlobalNet is the trunk's decoder, a pyramid already, with heatmaps at each of its levels. RefineNet brings all levels to
stride 4, the coarser ones through more bottlenecks, and learns the hardest keypoints.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from featherpose.methods.cascade import CASCADE, PLAIN_CASCADE
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import Bottleneck, conv_norm_relu
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.nn.trunk.network import EVERY_KEYPOINT, LEVEL_STRIDES, CropNetwork, maps_head, probability, raised
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightCascade", "LightCascadeWithoutMining"]

_WIDTH = 48
# Bottlenecks on each level, finest first.
_BLOCKS = 0, 1, 2, 3


class LightCascade(CropNetwork):
    """The levels of GlobalNet as stages, coarsest first, then RefineNet.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> stages = LightCascade().eval()(torch.zeros(1, 3, 64, 32))
        >>> len(stages), tuple(stages[0].heatmaps.shape)
        (5, (1, 17, 16, 8))
    """

    MARK: ClassVar[str] = "global_heatmaps.0.weight"
    method: Method = CASCADE
    probabilities = True
    options = EVERY_KEYPOINT

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, self.method.outputs(skeleton))
        widths = self.decoder.widths
        self.global_heatmaps = nn.ModuleList(maps_head(width, skeleton.num_keypoints) for width in widths)
        self.levels = nn.ModuleList(
            nn.Sequential(
                conv_norm_relu(width, _WIDTH, 1),
                *(Bottleneck(_WIDTH, _WIDTH // 2, out=_WIDTH) for _ in range(blocks)),
            )
            for width, blocks in zip(widths, _BLOCKS, strict=True)
        )
        self.mix = Bottleneck(4 * _WIDTH, _WIDTH, out=2 * _WIDTH)
        self.heatmaps = maps_head(2 * _WIDTH, skeleton.num_keypoints)

    def answer(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[SinglePersonMaps, ...]:
        """Compute the heatmaps of every level and of RefineNet."""
        coarse = [
            raised(layer(x), stride, levels[0])
            for layer, x, stride in zip(self.global_heatmaps, levels, LEVEL_STRIDES, strict=True)
        ]
        upsampled = [
            raised(level(x), stride, levels[0])
            for level, x, stride in zip(self.levels, levels, LEVEL_STRIDES, strict=True)
        ]
        refined = self.heatmaps(self.mix(torch.cat(upsampled, 1)))
        return tuple(SinglePersonMaps(probability(x)) for x in (*reversed(coarse), refined))


class LightCascadeWithoutMining(LightCascade):
    """The same network, whose last stage learns all keypoints: what mining is compared with."""

    MARK: ClassVar[str] = ""
    method: Method = PLAIN_CASCADE
