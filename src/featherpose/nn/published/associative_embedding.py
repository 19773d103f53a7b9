"""Associative Embedding in published size (Newell et al. 2017, arXiv 1611.05424).

Section 3.1: stacked hourglasses with other numbers than for one person. The channels grow by 128 with each halving
(256, 384, 512, 640, 768), and plain 3x3 convolutions stand in place of residual blocks. Section 3.3: the outputs at
stride 4 are a heatmap and a tag map for each keypoint; four stacks, 512x512 input.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.method import Method
from featherpose.methods.tags.tag_method import TAGS
from featherpose.nn.outputs import PoseModule, TagMaps, normalized
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["AssociativeEmbedding"]

_CHANNELS, _GROWTH, _DEPTH = 256, 128, 4


def _conv(channels: int, out: int, kernel: int = 3, *, stride: int = 1, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, out, kernel, stride, kernel // 2)]
    if norm:
        layers.append(nn.BatchNorm2d(out))
    return nn.Sequential(*layers, nn.ReLU())


class _GrowingHourglass(nn.Module):
    """An hourglass of plain convolutions whose channels grow towards the bottom."""

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        more = channels + _GROWTH
        self.skip = _conv(channels, channels)
        self.down = _conv(channels, more)
        self.inner: nn.Module = _GrowingHourglass(depth - 1, more) if depth > 1 else _conv(more, more)
        self.up = _conv(more, channels)

    def forward(self, x: Tensor) -> Tensor:
        lower = self.up(self.inner(self.down(F.max_pool2d(x, 2, ceil_mode=True))))
        upper: Tensor = self.skip(x)
        doubled = F.interpolate(lower, scale_factor=2.0, mode="nearest")
        return upper + doubled[:, :, : upper.shape[2], : upper.shape[3]]


class _Stack(nn.Module):
    """An hourglass, two convolutions, its maps, and the way from both to the next one."""

    def __init__(self, maps: int, *, last: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _GrowingHourglass(_DEPTH, _CHANNELS), _conv(_CHANNELS, _CHANNELS), _conv(_CHANNELS, _CHANNELS)
        )
        self.maps = nn.Conv2d(_CHANNELS, maps, 1)
        self.from_features = None if last else nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.from_maps = None if last else nn.Conv2d(maps, _CHANNELS, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        maps = self.maps(features)
        if self.from_features is not None and self.from_maps is not None:
            x = x + self.from_features(features) + self.from_maps(maps)
        return maps, x


class AssociativeEmbedding(PoseModule):
    """Four stacks; heatmaps and tags at stride 4 from each.

    Args:
        skeleton: Keypoints of the outputs.
        stacks: Hourglasses.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     stages = AssociativeEmbedding(stacks=1)(torch.zeros(1, 3, 64, 64))
        >>> tuple(stages[-1].tags.shape)
        (1, 17, 16, 16)
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("stacks",)
    MARK: ClassVar[str] = "stacks.0.features.0.skip.0.weight"
    method: Method = TAGS

    def __init__(self, skeleton: Skeleton = COCO_17, *, stacks: int = 4) -> None:
        super().__init__(skeleton, TAGS.outputs(skeleton))
        self.stem = nn.Sequential(
            _conv(3, 64, 7, stride=2, norm=True), _conv(64, 128, norm=True), nn.MaxPool2d(2, 2),
            _conv(128, 128, norm=True), _conv(128, _CHANNELS, norm=True),
        )  # fmt: skip
        self.stacks = nn.ModuleList(
            _Stack(2 * skeleton.num_keypoints, last=number == stacks - 1) for number in range(stacks)
        )

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[TagMaps, ...]:
        """Compute heatmaps and tags of every stack for BGR images, 0..255."""
        x, stages, k = self.stem(normalized(images)), [], self.skeleton.num_keypoints
        for stack in self.stacks:
            maps, x = stack(x)
            stages.append(TagMaps(maps[:, :k], maps[:, k:]))
        return tuple(stages)
