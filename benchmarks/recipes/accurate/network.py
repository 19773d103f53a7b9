"""Lightweight OpenPose with batch norms, of any width, with heatmaps at stride 4.

Convention
    Input: BGR images, 0..255; any height and width that are multiples of 8. Normalization is inside the network.
    Output of the last stage: heatmaps, one channel a keypoint in the skeleton's order, stride 4; part affinity
    fields, two channels a limb, stride 8. The initial stage has both at stride 8, for the loss.

The layers are those of the released network (`featherpose.nn.human_pose_estimation_0001`) with three differences.
The last convolution of the heatmaps computes four values for each cell of stride 8, which become four cells of
stride 4 (Shi et al. 2016, sub-pixel convolution). There is no heatmap of the background, which decoding does not
read. Every width is an option, so that a network of half the cost can start from the released weights of its most
important channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.method import Method
from featherpose.methods.paf.method import PAF
from featherpose.nn.layers.depthwise import DepthwiseConv2d
from featherpose.nn.outputs import PoseModule, StageMaps
from featherpose.skeleton import OPENPOSE_18, Skeleton

__all__ = ["SUB_PIXELS", "ConvNorm", "FineOpenPose"]

SUB_PIXELS = 2
"""Cells of the heatmaps along each side of a cell of the fields."""

# (output channels, stride, dilation) of the separable blocks of MobileNet v1 up to conv5_5; None is the width.
_BLOCKS: tuple[tuple[int | None, int, int], ...] = (
    (64, 1, 1), (128, 2, 1), (128, 1, 1), (256, 2, 1), (256, 1, 1),
    (None, 1, 1), (None, 1, 2), (None, 1, 1), (None, 1, 1), (None, 1, 1), (None, 1, 1),
)  # fmt: skip


class ConvNorm(nn.Module):
    """A convolution and its batch norm."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the normalized channels."""
        normalized: Tensor = self.norm(self.conv(x))
        return normalized


def conv_norm(channels: int, out: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1) -> ConvNorm:
    """Build a convolution, padded so that a stride of 1 keeps the size, and its batch norm."""
    padding = dilation * (kernel // 2)
    return ConvNorm(nn.Conv2d(channels, out, kernel, stride, padding, dilation, bias=False))


class _Separable(nn.Module):
    """Depthwise 3x3 and 1x1, each with batch norm and an activation (Howard et al. 2017, 3.1)."""

    def __init__(self, channels: int, out: int, *, stride: int = 1, dilation: int = 1, elu: bool = False) -> None:
        super().__init__()
        self.depthwise = ConvNorm(DepthwiseConv2d(channels, stride=stride, dilation=dilation))
        self.pointwise = conv_norm(channels, out)
        self.activation = F.elu if elu else F.relu

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.pointwise(self.activation(self.depthwise(x))))


class _Neck(nn.Module):
    """From the backbone to the stages' features (Osokin 2018, section 4.2)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.align = conv_norm(channels, out)
        self.mix = conv_norm(out, out)
        self.blocks = nn.ModuleList(_Separable(out, out, elu=True) for _ in range(3))
        self.join = conv_norm(out, out, 3)

    def forward(self, x: Tensor) -> Tensor:
        aligned = F.elu(self.align(x))
        x = F.elu(self.mix(aligned))
        for block in self.blocks:
            x = block(x)
        return F.relu(self.join(aligned + x))


class _Heads(nn.Module):
    """Two 1x1 convolutions for the heatmaps and two for the fields."""

    def __init__(self, channels: int, hidden: int, heatmaps: int, pafs: int) -> None:
        super().__init__()
        self.heatmaps_hidden = conv_norm(channels, hidden)
        self.heatmaps = nn.Conv2d(hidden, heatmaps, 1)
        self.pafs_hidden = conv_norm(channels, hidden)
        self.pafs = nn.Conv2d(hidden, pafs, 1)

    def forward(self, x: Tensor) -> StageMaps:
        return StageMaps(self.heatmaps(F.relu(self.heatmaps_hidden(x))), self.pafs(F.relu(self.pafs_hidden(x))))


class _RefinementBlock(nn.Module):
    """1x1, then 3x3 and dilated 3x3 with a residual (Osokin 2018, figure 4)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.reduce = conv_norm(channels, out)
        self.first = conv_norm(out, out, 3)
        self.second = conv_norm(out, out, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.reduce(x))
        return x + F.relu(self.second(F.relu(self.first(x))))


class FineOpenPose(PoseModule):
    """A dilated MobileNet v1, an initial stage and one refinement stage; the released widths unless given.

    Args:
        skeleton: Keypoints and limbs of the outputs.
        width: Channels of the backbone's wide blocks.
        features: Channels of the stages.
        hidden: Channels in front of the initial stage's outputs.
        blocks: Blocks of the refinement stage.
    """

    method: Method = PAF

    def __init__(
        self,
        skeleton: Skeleton = OPENPOSE_18,
        *,
        width: int = 512,
        features: int = 128,
        hidden: int = 512,
        blocks: int = 5,
    ) -> None:
        super().__init__(skeleton, PAF.outputs(skeleton, strides={"heatmaps": 8 // SUB_PIXELS}))
        keypoints, pafs = skeleton.num_keypoints, 2 * skeleton.num_limbs
        self.stem = conv_norm(3, 32, 3, stride=2)
        widths = [32, *(out or width for out, _, _ in _BLOCKS)]
        self.backbone = nn.ModuleList(
            _Separable(before, after, stride=stride, dilation=dilation)
            for before, after, (_, stride, dilation) in zip(widths[:-1], widths[1:], _BLOCKS, strict=True)
        )
        self.neck = _Neck(width, features)
        self.initial = nn.ModuleList(conv_norm(features, features, 3) for _ in range(3))
        self.initial_heads = _Heads(features, hidden, keypoints, pafs)
        inputs = (pafs + keypoints + features, *(features,) * (blocks - 1))
        self.refinement = nn.ModuleList(_RefinementBlock(channels, features) for channels in inputs)
        self.heads = _Heads(features, features, SUB_PIXELS**2 * keypoints, pafs)

    def features(self, images: Num[Tensor, "B 3 H W"]) -> Float[Tensor, "B N h8 w8"]:
        """Compute the backbone's features."""
        images = images.to(self.heads.pafs.weight.dtype)
        x = F.relu(self.stem((images - 128.0) * (1.0 / 255.0)))
        for block in self.backbone:
            x = block(x)
        return x

    def stages(self, backbone: Float[Tensor, "B N h8 w8"]) -> tuple[StageMaps, StageMaps]:
        """Compute the maps of both stages from the backbone's features."""
        features = x = self.neck(backbone)
        for layer in self.initial:
            x = F.relu(layer(x))
        initial: StageMaps = self.initial_heads(x)
        x = torch.cat((initial.pafs, initial.heatmaps, features), 1)
        for block in self.refinement:
            x = block(x)
        maps: StageMaps = self.heads(x)
        return initial, StageMaps(F.pixel_shuffle(maps.heatmaps, SUB_PIXELS), maps.pafs)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[StageMaps, StageMaps]:
        """Compute the maps of both stages from BGR images, 0..255."""
        return self.stages(self.features(images))
