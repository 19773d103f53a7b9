"""A small network for one person: dense convolutions, heatmaps at stride 4.

Convention
    Input: BGR images or crops around one person, 0..255; height and width multiples of 8. Normalization is inside.
    Output: heatmaps in 0..1, one channel a keypoint, stride 4.

The stem moves blocks of 4x4 pixels into channels (space to depth), so no layer runs at strides 1 and 2. Then come
residual blocks of dense 3x3 convolutions at strides 4, 8, 16 and 32, which processors run closer to their peak than
depthwise ones, and a top-down path that adds the upsampled coarse features to the finer ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.heatmap import HEATMAP
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import BasicBlock, conv_norm_relu
from featherpose.nn.movenet import upsampled_onto
from featherpose.nn.outputs import PoseModule, Split, normalized
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["SinglePerson", "SinglePersonMaps"]

_BLOCK_PX = 4
# Widths at strides 4, 8, 16 and 32, in units of the first.
_WIDTHS = (1.0, 1.5, 2.5, 4.0)


class SinglePersonMaps(NamedTuple):
    """Outputs for a batch.

    Attributes:
        heatmaps: float[B, K, h, w].
    """

    heatmaps: Float[Tensor, "B K h w"]


class _Encoder(nn.Module):
    """Residual blocks at strides 4 to 32."""

    def __init__(self, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        before = widths[0]
        for number, width in enumerate(widths):
            level = nn.Sequential()
            if number:
                level.append(conv_norm_relu(before, width, stride=2))
            level.extend(BasicBlock(width) for _ in range(blocks))
            self.levels.append(level)
            before = width

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of each level, the finest first."""
        found = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return tuple(found)


class _TopDown(nn.Module):
    """Add upsampled coarse features to the finer ones, down to stride 4."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 1) for b, a in pairwise(widths))
        self.mix = nn.ModuleList(conv_norm_relu(width, width) for width in widths[:-1])

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Compute the features at stride 4."""
        x = levels[-1]
        for number in reversed(range(len(levels) - 1)):
            x = self.mix[number](upsampled_onto(self.reduce[number](x), levels[number]))
        return x


class SinglePerson(PoseModule):
    """Heatmaps of one person.

    Args:
        skeleton: Keypoints of the outputs; limbs are not used.
        channels: Width at stride 4; the coarser levels are 1.5, 2.5 and 4 times as wide.
        blocks: Residual blocks at each level.

    Example:
        >>> network = SinglePerson(COCO_17, channels=8, blocks=1).eval()
        >>> ((heatmaps,),) = network(torch.zeros(1, 3, 72, 48))
        >>> tuple(heatmaps.shape)
        (1, 17, 18, 12)
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("channels", "blocks")
    MARK: ClassVar[str] = "topdown.reduce.0.weight"

    method: Method = HEATMAP
    probabilities = True

    def __init__(self, skeleton: Skeleton = COCO_17, *, channels: int = 32, blocks: int = 2) -> None:
        super().__init__(skeleton, HEATMAP.outputs(skeleton))
        widths = tuple(round(channels * factor) for factor in _WIDTHS)
        self.stem = conv_norm_relu(3 * _BLOCK_PX**2, channels)
        self.encoder = _Encoder(widths, blocks)
        self.topdown = _TopDown(widths)
        self.out = nn.Conv2d(channels, skeleton.num_keypoints, 1)
        # Nearly every cell of a target is 0: starting there saves training steps.
        nn.init.normal_(self.out.weight, std=0.01)
        if self.out.bias is not None:
            nn.init.constant_(self.out.bias, -4.0)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute heatmaps of BGR images, 0..255; one stage."""
        return (SinglePersonMaps(torch.sigmoid(self.out(self.topdown(self._features(images))))),)

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute the one stage; the sigmoid in float32, in every precision of the run."""
        return self._stages(self._features(images))

    def splits(self) -> tuple[Split, ...]:
        """Split behind the encoder."""
        names = tuple(f"c{_BLOCK_PX * 2**level}" for level in range(len(_WIDTHS)))
        return (
            Split(("stem", "encoder"), names, self._features, lambda seen: self._stages(tuple(seen))),
        )  # fmt: skip

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the options of these weights: width and blocks; none if they are of another network."""
        if "stem.0.weight" not in tensors or cls.MARK not in tensors:
            return {}
        blocks = {match[1] for n in tensors if (match := re.match(r"encoder\.levels\.0\.(\d+)\.", n))}
        return {"channels": tensors["stem.0.weight"].shape[0], "blocks": len(blocks)}

    @classmethod
    def counts_of(cls, tensors: Mapping[str, Tensor]) -> tuple[int, int | None] | None:
        """Return keypoints by the width of the last layer."""
        return (tensors["out.weight"].shape[0], None) if cls.MARK in tensors else None

    def _features(self, images: Num[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        whole = images.to(self.out.weight.dtype) if not images.is_floating_point() else images
        levels: tuple[Tensor, ...] = self.encoder(self.stem(F.pixel_unshuffle(normalized(whole), _BLOCK_PX)))
        return levels

    def _stages(self, levels: tuple[Tensor, ...]) -> tuple[SinglePersonMaps, ...]:
        logits: Tensor = self.out(self.topdown(levels))
        # Near 0 and 1, shorter formats are too coarse for a cross-entropy.
        with torch.autocast(logits.device.type, enabled=False):
            return (SinglePersonMaps(torch.sigmoid(logits.float())),)
