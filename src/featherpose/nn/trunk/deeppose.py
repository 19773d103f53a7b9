"""DeepPose on the trunk: coordinates from the whole crop, then refiners that look around each joint.

Toshev and Szegedy 2014 (arXiv 1312.4659). The first stage regresses all coordinates at once (section 3.1). Each later
stage cuts a sub-image around every joint where the stage before saw it, and regresses how far off that was, in units of
the sub-image (section 3.2, equation 5). The published cascade runs a network on each sub-image's pixels; here the
sub-images are cut, bilinearly, from the features at strides 4 and 8, which have seen the pixels already.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.method import Method
from featherpose.methods.regression import REGRESSION, RegressionOptions
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.outputs import Coordinates
from featherpose.nn.trunk.network import EVERY_KEYPOINT, CropNetwork, probability
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightDeepPose", "Refiner", "cut_around"]

# The coarsest level is brought to this many cells, those of a 224x160 crop.
_GRID = 7, 5
_HIDDEN = 512
# Sides of a sub-image, as a part of the crop's, and cells along each. The refiner's reach is half of it.
_PART = 0.25, 0.33
_CELLS = 7


def cut_around(
    features: Float[Tensor, "B C h w"], centers: Float[Tensor, "B K 2"], part: tuple[float, float] = _PART
) -> Float[Tensor, "B K C n n"]:
    """Cut a square grid of cells around each point, bilinearly; cells outside the features are 0.

    Args:
        features: Of whole crops.
        centers: (x, y) of the points: 0 at the middle, 0.5 at the edge.
        part: Height and width of a sub-image, as a part of the crop's.

    Example:
        >>> x = torch.linspace(-0.5, 0.5, 65)[:-1] + 1 / 128
        >>> features = x.expand(1, 1, 64, 64)
        >>> cut = cut_around(features, torch.tensor([[[0.1, 0.0]]]), (0.25, 0.25))
        >>> tuple(cut.shape), round(float(cut[0, 0, 0, 3, 3]), 3)
        ((1, 1, 1, 7, 7), 0.1)
    """
    steps = torch.linspace(-0.5, 0.5, _CELLS, device=features.device)
    y, x = torch.meshgrid(steps * part[0], steps * part[1], indexing="ij")
    # In units of half the input, as grid_sample has it.
    grid = 2 * (centers[:, :, None, None].float() + torch.stack((x, y), -1))
    batch, k = centers.shape[:2]
    # One sampling for all joints: their grids stand below each other.
    grid = grid.reshape(batch, k * _CELLS, _CELLS, 2)
    cut = F.grid_sample(features.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return cut.reshape(batch, -1, k, _CELLS, _CELLS).transpose(1, 2)


class Refiner(nn.Module):
    """One later stage: the displacement of each joint from the sub-images around them.

    The weights of the convolution are shared by the joints; each joint has a linear layer of its own.

    Args:
        channels: Of the features.
        keypoints: Joints.
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.reduce = conv_norm_relu(channels, 32, 1)
        self.look = nn.Conv2d(32, 64, _CELLS)
        self.out = nn.Conv1d(64 * keypoints, 3 * keypoints, 1, groups=keypoints)
        nn.init.normal_(self.out.weight, std=1e-3)

    def forward(self, features: Tensor, coordinates: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Move coordinates float[B, 2K, 1, 1] and change the logits of presence float[B, K, 1, 1]."""
        batch, k = logits.shape[:2]
        centers = coordinates.detach().reshape(batch, k, 2).clamp(-0.5, 0.5)
        cut = cut_around(self.reduce(features), centers)
        seen = F.relu(self.look(cut.reshape(batch * k, *cut.shape[2:]).to(features.dtype)))
        moves = self.out(seen.reshape(batch, k * seen.shape[1], 1)).float().reshape(batch, k, 3)
        half = torch.tensor((_PART[1], _PART[0]), device=moves.device) / 2
        moved = coordinates + (moves[:, :, :2] * half).reshape(batch, 2 * k, 1, 1)
        return moved, logits + moves[:, :, 2].reshape(batch, k, 1, 1)


class LightDeepPose(CropNetwork):
    """Coordinates of one person: the first stage and two refiners.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> stages = LightDeepPose().eval()(torch.zeros(1, 3, 64, 32))
        >>> len(stages), tuple(stages[-1].coordinates.shape)
        (3, (1, 34, 1, 1))
    """

    MARK: ClassVar[str] = "refiners.0.look.weight"
    method: Method = REGRESSION
    options = RegressionOptions(min_score=EVERY_KEYPOINT.min_score)

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, REGRESSION.outputs(skeleton))
        widths, k = self.decoder.widths, skeleton.num_keypoints
        self.squeeze = conv_norm_relu(widths[3], 64, 1)
        self.regress = nn.Sequential(
            nn.Linear(64 * _GRID[0] * _GRID[1], _HIDDEN), nn.ReLU(), nn.Dropout(0.2), nn.Linear(_HIDDEN, 3 * k)
        )
        self.refiners = nn.ModuleList(Refiner(widths[level], k) for level in (1, 0))

    def answer(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Coordinates, ...]:
        """Compute coordinates and presence of every stage."""
        k = self.skeleton.num_keypoints
        x = F.interpolate(self.squeeze(levels[3]), size=_GRID, mode="bilinear", align_corners=False)
        found = self.regress(x.flatten(1))[:, :, None, None].float()
        coordinates, logits = found[:, : 2 * k], found[:, 2 * k :]
        stages = [Coordinates(coordinates, probability(logits))]
        for refiner, level in zip(self.refiners, (levels[1], levels[0]), strict=True):
            # Each stage corrects the one before, which learns from its own loss alone.
            coordinates, logits = refiner(level, coordinates.detach(), logits.detach())
            stages.append(Coordinates(coordinates, probability(logits)))
        return tuple(stages)
