"""OpenVINO's human-pose-estimation-0001: Lightweight OpenPose as it was released for inference.

The same network with batch norms folded, one 1x1 convolution (128 channels, ELU) more behind the alignment, ELU
there too, and the refinement stage's input in another order: fields, heatmaps, features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Num
from torch import Tensor, nn

from featherpose.nn.backbones.mobilenet_v1 import mobilenet_v1
from featherpose.nn.blocks import conv_block, elu_separable_block
from featherpose.nn.lightweight import InitialStage, RefinementStage
from featherpose.nn.outputs import StageMaps, normalised
from featherpose.skeleton import OPENPOSE_18, Skeleton

__all__ = ["HumanPoseEstimation0001", "rename_released"]

_FEATURES = 128


class _ReleasedCpm(nn.Module):
    def __init__(self, channels: int, out: int = _FEATURES) -> None:
        super().__init__()
        self.align = nn.Sequential(nn.Conv2d(channels, out, 1), nn.ELU())
        self.mix = nn.Sequential(nn.Conv2d(out, out, 1), nn.ELU())
        self.trunk = nn.Sequential(*(elu_separable_block(out, bias=True) for _ in range(3)))
        self.conv = conv_block(out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.align(x)
        result: Tensor = self.conv(x + self.trunk(self.mix(x)))
        return result


class HumanPoseEstimation0001(nn.Module):
    """The released network.

    Args:
        skeleton: Keypoints and limbs of the outputs.
        refinements: Refinement stages, 0 or more; the released network has one.

    Example:
        >>> network = HumanPoseEstimation0001().eval()
        >>> [tuple(maps.heatmaps.shape) for maps in network(torch.zeros(1, 3, 64, 96))]
        [(1, 19, 8, 12), (1, 19, 8, 12)]
    """

    heatmap_stride = 8
    paf_stride = 8
    size_multiple = 8

    def __init__(self, skeleton: Skeleton = OPENPOSE_18, *, refinements: int = 1) -> None:
        super().__init__()
        self.skeleton = skeleton
        heatmaps, pafs = skeleton.num_keypoints + 1, 2 * skeleton.num_limbs
        self.model = mobilenet_v1(norm=False)
        self.cpm = _ReleasedCpm(512)
        self.initial_stage = InitialStage(heatmaps, pafs)
        self.refinement_stages = nn.ModuleList(RefinementStage(heatmaps, pafs, norm=False) for _ in range(refinements))

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Rows of the slides' table."""
        stages = {f"refinement stage {n + 1}": (f"refinement_stages.{n}",) for n in range(len(self.refinement_stages))}
        return {
            "backbone": ("model",),
            "conv4_3": ("cpm.align", "cpm.mix", "cpm.trunk"),
            "conv4_4": ("cpm.conv",),
            "initial stage": ("initial_stage",),
            **stages,
        }

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """Maps of the initial and of every refinement stage."""
        features = self.cpm(self.model(normalised(images)))
        maps: StageMaps = self.initial_stage(features)
        stages = [maps]
        for stage in self.refinement_stages:
            maps = stage(torch.cat((maps.pafs, maps.heatmaps, features), 1))
            stages.append(maps)
        return tuple(stages)


def rename_released(name: str) -> str:
    """Our name of a tensor of the unpacked release, whose layers are flat lists; other names stay as they are.

    Example:
        >>> rename_released("backbone.3.1.bias"), rename_released("refine.4.2.weight")
        ('model.4.2.bias', 'refinement_stages.0.trunk.4.trunk.1.0.weight')
    """
    refine = "refinement_stages.0"
    match name.split("."):
        case ["stem", kind]:
            return f"model.0.0.{kind}"
        case ["backbone", block, half, kind]:
            return f"model.{int(block) + 1}.{2 * int(half)}.{kind}"
        case ["cpm", "0", kind]:
            return f"cpm.align.0.{kind}"
        case ["cpm", "1", kind]:
            return f"cpm.mix.0.{kind}"
        case ["cpm", layer, kind] if layer.isdecimal():
            number = int(layer) - 2
            return f"cpm.trunk.{number // 2}.{2 * (number % 2)}.{kind}"
        case ["cpm_out", kind]:
            return f"cpm.conv.0.{kind}"
        case ["initial", layer, kind]:
            return f"initial_stage.trunk.{layer}.0.{kind}"
        case ["initial_heatmaps" | "initial_pafs" as branch, layer, kind]:
            return f"initial_stage.{branch.removeprefix('initial_')}.{layer}.0.{kind}"
        case ["refine", block, "0", kind]:
            return f"{refine}.trunk.{block}.initial.0.{kind}"
        case ["refine", block, layer, kind]:
            return f"{refine}.trunk.{block}.trunk.{int(layer) - 1}.0.{kind}"
        case ["refine_heatmaps" | "refine_pafs" as branch, layer, kind]:
            return f"{refine}.{branch.removeprefix('refine_')}.{layer}.0.{kind}"
    return name
