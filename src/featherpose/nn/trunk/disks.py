"""Disks and offsets on the trunk (Papandreou et al. 2017, arXiv 1701.01779): G-RMI's head, at stride 4."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from featherpose.methods.disks.disk_method import DISKS, DiskOptions
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.outputs import DiskMaps
from featherpose.nn.trunk.network import EVERY_KEYPOINT, CropNetwork, maps_head, probability
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightGRmi"]


class LightGRmi(CropNetwork):
    """Disks and offsets of one person at stride 4.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> import torch
        >>> ((disks, offsets),) = LightGRmi().eval()(torch.zeros(1, 3, 64, 32))
        >>> tuple(disks.shape), tuple(offsets.shape)
        ((1, 17, 16, 8), (1, 34, 16, 8))
    """

    MARK: ClassVar[str] = "disks.weight"
    method: Method = DISKS
    probabilities = True
    options = DiskOptions(min_score=EVERY_KEYPOINT.min_score)

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, DISKS.outputs(skeleton))
        width = self.decoder.widths[0]
        self.hidden = conv_norm_relu(width, width)
        self.disks = maps_head(width, skeleton.num_keypoints, first=-3.0)
        self.offsets = nn.Conv2d(width, 2 * skeleton.num_keypoints, 1)

    def answer(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[DiskMaps, ...]:
        """Compute disks and offsets; one stage."""
        x = self.hidden(levels[0])
        return (DiskMaps(probability(self.disks(x)), self.offsets(x)),)
