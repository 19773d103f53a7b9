"""OpenPose (Cao et al. 2017): VGG-19 or a lighter backbone, heavy stages of 7x7 convolutions in two separate branches.

The baseline of the slides. Each stage predicts heatmaps and part affinity fields in two branches that
share nothing but their input (section 3.1, figure 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Num
from torch import Tensor, nn

from featherpose.methods.method import Method
from featherpose.methods.paf.method import PAF, with_background
from featherpose.nn.layers.blocks import conv_block, plain_conv
from featherpose.nn.lightweight import count_maps, count_refinements
from featherpose.nn.outputs import PoseModule, Split, StageMaps, normalized
from featherpose.skeleton import Skeleton

__all__ = ["OpenPose"]

_FEATURES = 128


class _TwoBranchStage(nn.Module):
    def __init__(self, heatmaps: nn.Sequential, pafs: nn.Sequential) -> None:
        super().__init__()
        self.heatmaps = heatmaps
        self.pafs = pafs

    def forward(self, x: Tensor) -> StageMaps:
        return StageMaps(self.heatmaps(x), self.pafs(x))


def _initial_branch(out: int) -> nn.Sequential:
    """Build three 3x3, a wide 1x1, and the layer of the maps."""
    trunk = [conv_block(_FEATURES, _FEATURES) for _ in range(3)]
    return nn.Sequential(*trunk, conv_block(_FEATURES, 512, 1), plain_conv(512, out, 1))


def _refinement_branch(channels: int, out: int) -> nn.Sequential:
    """Build five 7x7, a 1x1, and the layer of the maps."""
    trunk = [conv_block(width, _FEATURES, 7) for width in (channels, *(_FEATURES,) * 4)]
    return nn.Sequential(*trunk, conv_block(_FEATURES, _FEATURES, 1), plain_conv(_FEATURES, out, 1))


class OpenPose(PoseModule):
    """A backbone of stride 8 behind OpenPose's own layers.

    Args:
        skeleton: Keypoints and limbs of the outputs.
        backbone: Features of stride 8 from normalized images.
        channels: Channels of the backbone's features.
        refinements: Refinement stages; the paper has five.

    Example:
        >>> from featherpose.nn.backbones.vgg import CHANNELS, vgg19
        >>> from featherpose.skeleton import OPENPOSE_18
        >>> network = OpenPose(OPENPOSE_18, vgg19(), CHANNELS, refinements=1).eval()
        >>> [tuple(maps.heatmaps.shape) for maps in network(torch.zeros(1, 3, 32, 48))]
        [(1, 19, 4, 6), (1, 19, 4, 6)]
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("refinements",)

    method: Method = PAF

    def __init__(self, skeleton: Skeleton, backbone: nn.Sequential, channels: int, *, refinements: int = 5) -> None:
        super().__init__(skeleton, with_background(PAF.outputs(skeleton)))
        heatmaps, pafs = skeleton.num_keypoints + 1, 2 * skeleton.num_limbs
        self.backbone = backbone
        self.conv4_3 = conv_block(channels, 256)
        self.conv4_4 = conv_block(256, _FEATURES)
        self.initial_stage = _TwoBranchStage(_initial_branch(heatmaps), _initial_branch(pafs))
        inputs = _FEATURES + heatmaps + pafs
        self.refinement_stages = nn.ModuleList(
            _TwoBranchStage(_refinement_branch(inputs, heatmaps), _refinement_branch(inputs, pafs))
            for _ in range(refinements)
        )

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Name the parts as the rows of the slides' table."""
        stages = {f"refinement stage {n + 1}": (f"refinement_stages.{n}",) for n in range(len(self.refinement_stages))}
        return {
            "backbone": ("backbone",),
            "conv4_3": ("conv4_3",),
            "conv4_4": ("conv4_4",),
            "initial stage": ("initial_stage",),
            **stages,
        }

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """Compute the maps of the initial and of every refinement stage."""
        return self.stages(self.conv4_4(self.conv4_3(self.backbone(normalized(images)))))

    def stages(self, features: Tensor) -> tuple[StageMaps, ...]:
        """Compute the maps of every stage from the features of ``conv4_4``."""
        maps: StageMaps = self.initial_stage(features)
        stages = [maps]
        for stage in self.refinement_stages:
            maps = stage(torch.cat((features, maps.heatmaps, maps.pafs), 1))
            stages.append(maps)
        return tuple(stages)

    def splits(self) -> tuple[Split, ...]:
        """Split behind ``conv4_4``, or behind the backbone."""
        return (
            Split(("backbone", "conv4_3", "conv4_4"), ("conv4_4",),
                  lambda x: (self.conv4_4(self.conv4_3(self.backbone(normalized(x)))),),
                  lambda seen: self.stages(seen[0])),
            Split(("backbone",), ("backbone",), lambda x: (self.backbone(normalized(x)),),
                  lambda seen: self.stages(self.conv4_4(self.conv4_3(seen[0])))),
        )  # fmt: skip

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Count the refinement stages of these weights."""
        return {"refinements": count_refinements(tensors)}

    @classmethod
    def counts_of(cls, tensors: Mapping[str, Tensor]) -> tuple[int, int | None] | None:
        """Return keypoints and limbs by the widths of the last layers."""
        return count_maps(tensors, last_layer=4)
