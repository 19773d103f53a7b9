"""The released network, and which of its convolutions each layer of `FineOpenPose` stands for."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from featherpose.errors import ModelError
from featherpose.nn.checkpoints import load_tensors, read_checkpoint
from featherpose.nn.human_pose_estimation_0001 import HumanPoseEstimation0001

__all__ = ["conv_at", "read_released", "released_name"]

_REFINEMENT = "refinement_stages.0"


def read_released(path: Path) -> HumanPoseEstimation0001:
    """Read the released weights, unpacked as safetensors, ready for inference."""
    network = HumanPoseEstimation0001()
    load_tensors(network, read_checkpoint(path))
    return network.eval()


def released_name(name: str) -> str:
    """Return the name of the released convolution that a convolution of `FineOpenPose` stands for.

    Args:
        name: Of a convolution, or of a convolution with its batch norm: ``neck.blocks.0.pointwise``, ``heads.pafs``.
    """
    match name.split("."):
        case ["stem"]:
            return "model.0.0"
        case ["backbone", block, half]:
            return f"model.{int(block) + 1}.{_half(half)}"
        case ["neck", "blocks", block, half]:
            return f"cpm.trunk.{block}.{_half(half)}"
        case ["neck", layer]:
            return f"cpm.{'conv' if layer == 'join' else layer}.0"
        case ["initial", layer]:
            return f"initial_stage.trunk.{layer}.0"
        case ["refinement", block, "reduce"]:
            return f"{_REFINEMENT}.trunk.{block}.initial.0"
        case ["refinement", block, layer]:
            return f"{_REFINEMENT}.trunk.{block}.trunk.{('first', 'second').index(layer)}.0"
        case ["initial_heads" | "heads" as stage, branch]:
            output = branch.removesuffix("_hidden")
            place = 0 if branch.endswith("_hidden") else 1
            return f"{'initial_stage' if stage == 'initial_heads' else _REFINEMENT}.{output}.{place}.0"
    raise ModelError(f"{name} is no convolution of FineOpenPose")


def conv_at(network: nn.Module, name: str) -> nn.Conv2d:
    """Return a network's convolution of that name.

    Raises:
        ModelError: If there is none, as in a refinement stage of fewer blocks.
    """
    try:
        module = network.get_submodule(name)
    except AttributeError as error:
        raise ModelError(f"{type(network).__name__} has no layer {name}") from error
    if not isinstance(module, nn.Conv2d):
        raise ModelError(f"{name} is no convolution")
    return module


def _half(name: str) -> int:
    """Return where half a separable block stands among the layers of the released one."""
    return {"depthwise": 0, "pointwise": 2}[name]
