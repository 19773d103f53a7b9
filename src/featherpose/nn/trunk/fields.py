"""Heatmaps and part affinity fields on the trunk: what tags are compared with, at the same cost (Cao et al. 2017).

feather has a head of its own for the same outputs; this one has the decoder and the layers of
`featherpose.nn.trunk.tags`, so that two trainings differ by the method alone.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from featherpose.methods.method import Method
from featherpose.methods.paf.method import PAF
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.outputs import StageMaps
from featherpose.nn.trunk.network import ImageNetwork, maps_head, probability
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightFields"]


class LightFields(ImageNetwork):
    """Heatmaps of everyone at stride 4, fields along their limbs at stride 8.

    Args:
        skeleton: Keypoints and limbs of the outputs.

    Example:
        >>> import torch
        >>> ((heatmaps, pafs),) = LightFields().eval()(torch.zeros(1, 3, 64, 96))
        >>> tuple(heatmaps.shape), tuple(pafs.shape)
        ((1, 17, 16, 24), (1, 38, 8, 12))
    """

    MARK: ClassVar[str] = "fields.weight"
    method: Method = PAF
    probabilities = True

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, PAF.outputs(skeleton, strides={"heatmaps": 4}))
        fine, middle = self.decoder.widths[:2]
        self.heatmaps = maps_head(fine, skeleton.num_keypoints)
        self.hidden = conv_norm_relu(middle, middle)
        self.fields = nn.Conv2d(middle, 2 * skeleton.num_limbs, 1)

    def answer(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[StageMaps, ...]:
        """Compute heatmaps and fields; one stage."""
        return (StageMaps(probability(self.heatmaps(levels[0])), self.fields(self.hidden(levels[1])).float()),)
