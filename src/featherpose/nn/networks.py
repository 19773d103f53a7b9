"""Every network by name.

``lightweight-openpose`` is the published architecture and ``human-pose-estimation-0001`` its released variant;
``openpose`` is where the slides start. ``openpose-mobilenet-...`` put a lighter backbone under OpenPose's own heavy
layers (the slides' backbone table, one refinement stage), ``lightweight-mobilenet-...`` under the lightweight stages.
``feather`` is the network of our own.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from torch import nn

from featherpose.errors import OptionError
from featherpose.nn.backbones import mobilenet_v2, vgg
from featherpose.nn.backbones.mobilenet_v1 import MobileNetV1Cut, mobilenet_v1, mobilenet_v1_channels
from featherpose.nn.feather import Feather
from featherpose.nn.lightweight import LightweightOpenPose
from featherpose.nn.openpose import OpenPose
from featherpose.nn.outputs import PoseNetwork
from featherpose.nn.released import HumanPoseEstimation0001
from featherpose.skeleton import OPENPOSE_18, Skeleton

__all__ = ["NETWORK_NAMES", "NetworkName", "as_module", "create_network"]

NetworkName = Literal[
    "lightweight-openpose",
    "human-pose-estimation-0001",
    "openpose",
    "openpose-mobilenet-v1-conv4_1",
    "openpose-mobilenet-v1-conv5_5",
    "openpose-mobilenet-v1-conv5_6",
    "openpose-mobilenet-v2-conv6_3",
    "lightweight-mobilenet-v1-conv4_1",
    "lightweight-mobilenet-v1-conv5_6",
    "lightweight-mobilenet-v2-conv6_3",
    "feather",
]
NETWORK_NAMES: tuple[str, ...] = get_args(NetworkName)

_MAX_REFINEMENTS = 16


def create_network(name: str, skeleton: Skeleton = OPENPOSE_18, *, refinements: int | None = None) -> PoseNetwork:
    """Build a network with fresh weights.

    Args:
        name: One of `NETWORK_NAMES`.
        skeleton: Keypoints and limbs of the outputs.
        refinements: Refinement stages; the published number unless given (5 for ``openpose``, else 1).

    Raises:
        OptionError: If there is no such network, or it cannot have so many refinement stages.

    Example:
        >>> create_network("lightweight-openpose", refinements=3).parts["refinement stage 3"]
        ('refinement_stages.2',)
    """
    if refinements is not None and not 0 <= refinements <= _MAX_REFINEMENTS:
        raise OptionError(f"{refinements} refinement stages", expected=f"0 to {_MAX_REFINEMENTS}")
    stages = 1 if refinements is None else refinements
    match name:
        case "lightweight-openpose":
            return LightweightOpenPose(skeleton, mobilenet_v1(), 512, refinements=stages)
        case "human-pose-estimation-0001":
            return HumanPoseEstimation0001(skeleton, refinements=stages)
        case "openpose":
            return OpenPose(skeleton, vgg.vgg19(), vgg.CHANNELS, refinements=5 if refinements is None else refinements)
        case "openpose-mobilenet-v2-conv6_3":
            return OpenPose(skeleton, mobilenet_v2.mobilenet_v2(), mobilenet_v2.CHANNELS, refinements=stages)
        case "lightweight-mobilenet-v2-conv6_3":
            return LightweightOpenPose(skeleton, mobilenet_v2.mobilenet_v2(), mobilenet_v2.CHANNELS, refinements=stages)
        case "openpose-mobilenet-v1-conv4_1" | "openpose-mobilenet-v1-conv5_5" | "openpose-mobilenet-v1-conv5_6":
            cut = _cut(name)
            return OpenPose(skeleton, mobilenet_v1(cut), mobilenet_v1_channels(cut), refinements=stages)
        case "lightweight-mobilenet-v1-conv4_1" | "lightweight-mobilenet-v1-conv5_6":
            cut = _cut(name)
            return LightweightOpenPose(skeleton, mobilenet_v1(cut), mobilenet_v1_channels(cut), refinements=stages)
        case "feather":
            if refinements:
                raise OptionError(f"{refinements} refinement stages for feather", expected="0, it has none")
            return Feather(skeleton)
    raise OptionError(f"there is no network {name!r}", expected=f"one of {', '.join(NETWORK_NAMES)}")


def as_module(network: PoseNetwork) -> nn.Module:
    """The same network as PyTorch knows it: parameters, modes, devices."""
    return cast(nn.Module, network)


def _cut(name: str) -> MobileNetV1Cut:
    return cast(MobileNetV1Cut, name.rpartition("-")[2])
