"""Where networks can be parted into what says features and what makes maps of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featherpose.nn.feather import Feather, TrunkFeatures
from featherpose.nn.lightweight import LightweightOpenPose
from featherpose.nn.movenet import FrontFeatures
from featherpose.nn.networks import as_module
from featherpose.nn.openpose import OpenPose
from featherpose.nn.outputs import PoseNetwork, StageMaps, normalised

__all__ = ["Cut", "cuts_of", "frozen_cut", "stages_of"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A network in two.

    Attributes:
        parts: Modules before the cut, by name.
        names: The features that pass it.
        before: From float[B, 3, H, W] pictures to those features.
        after: From those features to the maps of every stage.
    """

    parts: tuple[str, ...]
    names: tuple[str, ...]
    before: Callable[[Tensor], Sequence[Tensor]]
    after: Callable[[Sequence[Tensor]], tuple[StageMaps, ...]]


def cuts_of(network: PoseNetwork) -> tuple[Cut, ...]:
    """The places where a network can be parted, the one with the most before it first.

    Example:
        >>> from featherpose.nn.networks import create_network
        >>> [cut.parts for cut in cuts_of(create_network("lightweight-openpose"))]
        [('model', 'cpm'), ('model',)]
    """
    if isinstance(network, Feather):
        return (
            Cut(("front", "tail", "pyramid"), TrunkFeatures._fields, network.features,
                lambda seen: _feather_stages(network, TrunkFeatures(*seen))),
            Cut(("front",), FrontFeatures._fields, network.front,
                lambda seen: _feather_stages(network, network.features_behind(FrontFeatures(*seen)))),
        )  # fmt: skip
    if isinstance(network, LightweightOpenPose):
        return (
            Cut(("model", "cpm"), ("cpm",), lambda x: (network.cpm(network.backbone(x)),),
                lambda seen: network.stages(seen[0])),
            Cut(("model",), ("backbone",), lambda x: (network.backbone(x),),
                lambda seen: network.stages(network.cpm(seen[0]))),
        )  # fmt: skip
    if isinstance(network, OpenPose):
        return (
            Cut(("backbone", "conv4_3", "conv4_4"), ("conv4_4",),
                lambda x: (network.conv4_4(network.conv4_3(network.backbone(normalised(x)))),),
                lambda seen: network.stages(seen[0])),
            Cut(("backbone",), ("backbone",), lambda x: (network.backbone(normalised(x)),),
                lambda seen: network.stages(network.conv4_4(network.conv4_3(seen[0])))),
        )  # fmt: skip
    return ()


def frozen_cut(network: PoseNetwork) -> Cut | None:
    """The cut with the most before it where all of that is frozen; None if there is none."""
    trained = [name for name, value in as_module(network).named_parameters() if value.requires_grad]
    for cut in cuts_of(network):
        if not any(name.startswith(tuple(f"{part}." for part in cut.parts)) for name in trained):
            return cut
    return None


def stages_of(network: PoseNetwork, pictures: Tensor) -> tuple[StageMaps, ...]:
    """What `loss_of` compares with the truth: the maps of every stage."""
    if isinstance(network, Feather):
        return _feather_stages(network, network.features(pictures))
    return network(pictures)


def _feather_stages(network: Feather, features: TrunkFeatures) -> tuple[StageMaps, ...]:
    logits = network.logits(features)
    # Near 0 and 1, shorter formats are too coarse for a cross-entropy.
    with torch.autocast(features.p4.device.type, enabled=False):
        return (network.smoothed(logits),)
