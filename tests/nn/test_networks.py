"""Every network builds, has outputs of the right shape for any skeleton, and trains a step."""

from __future__ import annotations

import pytest
import torch

from featherpose.errors import OptionError
from featherpose.methods import METHODS
from featherpose.nn.networks import NETWORK_NAMES, as_module, create_network
from featherpose.nn.outputs import PoseNetwork, StageMaps
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.skeleton import BODY_25, OPENPOSE_18, Skeleton

# In the size of their papers: up to 277 MB of fresh weights, and hundreds of layers at full width.
_LARGE = ("deeppose", "hourglass", "cpn", "cfn", "rmpe", "g-rmi", "associative-embedding")
_RUN_HERE = [name for name in NETWORK_NAMES if name not in _LARGE]

_ARM = Skeleton.create("arm", ["shoulder", "elbow", "wrist"], [("shoulder", "elbow"), ("elbow", "wrist")])


@pytest.mark.parametrize("name", NETWORK_NAMES)
@pytest.mark.parametrize("skeleton", [OPENPOSE_18, _ARM], ids=lambda s: s.name)
def test_outputs_are_those_that_the_network_states(name: str, skeleton: Skeleton) -> None:
    with torch.device("meta"):
        network = create_network(name, skeleton)
        as_module(network).eval()
        stages = network(torch.zeros(2, 3, 64, 96))
    assert isinstance(network, PoseNetwork)
    assert network.method in METHODS
    strides = {output.name: output.stride for output in network.outputs}
    of_method = {output.name: output for output in network.method.outputs(skeleton, strides=strides)}
    for stage in stages:
        values = stage._asdict()
        assert list(values) == [output.name for output in network.outputs] == list(of_method)
        for output in network.outputs:
            cells = (64 // output.stride, 96 // output.stride) if output.stride else values[output.name].shape[2:]
            assert values[output.name].shape == (2, output.channels, *cells)
            if name.startswith("deeppose"):
                assert cells == (1, 1)
            assert 0 <= output.channels - of_method[output.name].channels <= of_method[output.name].more_channels


@pytest.mark.parametrize("name", _RUN_HERE)
def test_both_halves_of_every_split_are_the_network(name: str) -> None:
    if name == "openpose":
        pytest.skip("VGG-19 takes a while; its class is tested with lighter backbones")
    torch.manual_seed(0)
    network = create_network(name, _ARM)
    module = as_module(network).eval()
    images = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        whole = network.training_stages(images)
        for split in network.splits():
            features = split.before(images)
            assert len(features) == len(split.names)
            for part in split.parts:
                module.get_submodule(part)
            for expected, found in zip(whole, split.after(features), strict=True):
                for key, value in expected._asdict().items():
                    torch.testing.assert_close(found._asdict()[key], value)
    assert network.splits()


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


@pytest.mark.parametrize("name", ["lightweight-openpose", "openpose-mobilenet-v2-conv6_3", "single-person",
                                  *(name for name in _RUN_HERE if name.endswith("-light"))])  # fmt: skip
def test_every_parameter_of_every_stage_learns(name: str) -> None:
    torch.manual_seed(0)
    options = {} if name.endswith(("-person", "-light")) else {"refinements": 2}
    network = create_network(name, _ARM, **options)
    module = as_module(network).train()
    stages = network.training_stages(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8).float())
    values = [value for stage in stages for value in stage._asdict().values()]
    loss = sum((value.square().mean() for value in values), torch.zeros(()))
    torch.autograd.backward(loss)
    without = [n for n, p in module.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without


@pytest.mark.parametrize("name", ["lightweight-openpose", "human-pose-estimation-0001", "single-person"])
def test_whole_numbers_and_floats_give_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name, _ARM)
    as_module(network).eval()
    images = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.no_grad():
        whole, floats = network(images)[-1], network(images.float())[-1]
    assert isinstance(whole, StageMaps | SinglePersonMaps)
    assert isinstance(floats, StageMaps | SinglePersonMaps)
    torch.testing.assert_close(whole.heatmaps, floats.heatmaps)


def test_unknown_network_and_too_many_stages_are_refused() -> None:
    with pytest.raises(OptionError, match="expected one of lightweight-openpose"):
        create_network("hourglasses")
    with pytest.raises(OptionError, match="refinement stages"):
        create_network("openpose", refinements=-1)
    with pytest.raises(OptionError, match="options that it has: channels, blocks"):
        create_network("feather", refinements=2)


def test_only_networks_that_can_are_equalized() -> None:
    with pytest.raises(OptionError, match="LightweightOpenPose cannot be equalized"):
        create_network("lightweight-openpose").equalize([])
