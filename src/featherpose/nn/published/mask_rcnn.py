"""Mask R-CNN for keypoints in published size (He et al. 2017, arXiv 1703.06870).

Faster R-CNN on a feature pyramid (Ren et al. 2015, Lin et al. 2017): a proposal network with three anchors at each
cell, and a box head of two layers of 1024 on 7x7 cells. Section 5, "Mask R-CNN for human pose estimation": the
keypoint head has eight 3x3 convolutions of 512 channels on 14x14 cells, a deconvolution and bilinear upsampling to
56x56, where each keypoint is one hot pixel. Batch norms are frozen, so they have no parameters.

The network is counted, not trained: the heads run on one region, since how many there are depends on the image.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.nn.outputs import normalized
from featherpose.nn.published.resnet import FeaturePyramid, ResNet
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["MaskRcnn"]

_CHANNELS, _ANCHORS, _CLASSES = 256, 3, 2


class _Proposals(nn.Module):
    """Objectness and box of each anchor, the same layers at every level."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
        self.objectness = nn.Conv2d(_CHANNELS, _ANCHORS, 1)
        self.boxes = nn.Conv2d(_CHANNELS, 4 * _ANCHORS, 1)

    def forward(self, levels: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        hidden = [F.relu(self.hidden(level)) for level in levels]
        return [(self.objectness(x), self.boxes(x)) for x in hidden]


class _BoxHead(nn.Module):
    """Class and box of a region of 7x7 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(_CHANNELS * 7 * 7, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()
        )  # fmt: skip
        self.classes = nn.Linear(1024, _CLASSES)
        self.boxes = nn.Linear(1024, 4 * _CLASSES)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        x = self.hidden(regions.flatten(1))
        return self.classes(x), self.boxes(x)


class _KeypointHead(nn.Module):
    """Logits at 56x56 cells of a region of 14x14."""

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(8):
            layers += [nn.Conv2d(512 if number else _CHANNELS, 512, 3, padding=1), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.heatmaps = nn.ConvTranspose2d(512, keypoints, 4, 2, 1)

    def forward(self, regions: Tensor) -> Tensor:
        x = self.heatmaps(self.hidden(regions))
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class MaskRcnn(nn.Module):
    """ResNet-50-FPN with the heads for boxes and keypoints.

    Args:
        skeleton: Keypoints.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     heatmaps = MaskRcnn()(torch.zeros(1, 3, 64, 64))
        >>> tuple(heatmaps.shape)
        (1, 17, 56, 56)
    """

    size_multiple = 8

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__()
        self.backbone = ResNet(50)
        for layer in self.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                # Frozen: a factor and an offset that no training changes are no parameters.
                layer.weight = layer.bias = None  # type: ignore[assignment]
                layer.affine = False
        self.pyramid = FeaturePyramid(out=_CHANNELS)
        self.proposals = _Proposals()
        self.boxes = _BoxHead()
        self.keypoints = _KeypointHead(skeleton.num_keypoints)

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Name of each part, and the modules that make it up."""
        return {name: (name,) for name, _ in self.named_children()}

    def forward(self, images: Tensor) -> Tensor:
        """Compute the keypoint logits of one region, the whole image, of BGR images, 0..255."""
        levels = self.pyramid(self.backbone(normalized(images)))
        self.proposals((*levels, F.max_pool2d(levels[-1], 1, 2)))
        self.boxes(_resampled(levels[-1], 7))
        logits: Tensor = self.keypoints(_resampled(levels[-1], 14))
        return logits


def _resampled(features: Tensor, cells: int) -> Tensor:
    """Bring features to a number of cells; a stand-in for RoIAlign, which multiplies nothing that is counted."""
    return F.interpolate(features, size=(cells, cells), mode="bilinear", align_corners=False)
