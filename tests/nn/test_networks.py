"""Every network builds, gives maps of the right shape for any skeleton, and trains a step."""

from __future__ import annotations

import pytest
import torch

from featherpose.errors import OptionError
from featherpose.nn.networks import NETWORK_NAMES, as_module, create_network
from featherpose.nn.outputs import PoseNetwork
from featherpose.skeleton import BODY_25, OPENPOSE_18, Skeleton

_ARM = Skeleton.create("arm", ["shoulder", "elbow", "wrist"], [("shoulder", "elbow"), ("elbow", "wrist")])


@pytest.mark.parametrize("name", NETWORK_NAMES)
@pytest.mark.parametrize("skeleton", [OPENPOSE_18, _ARM], ids=lambda s: s.name)
def test_maps_have_the_shape_of_the_skeleton(name: str, skeleton: Skeleton) -> None:
    refinements = None if name == "feather" else 1
    with torch.device("meta"):
        network = create_network(name, skeleton, refinements=refinements)
        as_module(network).eval()
        stages = network(torch.zeros(2, 3, 64, 96))
    assert isinstance(network, PoseNetwork)
    assert len(stages) == (1 if name == "feather" else 2)
    background = 0 if name == "feather" else 1
    for maps in stages:
        h, p = network.heatmap_stride, network.paf_stride
        assert maps.heatmaps.shape == (2, skeleton.num_keypoints + background, 64 // h, 96 // h)
        assert maps.pafs.shape == (2, 2 * skeleton.num_limbs, 64 // p, 96 // p)


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_parts_cover_every_parameter_once(name: str) -> None:
    with torch.device("meta"):
        network = create_network(name)
    module = as_module(network)
    paths = [path for part in network.parts.values() for path in part]
    counted = sum(p.numel() for path in paths for p in module.get_submodule(path).parameters())
    assert counted == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("refinements", [0, 1, 3, 5])
@pytest.mark.parametrize("name", ["openpose", "lightweight-openpose", "human-pose-estimation-0001"])
def test_any_number_of_refinement_stages(name: str, refinements: int) -> None:
    with torch.device("meta"):
        network = create_network(name, BODY_25, refinements=refinements)
        as_module(network).eval()
        assert len(network(torch.zeros(1, 3, 32, 32))) == refinements + 1


@pytest.mark.parametrize("name", ["lightweight-openpose", "openpose-mobilenet-v2-conv6_3"])
def test_every_parameter_of_every_stage_learns(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name, _ARM, refinements=2)
    module = as_module(network).train()
    stages = network(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    loss = sum((maps.heatmaps.square().mean() + maps.pafs.square().mean() for maps in stages), torch.zeros(()))
    torch.autograd.backward(loss)
    without = [n for n, p in module.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without


@pytest.mark.parametrize("name", ["lightweight-openpose", "openpose", "human-pose-estimation-0001"])
def test_whole_numbers_and_floats_give_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name, _ARM, refinements=1)
    as_module(network).eval()
    images = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.no_grad():
        whole, floats = network(images)[-1], network(images.float())[-1]
    torch.testing.assert_close(whole.heatmaps, floats.heatmaps)


def test_unknown_network_and_too_many_stages_are_refused() -> None:
    with pytest.raises(OptionError, match="expected one of lightweight-openpose"):
        create_network("hourglass")
    with pytest.raises(OptionError, match="refinement stages"):
        create_network("openpose", refinements=-1)
    with pytest.raises(OptionError, match="it has none"):
        create_network("feather", refinements=2)
