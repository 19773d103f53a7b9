"""OpenVINO's human-pose-estimation-0001: Lightweight OpenPose as it was released for inference.

The same network with batch norms folded, one 1x1 convolution (128 channels, ELU) more behind the alignment, ELU
there too, the refinement stage's input in another order (fields, heatmaps, features), and images divided by 255, not
256, as the released graph's first layers do.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float, Num
from torch import Tensor, nn

from featherpose.nn.backbones.mobilenet_v1 import mobilenet_v1
from featherpose.nn.layers.blocks import conv_block, elu_separable_block
from featherpose.nn.lightweight import LightweightOpenPose
from featherpose.nn.outputs import StageMaps
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


class HumanPoseEstimation0001(LightweightOpenPose):
    """The released network.

    Args:
        skeleton: Keypoints and limbs of the outputs.
        refinements: Refinement stages, 0 or more; the released network has one.

    Example:
        >>> import torch
        >>> network = HumanPoseEstimation0001().eval()
        >>> [tuple(maps.heatmaps.shape) for maps in network(torch.zeros(1, 3, 64, 96))]
        [(1, 19, 8, 12), (1, 19, 8, 12)]
    """

    START: ClassVar[str] = "accurate"
    MARK: ClassVar[str] = "cpm.mix.0.weight"

    def __init__(self, skeleton: Skeleton = OPENPOSE_18, *, refinements: int = 1) -> None:
        backbone = mobilenet_v1(norm=False)
        super().__init__(skeleton, backbone, 512, refinements=refinements, cpm=_ReleasedCpm(512), norm=False)

    def _normalized(self, images: Num[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        return (images - 128.0) * (1.0 / 255.0)

    def _joined(self, features: Tensor, maps: StageMaps) -> tuple[Tensor, Tensor, Tensor]:
        return maps.pafs, maps.heatmaps, features


def rename_released(name: str) -> str:
    """Return our name of a tensor of the unpacked release, whose layers are flat lists; other names stay as they are.

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
