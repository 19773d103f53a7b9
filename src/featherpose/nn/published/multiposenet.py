"""MultiPoseNet in published size (Kocabas et al. 2018, arXiv 1807.04067).

Section 3.1: one ResNet with two feature pyramids. Section 3.2: the keypoint pyramid's levels pass two 3x3
convolutions of 128 channels, are upsampled to stride 4 and concatenated, and give heatmaps. Section 3.3: RetinaNet's
heads on the person pyramid. Section 3.4: the Pose Residual Network (PRN) takes the keypoint peaks in a person's box,
drawn on a grid of 56x36 cells a keypoint, through hidden layers of 1024 units, adds them to the input, and says by a
softmax over all cells of a keypoint which of them is this person's.

The network is counted, not trained: the PRN runs for one box.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.outputs import normalized
from featherpose.nn.published.resnet import FeaturePyramid, ResNet
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["PRN_GRID", "MultiPoseNet", "PoseResidualNetwork"]

PRN_GRID = 56, 36
"""Cells (height, width) of a person's box."""

_ANCHORS = 9


class PoseResidualNetwork(nn.Module):
    """Which of the keypoints in a box are this person's.

    Args:
        keypoints: K.
        hidden: Units of each hidden layer.
        grid: Cells (height, width) of a box.

    Example:
        >>> prn = PoseResidualNetwork(17, hidden=8, grid=(4, 3)).eval()
        >>> found = prn(torch.zeros(2, 17, 4, 3))
        >>> tuple(found.shape), torch.allclose(found.sum(dim=(2, 3)), torch.ones(2, 17))
        ((2, 17, 4, 3), True)
    """

    def __init__(self, keypoints: int, *, hidden: int = 1024, grid: tuple[int, int] = PRN_GRID) -> None:
        super().__init__()
        size = keypoints * grid[0] * grid[1]
        self.layers = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(hidden, size),
        )  # fmt: skip

    def forward(self, grids: Tensor) -> Tensor:
        """Compute the probability of each cell, float[B, K, h, w], from the peaks drawn on the grid."""
        batch, k, height, width = grids.shape
        flat = grids.reshape(batch, -1)
        answer: Tensor = (flat + self.layers(flat)).reshape(batch, k, height * width)
        return answer.softmax(dim=2).reshape(batch, k, height, width)


class _Head(nn.Module):
    """RetinaNet's four convolutions and an output (Lin et al. 2017, "Focal Loss", section 4)."""

    def __init__(self, out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(256, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


class MultiPoseNet(nn.Module):
    """ResNet-50, two pyramids, three heads.

    Args:
        skeleton: Keypoints.

    Example:
        >>> with torch.device("meta"):
        ...     heatmaps = MultiPoseNet()(torch.zeros(1, 3, 128, 128))
        >>> tuple(heatmaps.shape)
        (1, 17, 32, 32)
    """

    size_multiple = 32

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__()
        self.backbone = ResNet(50)
        self.keypoint_pyramid = FeaturePyramid()
        self.keypoint_levels = nn.ModuleList(
            nn.Sequential(*conv_norm_relu(256, 128), *conv_norm_relu(128, 128)) for _ in range(4)
        )
        self.keypoint_mix = conv_norm_relu(4 * 128, 128)
        self.heatmaps = nn.Conv2d(128, skeleton.num_keypoints, 1)
        self.person_pyramid = FeaturePyramid((512, 1024, 2048))
        self.coarser = nn.ModuleList((nn.Conv2d(2048, 256, 3, 2, 1), nn.Conv2d(256, 256, 3, 2, 1)))
        self.classes, self.boxes = _Head(_ANCHORS), _Head(4 * _ANCHORS)
        self.prn = PoseResidualNetwork(skeleton.num_keypoints)

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Name of each part, and the modules that make it up."""
        return {
            "backbone": ("backbone",),
            "keypoints": ("keypoint_pyramid", "keypoint_levels", "keypoint_mix", "heatmaps"),
            "boxes": ("person_pyramid", "coarser", "classes", "boxes"),
            "pose residual network, one box": ("prn",),
        }

    def forward(self, images: Tensor) -> Tensor:
        """Compute the heatmaps of BGR images, 0..255, and, to be counted, all the rest."""
        levels = self.backbone(normalized(images))
        pyramid = self.keypoint_pyramid(levels)
        size = pyramid[0].shape[2:]
        raised = [F.interpolate(mix(x), size=size) for mix, x in zip(self.keypoint_levels, pyramid, strict=True)]
        heatmaps: Tensor = self.heatmaps(self.keypoint_mix(torch.cat(raised, 1)))
        people = list(self.person_pyramid(levels[1:]))
        people.append(self.coarser[0](levels[-1]))
        people.append(self.coarser[1](F.relu(people[-1])))
        for level in people:
            self.classes(level), self.boxes(level)
        self.prn(F.interpolate(heatmaps, size=PRN_GRID))
        return heatmaps
