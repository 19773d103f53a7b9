"""G-RMI's pose network in published size (Papandreou et al. 2017, arXiv 1701.01779, section 3.2).

A ResNet-101 whose last stages are dilated, so that the output stride is 8, and one 1x1 convolution with three
channels a keypoint: a disk (is this cell within 25 pixels of the keypoint?) and the x and y offset from the cell to
it. The person's crop is 353x257.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Num
from torch import Tensor, nn

from featherpose.crops import CropShape
from featherpose.methods.disks.disk_method import DISKS
from featherpose.methods.method import Method
from featherpose.nn.outputs import DiskMaps, PoseModule, normalized
from featherpose.nn.published.resnet import ResNet
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["GRmi"]


class GRmi(PoseModule):
    """Disks and offsets at stride 8.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     (stage,) = GRmi()(torch.zeros(1, 3, 64, 96))
        >>> tuple(stage.disks.shape), tuple(stage.offsets.shape)
        ((1, 17, 8, 12), (1, 34, 8, 12))
    """

    MARK: ClassVar[str] = "maps.weight"
    method: Method = DISKS
    crop = CropShape(width=256, height=352)

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, DISKS.outputs(skeleton, strides={"disks": 8, "offsets": 8}))
        self.backbone = ResNet(101, output_stride=8)
        self.maps = nn.Conv2d(2048, 3 * skeleton.num_keypoints, 1)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[DiskMaps, ...]:
        """Compute disks and offsets of BGR images, 0..255; one stage."""
        maps, k = self.maps(self.backbone(normalized(images))[-1]), self.skeleton.num_keypoints
        return (DiskMaps(maps[:, :k].sigmoid(), maps[:, k:]),)
