"""Every network by name.

``lightweight-openpose`` is the published architecture and ``human-pose-estimation-0001`` its released variant;
``openpose`` is the baseline of the slides. ``openpose-mobilenet-...`` combine a lighter backbone with OpenPose's own
heavy layers (the slides' backbone table, one refinement stage), ``lightweight-mobilenet-...`` with lightweight stages.
``feather`` is the project's own network; ``refiner`` looks at its people again, one crop each, and ``refiner-dense``
does so in less time. ``single-person`` finds one person with one heatmap a keypoint.

The slides' other systems have two forms: ``hourglass`` has the size of its paper, ``hourglass-light`` is the same
method on a pose-trained trunk, small enough to train on a CPU.

A new network is one module with a class of `featherpose.nn.outputs.PoseModule`, and one line in `NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, cast

from torch import nn

from featherpose.errors import OptionError
from featherpose.nn.backbones import mobilenet_v2, vgg
from featherpose.nn.backbones.mobilenet_v1 import MobileNetV1Cut, mobilenet_v1, mobilenet_v1_channels
from featherpose.nn.dense_refiner import DenseRefiner
from featherpose.nn.feather import Feather
from featherpose.nn.human_pose_estimation_0001 import HumanPoseEstimation0001
from featherpose.nn.lightweight import LightweightOpenPose
from featherpose.nn.openpose import OpenPose
from featherpose.nn.outputs import PoseModule, PoseNetwork
from featherpose.nn.published.associative_embedding import AssociativeEmbedding
from featherpose.nn.published.cfn import CoarseFine
from featherpose.nn.published.cpn import CascadedPyramid
from featherpose.nn.published.deeppose import DeepPose
from featherpose.nn.published.g_rmi import GRmi
from featherpose.nn.published.hourglass import StackedHourglass
from featherpose.nn.published.mask_rcnn import MaskRcnn
from featherpose.nn.published.multiposenet import MultiPoseNet
from featherpose.nn.published.rmpe import Rmpe
from featherpose.nn.refiner import Refiner
from featherpose.nn.single_person import SinglePerson
from featherpose.nn.trunk.cfn import LightCoarseFine
from featherpose.nn.trunk.cpn import LightCascade, LightCascadeWithoutMining
from featherpose.nn.trunk.deeppose import LightDeepPose
from featherpose.nn.trunk.detector import LightPersonDetector
from featherpose.nn.trunk.disks import LightGRmi
from featherpose.nn.trunk.fields import LightFields
from featherpose.nn.trunk.light_hourglass import LightHourglass
from featherpose.nn.trunk.mask_rcnn import LightMaskRcnn
from featherpose.nn.trunk.multiposenet import LightMultiPoseNet
from featherpose.nn.trunk.rmpe import LightRmpe
from featherpose.nn.trunk.tags import LightAssociativeEmbedding
from featherpose.skeleton import OPENPOSE_18, Skeleton

__all__ = ["COUNTED", "NETWORKS", "NETWORK_NAMES", "NetworkFactory", "as_module", "create_network", "network_factory"]

_MAX_REFINEMENTS = 16


@dataclass(frozen=True, slots=True)
class NetworkFactory:
    """One entry of `NETWORKS`.

    Attributes:
        name: As configurations and commands write it.
        kind: The class.
        backbone: Makes the backbone and states its channels, for classes that take one behind the skeleton.
        defaults: Options in which this network differs from its class.
    """

    name: str
    kind: type[PoseModule]
    backbone: Callable[[], tuple[nn.Module, int]] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def create(self, skeleton: Skeleton, **options: Any) -> PoseNetwork:
        """Build the network with fresh weights.

        Raises:
            OptionError: If the network has no such option, or the value is outside its range.
        """
        for name, value in options.items():
            if name not in self.kind.OPTIONS:
                raise OptionError(
                    f"{name} {value} for {self.name}",
                    expected=f"options that it has: {', '.join(self.kind.OPTIONS) or 'none'}",
                )
        refinements = options.get("refinements", 0)
        if not 0 <= refinements <= _MAX_REFINEMENTS:
            raise OptionError(f"{refinements} refinement stages", expected=f"0 to {_MAX_REFINEMENTS}")
        before = self.backbone() if self.backbone else ()
        build = cast(Callable[..., PoseNetwork], self.kind)
        return build(skeleton, *before, **{**self.defaults, **options})


def _mobilenet_v1(cut: MobileNetV1Cut) -> tuple[nn.Module, int]:
    return mobilenet_v1(cut), mobilenet_v1_channels(cut)


def _mobilenet_v2() -> tuple[nn.Module, int]:
    return mobilenet_v2.mobilenet_v2(), mobilenet_v2.CHANNELS


def _vgg19() -> tuple[nn.Module, int]:
    return vgg.vgg19(), vgg.CHANNELS


_CUTS: tuple[MobileNetV1Cut, ...] = ("conv4_1", "conv5_5", "conv5_6")
_V1 = {cut: partial(_mobilenet_v1, cut) for cut in _CUTS}
_ONE = {"refinements": 1}

NETWORKS: tuple[NetworkFactory, ...] = (
    NetworkFactory("lightweight-openpose", LightweightOpenPose, _V1["conv5_5"]),
    NetworkFactory("human-pose-estimation-0001", HumanPoseEstimation0001),
    NetworkFactory("openpose", OpenPose, _vgg19),
    NetworkFactory("openpose-mobilenet-v1-conv4_1", OpenPose, _V1["conv4_1"], _ONE),
    NetworkFactory("openpose-mobilenet-v1-conv5_5", OpenPose, _V1["conv5_5"], _ONE),
    NetworkFactory("openpose-mobilenet-v1-conv5_6", OpenPose, _V1["conv5_6"], _ONE),
    NetworkFactory("openpose-mobilenet-v2-conv6_3", OpenPose, _mobilenet_v2, _ONE),
    NetworkFactory("lightweight-mobilenet-v1-conv4_1", LightweightOpenPose, _V1["conv4_1"]),
    NetworkFactory("lightweight-mobilenet-v1-conv5_6", LightweightOpenPose, _V1["conv5_6"]),
    NetworkFactory("lightweight-mobilenet-v2-conv6_3", LightweightOpenPose, _mobilenet_v2),
    NetworkFactory("feather", Feather),
    NetworkFactory("refiner", Refiner),
    NetworkFactory("refiner-dense", DenseRefiner),
    NetworkFactory("single-person", SinglePerson),
    NetworkFactory("deeppose-light", LightDeepPose),
    NetworkFactory("hourglass-light", LightHourglass),
    NetworkFactory("cpn-light", LightCascade),
    NetworkFactory("cpn-all-keypoints-light", LightCascadeWithoutMining),
    NetworkFactory("cfn-light", LightCoarseFine),
    NetworkFactory("rmpe-light", LightRmpe),
    NetworkFactory("g-rmi-light", LightGRmi),
    NetworkFactory("associative-embedding-light", LightAssociativeEmbedding),
    NetworkFactory("person-detector-light", LightPersonDetector),
    NetworkFactory("multiposenet-light", LightMultiPoseNet),
    NetworkFactory("mask-rcnn-light", LightMaskRcnn),
    NetworkFactory("paf-light", LightFields),
    NetworkFactory("deeppose", DeepPose),
    NetworkFactory("hourglass", StackedHourglass),
    NetworkFactory("cpn", CascadedPyramid),
    NetworkFactory("cfn", CoarseFine),
    NetworkFactory("rmpe", Rmpe),
    NetworkFactory("g-rmi", GRmi),
    NetworkFactory("associative-embedding", AssociativeEmbedding),
)
"""Every network, in the order of lists for people."""

NETWORK_NAMES: tuple[str, ...] = tuple(factory.name for factory in NETWORKS)

COUNTED: Mapping[str, Callable[[Skeleton], nn.Module]] = MappingProxyType(
    {"mask-rcnn": MaskRcnn, "multiposenet": MultiPoseNet}
)
"""Published networks of more than one pass over an image, which are counted and timed but not trained as they are."""


def network_factory(name: str) -> NetworkFactory:
    """Look a network up.

    Raises:
        OptionError: If there is none of that name.

    Example:
        >>> network_factory("feather").kind.OPTIONS
        ('channels', 'blocks', 'front', 'tail', 'context_blocks', 'fine')
    """
    for factory in NETWORKS:
        if factory.name == name:
            return factory
    raise OptionError(f"there is no network {name!r}", expected=f"one of {', '.join(NETWORK_NAMES)}")


def create_network(name: str, skeleton: Skeleton = OPENPOSE_18, **options: Any) -> PoseNetwork:
    """Build a network with fresh weights.

    Args:
        name: One of `NETWORK_NAMES`.
        skeleton: Keypoints and limbs of the outputs.
        options: Options of this network, such as ``refinements`` (OpenPose's stages) or ``channels``; None for the
            published value.

    Raises:
        OptionError: If there is no such network, or it has no such option.

    Example:
        >>> create_network("lightweight-openpose", refinements=3).parts["refinement stage 3"]
        ('refinement_stages.2',)
    """
    given = {option: value for option, value in options.items() if value is not None}
    return network_factory(name).create(skeleton, **given)


def as_module(network: PoseNetwork) -> nn.Module:
    """Return the same network as PyTorch's type: parameters, modes, devices."""
    return cast(nn.Module, network)
