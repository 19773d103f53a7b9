"""A refiner of few, large layers: dense 3x3 convolutions with most of their work at strides 8 and 16.

`featherpose.nn.crop_network` states the convention of its input and output.

Processors with an 8-bit dot product finish a small layer before its weights and code have arrived from the caches. The
high-resolution network of `featherpose.nn.refiner` has 464 layers of a few microseconds; this one has about thirty. No
block runs at stride 4: each cell of stride 8 holds the heatmaps of its four cells of stride 4 (Shi et al. 2016,
"Real-Time Single Image and Video Super-Resolution", section 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.crops import PRIOR_STRIDE, CropShape
from featherpose.errors import OptionError
from featherpose.nn.crop_network import CropNetwork
from featherpose.nn.layers.residual import BasicBlock, conv_norm, conv_norm_relu
from featherpose.nn.outputs import Split, normalized
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["DenseRefiner", "split_prior"]

_WIDTHS = (24, 48, 96, 112, 128)
_DEPTHS = (3, 3, 2, 2)
_MOST_CHANNELS = 1024
_MOST_BLOCKS = 16


class DenseRefiner(CropNetwork):
    """Heatmaps of the person in a crop, for the least time.

    Args:
        skeleton: Keypoints of the outputs; limbs are not used.
        widths: Channels at strides 2, 4, 8, 16 and 32.
        depths: Residual blocks at strides 8, 16 and 32, and at stride 8 behind the sum of all.
        prior: Whether the input also carries the pose that another network found, see `featherpose.crop_prior`.
        crop_shape: Width, height and margin of the crops, if they are others than 128, 192 and 1.

    Raises:
        OptionError: If there are not five widths and four depths, or a crop is impossible.

    Example:
        >>> import torch
        >>> ((heatmaps,),) = DenseRefiner().eval()(torch.zeros(1, 3, 192, 128))
        >>> tuple(heatmaps.shape)
        (1, 17, 48, 32)
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("widths", "depths", "prior", "crop_shape")
    START: ClassVar[str] = "refiner-dense"
    FROM_WEIGHTS: ClassVar[tuple[str, ...]] = ("prior",)
    MARK: ClassVar[str] = "stride8.0.0.weight"

    side_by_side = False
    crop: CropShape | None = CropShape(width=128, height=192, margin=1.0)

    def __init__(self, skeleton: Skeleton = COCO_17, *, widths: Sequence[int] = _WIDTHS,
                 depths: Sequence[int] = _DEPTHS, prior: bool = False,
                 crop_shape: Sequence[float] | None = None) -> None:  # fmt: skip
        if len(widths) != len(_WIDTHS) or not all(1 <= n <= _MOST_CHANNELS for n in widths):
            raise OptionError(f"widths {list(widths)}", expected=f"five numbers from 1 to {_MOST_CHANNELS}")
        if len(depths) != len(_DEPTHS) or not all(0 <= n <= _MOST_BLOCKS for n in depths):
            raise OptionError(f"depths {list(depths)}", expected=f"four numbers from 0 to {_MOST_BLOCKS}")
        super().__init__(skeleton, crop_shape)
        half, quarter, eighth, sixteenth, coarse = widths
        self.stem = nn.Sequential(conv_norm_relu(3, half, stride=2), conv_norm_relu(half, quarter, stride=2))
        self.stride8 = _stage(quarter, eighth, depths[0])
        self.stride16 = _stage(eighth, sixteenth, depths[1])
        self.stride32 = _stage(sixteenth, coarse, depths[2])
        self.up16 = conv_norm(coarse, sixteenth, 1)
        self.up8 = conv_norm(sixteenth, eighth, 1)
        self.mix = nn.Sequential(*(BasicBlock(eighth) for _ in range(depths[3])))
        self.heatmaps = nn.Conv2d(eighth, 4 * skeleton.num_keypoints, 1)
        self.prior = nn.Conv2d(skeleton.num_keypoints, eighth, 3, padding=1, bias=False) if prior else None
        if self.prior is not None:
            assert self.crop is not None
            self.crop = replace(self.crop, prior=skeleton.num_keypoints)
            nn.init.zeros_(self.prior.weight)  # weights of a network without it can be trained on
        # Nearly every cell of a target is 0: starting there saves training steps.
        nn.init.normal_(self.heatmaps.weight, std=0.01)
        if self.heatmaps.bias is not None:
            nn.init.zeros_(self.heatmaps.bias)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute heatmaps of BGR crops, 0..255; one stage."""
        return self._stages(self._features(images.to(self.heatmaps.weight.dtype)))

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute the one stage."""
        return self._stages(self._features(images))

    def splits(self) -> tuple[Split, ...]:
        """Split behind stride 32; features that depend on another network's pose are not computed beforehand."""
        parts = ("stem", "stride8", "stride16", "stride32")
        return () if self.prior is not None else (Split(parts, parts[1:], self._features, self._stages),)

    @classmethod
    def counts_of(cls, tensors: Mapping[str, Tensor]) -> tuple[int, int | None] | None:
        """Return keypoints by the width of the last layer."""
        last = tensors.get("heatmaps.weight")
        return (len(last) // 4, None) if last is not None and cls.MARK in tensors else None

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the options of these weights; none if they are of another network."""
        if cls.MARK not in tensors:
            return {}

        def depth(part: str) -> int:
            return len({match[1] for name in tensors if (match := re.match(rf"{part}\.(\d+)\.first\.0\.", name))})

        stages = ("stride8", "stride16", "stride32")
        first = (*(f"stem.{k}" for k in range(2)), *(f"{stage}.0" for stage in stages))
        return {
            "widths": tuple(len(tensors[f"{layer}.0.weight"]) for layer in first),
            "depths": tuple(depth(part) for part in (*stages, "mix")),
            "prior": "prior.weight" in tensors,
            "crop_shape": cls.crop_shape_of(tensors),
        }

    def _features(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        if self.prior is None or images.shape[2] % self.size_multiple == 0:  # a crop without rows under it
            eighth = self.stride8(self.stem(normalized(images)))
        else:
            crops, maps = split_prior(images, self.skeleton.num_keypoints)
            first, *blocks = self.stride8
            eighth = first(self.stem(normalized(crops))) + self.prior(maps)
            for block in blocks:
                eighth = block(eighth)
        sixteenth = self.stride16(eighth)
        return eighth, sixteenth, self.stride32(sixteenth)

    def _stages(self, seen: Sequence[Tensor]) -> tuple[SinglePersonMaps, ...]:
        eighth, sixteenth, coarse = seen
        sixteenth = F.relu(sixteenth + F.interpolate(self.up16(coarse), size=sixteenth.shape[2:]))
        eighth = F.relu(eighth + F.interpolate(self.up8(sixteenth), size=eighth.shape[2:]))
        return (SinglePersonMaps(F.pixel_shuffle(self.heatmaps(self.mix(eighth)), 2)),)


def split_prior(images: Float[Tensor, "B 3 R W"], count: int) -> tuple[Tensor, Tensor]:
    """Split inputs into crops and the maps of the pose under them.

    Args:
        images: Crops with the rows of `featherpose.crops.CropShape.rows`, 0..255.
        count: Keypoints.

    Returns:
        float[B, 3, H, W], and float[B, count, H / 8, W / 8] in 0..1.
    """
    batch, _, rows, width = images.shape
    cells = 3 * PRIOR_STRIDE * PRIOR_STRIDE
    height = rows * cells // (cells + count) // PRIOR_STRIDE * PRIOR_STRIDE
    sizes = (batch, count, height // PRIOR_STRIDE, width // PRIOR_STRIDE)
    maps = images[:, :, height:].reshape(batch, -1)[:, : sizes[1] * sizes[2] * sizes[3]]
    return images[:, :, :height], maps.reshape(sizes) * (1 / 255)


def _stage(channels: int, out: int, blocks: int) -> nn.Sequential:
    """Halve the resolution, then residual blocks."""
    return nn.Sequential(conv_norm_relu(channels, out, stride=2), *(BasicBlock(out) for _ in range(blocks)))
