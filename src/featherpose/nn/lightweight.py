"""Lightweight OpenPose (Osokin 2018): MobileNet v1 or v2, one-branch stages of 1x1 and 3x3 convolutions.

Module names and the order of layers are those of the published checkpoint, which therefore loads unchanged:
``model`` (backbone), ``cpm``, ``initial_stage``, ``refinement_stages``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from featherpose.methods.method import Method
from featherpose.methods.paf.method import PAF, with_background
from featherpose.nn.layers.blocks import conv_block, conv_norm_block, elu_separable_block, plain_conv
from featherpose.nn.outputs import PoseModule, Split, StageMaps, normalized
from featherpose.skeleton import Skeleton

__all__ = ["Cpm", "InitialStage", "LightweightOpenPose", "RefinementStage", "count_maps", "count_refinements"]

_FEATURES = 128


class Cpm(nn.Module):
    """From the backbone to the stages' features: 1x1, three separable residual blocks, 3x3 (conv4_3 and conv4_4)."""

    def __init__(self, channels: int, out: int = _FEATURES) -> None:
        super().__init__()
        self.align = conv_block(channels, out, 1)
        self.trunk = nn.Sequential(*(elu_separable_block(out) for _ in range(3)))
        self.conv = conv_block(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features of the stages."""
        # The first ELU of the trunk works in place on a convolution's result, never on the aligned features.
        x = self.align(x)
        result: Tensor = self.conv(x + self.trunk(x))
        return result


class _Branches(nn.Module):
    """A trunk, then one branch of two 1x1 convolutions for heatmaps and one for fields."""

    trunk: nn.Sequential

    def __init__(self, channels: int, hidden: int, heatmaps: int, pafs: int) -> None:
        super().__init__()
        self.heatmaps = nn.Sequential(conv_block(channels, hidden, 1), plain_conv(hidden, heatmaps, 1))
        self.pafs = nn.Sequential(conv_block(channels, hidden, 1), plain_conv(hidden, pafs, 1))

    def forward(self, x: Tensor) -> StageMaps:
        """Compute the maps of the stage."""
        x = self.trunk(x)
        return StageMaps(self.heatmaps(x), self.pafs(x))


class InitialStage(_Branches):
    """Three 3x3 convolutions, then the branches (Osokin 2018, figure 3)."""

    def __init__(self, heatmaps: int, pafs: int, channels: int = _FEATURES) -> None:
        super().__init__(channels, 512, heatmaps, pafs)
        self.trunk = nn.Sequential(*(conv_block(channels, channels) for _ in range(3)))


class _RefinementBlock(nn.Module):
    """1x1, then 3x3 and dilated 3x3 with a residual: the view of a 7x7 convolution (Osokin 2018, figure 4)."""

    def __init__(self, channels: int, out: int, *, norm: bool) -> None:
        super().__init__()
        self.initial = conv_block(channels, out, 1)
        self.trunk = nn.Sequential(
            conv_norm_block(out, out, norm=norm), conv_norm_block(out, out, dilation=2, norm=norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.initial(x)
        refined: Tensor = x + self.trunk(x)
        return refined


class RefinementStage(_Branches):
    """Five refinement blocks, then the branches.

    Args:
        heatmaps: Heatmap channels.
        pafs: Field channels.
        channels: Width of the features.
        norm: False if batch norms are folded into the convolutions.
    """

    def __init__(self, heatmaps: int, pafs: int, channels: int = _FEATURES, *, norm: bool = True) -> None:
        super().__init__(channels, channels, heatmaps, pafs)
        inputs = (channels + heatmaps + pafs, *(channels,) * 4)
        self.trunk = nn.Sequential(*(_RefinementBlock(width, channels, norm=norm) for width in inputs))


class LightweightOpenPose(PoseModule):
    """A backbone of stride 8 behind lightweight stages.

    Args:
        skeleton: Keypoints and limbs of the outputs.
        backbone: Features of stride 8 from normalized images.
        channels: Channels of the backbone's features.
        refinements: Refinement stages, 0 or more; the published network has one.
        cpm: The layers between backbone and stages; the published ones unless given.
        norm: False if batch norms are folded into the convolutions.

    Example:
        >>> from featherpose.nn.backbones.mobilenet_v1 import mobilenet_v1
        >>> from featherpose.skeleton import OPENPOSE_18
        >>> network = LightweightOpenPose(OPENPOSE_18, mobilenet_v1(), 512).eval()
        >>> [tuple(maps.pafs.shape) for maps in network(torch.zeros(1, 3, 64, 96))]
        [(1, 38, 8, 12), (1, 38, 8, 12)]
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("refinements",)

    method: Method = PAF

    def __init__(
        self,
        skeleton: Skeleton,
        backbone: nn.Sequential,
        channels: int,
        *,
        refinements: int = 1,
        cpm: nn.Module | None = None,
        norm: bool = True,
    ) -> None:
        super().__init__(skeleton, with_background(PAF.outputs(skeleton)))
        heatmaps, pafs = skeleton.num_keypoints + 1, 2 * skeleton.num_limbs
        self.model = backbone
        self.cpm = cpm or Cpm(channels)
        self.initial_stage = InitialStage(heatmaps, pafs)
        self.refinement_stages = nn.ModuleList(RefinementStage(heatmaps, pafs, norm=norm) for _ in range(refinements))

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Name the parts as the rows of the slides' table."""
        stages = {f"refinement stage {n + 1}": (f"refinement_stages.{n}",) for n in range(len(self.refinement_stages))}
        return {
            "backbone": ("model",),
            "conv4_3": tuple(f"cpm.{name}" for name, _ in self.cpm.named_children() if name != "conv"),
            "conv4_4": ("cpm.conv",),
            "initial stage": ("initial_stage",),
            **stages,
        }

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """Compute the maps of the initial and of every refinement stage."""
        return self.stages(self.cpm(self.backbone(images)))

    def backbone(self, images: Num[Tensor, "B 3 H W"]) -> Tensor:
        """Compute the backbone's features, which ``cpm`` reads."""
        features: Tensor = self.model(self._normalized(images))
        return features

    def stages(self, features: Tensor) -> tuple[StageMaps, ...]:
        """Compute the maps of every stage from the features of ``cpm``."""
        maps: StageMaps = self.initial_stage(features)
        stages = [maps]
        for stage in self.refinement_stages:
            maps = stage(torch.cat(self._joined(features, maps), 1))
            stages.append(maps)
        return tuple(stages)

    def splits(self) -> tuple[Split, ...]:
        """Split behind ``cpm``, or behind the backbone."""
        return (
            Split(
                ("model", "cpm"), ("cpm",), lambda x: (self.cpm(self.backbone(x)),), lambda seen: self.stages(seen[0])
            ),
            Split(
                ("model",), ("backbone",), lambda x: (self.backbone(x),), lambda seen: self.stages(self.cpm(seen[0]))
            ),
        )

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the options of these weights: the number of refinement stages."""
        return {"refinements": count_refinements(tensors)}

    @classmethod
    def counts_of(cls, tensors: Mapping[str, Tensor]) -> tuple[int, int | None] | None:
        """Return keypoints and limbs by the widths of the last layers."""
        return count_maps(tensors, last_layer=1)

    def _normalized(self, images: Num[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        return normalized(images)

    def _joined(self, features: Tensor, maps: StageMaps) -> tuple[Tensor, Tensor, Tensor]:
        """List the inputs of a refinement stage in the order of the checkpoint's channels."""
        return features, maps.heatmaps, maps.pafs


def count_refinements(tensors: Mapping[str, Tensor]) -> int:
    """Count the refinement stages among a network's tensors.

    Example:
        >>> count_refinements({"refinement_stages.0.a": torch.zeros(1), "refinement_stages.1.a": torch.zeros(1)})
        2
    """
    stages = (re.match(r"refinement_stages\.(\d+)\.", name) for name in tensors)
    return len({match[1] for match in stages if match})


def count_maps(tensors: Mapping[str, Tensor], *, last_layer: int) -> tuple[int, int] | None:
    """Count keypoints (the background is none) and limbs by the last layers of the initial stage; None without them.

    Example:
        >>> shapes = {"heatmaps": (19, 8, 1, 1), "pafs": (38, 8, 1, 1)}
        >>> layers = {f"initial_stage.{name}.1.0.weight": torch.zeros(shape) for name, shape in shapes.items()}
        >>> count_maps(layers, last_layer=1)
        (18, 19)
    """
    heatmaps, pafs = (tensors.get(f"initial_stage.{name}.{last_layer}.0.weight") for name in ("heatmaps", "pafs"))
    if heatmaps is None or pafs is None:
        return None
    return heatmaps.shape[0] - 1, pafs.shape[0] // 2
