"""The network of our own and the public network it starts from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mean_weights import average

from featherpose.errors import ModelError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.equalization import cross_layer as equalization
from featherpose.nn.equalization import feather_equalization
from featherpose.nn.equalization.feather_equalization import cross_layer_equalization
from featherpose.nn.feather import Feather, Smoothing
from featherpose.nn.feather_front import FeatherFront, FrontShape
from featherpose.nn.movenet import TAIL_WIDTHS, MoveNetTrunk, SameConv2d, read_movenet
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.skeleton import COCO_17, LSP_14, OPENPOSE_18
from featherpose.training.config import NetworkConfig
from featherpose.training.networks import build_network, bundled_weights
from featherpose.training.validation import predict_image


def _image(image: np.ndarray, side: tuple[int, int]) -> torch.Tensor:
    import cv2

    small = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1)[None].float()


@pytest.fixture(scope="module")
def movenet_file(shared: Path) -> Path:
    return shared / "models/movenet-multipose-lightning/movenet-multipose-lightning.tflite"


@pytest.fixture(scope="module")
def trunk(movenet_file: Path) -> MoveNetTrunk:
    return read_movenet(movenet_file).eval()


def test_port_equals_the_published_graph(trunk: MoveNetTrunk, movenet_file: Path, astronaut: np.ndarray) -> None:
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(str(movenet_file))
    heatmaps = next(n for n in graph.get_ordered_ops() if n.get_type_name() == "Sigmoid")
    published = core.compile_model(
        ov.Model([heatmaps.output(0)], graph.get_parameters(), "heatmaps"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    image = _image(astronaut, (320, 256))
    rgb = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()[None, ..., ::-1].astype(np.uint8))
    (expected,) = published(rgb).values()
    with torch.no_grad():
        ours = trunk(image).numpy()
    assert expected.max() > 0.3  # there is somebody to find
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_assembly_keeps_the_heatmaps_that_the_trunk_knows(trunk: MoveNetTrunk, astronaut: np.ndarray) -> None:
    image = _image(astronaut, (320, 256))
    network = Feather.from_movenet(trunk, [image]).eval()
    with torch.no_grad():
        smoothed = Smoothing(17)(trunk(image))[0]
        ((heatmaps, pafs),) = network(image)
    for k, sources in enumerate(COCO_17.mapping_to(OPENPOSE_18)):
        if len(sources) == 1:
            known = smoothed[sources[0]]
            assert float((heatmaps[0, k] - known).norm() / known.norm()) < 0.02
        else:
            assert heatmaps[0, k].max() < 0.05
    assert pafs.shape == (1, 38, 32, 40)


def test_front_keeps_what_its_widths_allow(trunk: MoveNetTrunk, astronaut: np.ndarray) -> None:
    image = _image(astronaut, (320, 256))
    errors = []
    for shape in (FrontShape(), FrontShape(stem=32, first=96, block=160), FrontShape(stem=16, first=32)):
        front = FeatherFront(shape)
        front.start_from(trunk.front, [image])
        with torch.no_grad():
            theirs, ours = trunk.front(image).stride4, front(image).stride4
        errors.append(float((ours - theirs).square().sum() / (theirs - theirs.mean((2, 3), True)).square().sum()))
    assert errors[0] < 1e-3 < errors[1] < errors[2] < 1


def test_any_skeleton_and_any_multiple_of_eight() -> None:
    network = Feather(LSP_14, channels=16, blocks=1).eval()
    assert isinstance(network, PoseNetwork)
    for height, width in ((64, 96), (72, 104), (40, 200)):
        with torch.no_grad():
            ((heatmaps, pafs),) = network(torch.zeros(2, 3, height, width, dtype=torch.uint8))
        assert heatmaps.shape == (2, 14, height // 4, width // 4)
        assert pafs.shape == (2, 26, height // 8, width // 8)


def test_a_narrower_trunk_is_read_equalized_and_trained_on(astronaut: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(5)
    front, tail = FrontShape(first=128, block=224), tuple(width - 16 for width in TAIL_WIDTHS)
    network = Feather(channels=16, blocks=1, front=front, tail=tail).eval()
    save_network(tmp_path / "narrow.safetensors", network, "feather")
    image = _image(astronaut, (128, 96))
    with torch.no_grad():
        before = network(image)[0].heatmaps
        network.equalize([image])
        torch.testing.assert_close(network(image)[0].heatmaps, before, atol=1e-4, rtol=1e-3)
        again = as_module(load_network(tmp_path / "narrow.safetensors")).eval()
        torch.testing.assert_close(again(image)[0].heatmaps, before)
    # Widths are those of the initial weights; what the configuration says goes first.
    config = NetworkConfig(arch="feather", channels=16, blocks=1, init_from=str(tmp_path / "narrow.safetensors"))
    built = as_module(build_network(config, OPENPOSE_18)).eval()
    options = Feather.options_of(built.state_dict())
    assert (options["front"], options["tail"]) == (front, tail)
    with torch.no_grad():
        torch.testing.assert_close(built(image)[0].heatmaps, before)


@pytest.mark.parametrize("tail", [(), (64,) * 13])
def test_impossible_widths_are_refused(tail: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="widths of the trunk"):
        Feather(tail=tail)


def test_equal_scales_change_nothing(astronaut: np.ndarray) -> None:
    torch.manual_seed(3)
    network = Feather(channels=16, blocks=1).eval()
    with torch.no_grad():
        network.pyramid.top.weight[5] *= 300  # one loud channel, as the public weights have
    image = _image(astronaut, (128, 96))
    with torch.no_grad():
        ((before_heat, before_paf),) = network(image)
        network.equalize([image])
        ((after_heat, after_paf),) = network(image)
    torch.testing.assert_close(after_heat, before_heat, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(after_paf, before_paf, atol=1e-4, rtol=1e-3)


def test_a_deeper_context_starts_as_none_and_survives(astronaut: np.ndarray, tmp_path: Path) -> None:
    """Dense blocks and logits at stride 4 change nothing at first; afterwards equalization does not change them."""
    torch.manual_seed(4)
    plain, deeper = Feather(channels=16, blocks=1, context_blocks=0, fine=False).eval(), Feather(channels=16, blocks=1)
    deeper.load_state_dict(plain.state_dict(), strict=False)
    image = _image(astronaut, (128, 96))
    with torch.no_grad():
        torch.testing.assert_close(deeper.eval()(image)[0].heatmaps, plain(image)[0].heatmaps)
        for layer in (*deeper.context.blocks, deeper.context.fine):
            torch.nn.init.normal_(layer.weight, std=0.05)
        (before,) = deeper(image)
        assert not torch.allclose(before.heatmaps, plain(image)[0].heatmaps, atol=1e-3)
        save_network(tmp_path / "w.safetensors", deeper, "feather")
        deeper.equalize([image])
        again = load_network(tmp_path / "w.safetensors")
        assert isinstance(again, Feather)
        for network in (deeper, again):
            torch.testing.assert_close(network(image)[0].heatmaps, before.heatmaps, atol=1e-4, rtol=1e-3)


def test_scales_of_real_weights_become_equal(astronaut: np.ndarray) -> None:
    network, image = load_network(bundled_weights()), _image(astronaut, (320, 256))
    assert isinstance(network, Feather)
    # A channel's quietest and loudest values are far apart in public weights whose batch norms are folded. In double
    # precision: a channel 300 times as loud would leave rounding of single precision as large as the bound.
    network, image = network.double(), image.double()
    with torch.no_grad():
        network.pyramid.top.weight[5] *= 300
        network.pyramid.top.bias[5] *= 300  # type: ignore[index]
        (before,) = network(image)
        cross_layer_equalization(network, [image])
        (after,) = network(image)
        groups = list(feather_equalization._groups(network))
        ranges = equalization._ranges(network, groups, [image])
    assert float(before.pafs.abs().max()) > 0.3
    torch.testing.assert_close(after.heatmaps, before.heatmaps, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.pafs, before.pafs, atol=1e-4, rtol=0)
    for seen in ranges:
        heard = seen[seen > 1e-3]
        assert len(heard) > 0.5 * len(seen)
        torch.testing.assert_close(heard, torch.ones_like(heard), atol=1e-3, rtol=0)


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_strided_layers_are_convolutions_that_pad_right_and_bottom(groups: int, size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    layer, heard = SameConv2d(6, 12, groups=groups).eval(), []
    layer.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].shape[2:]))
    image = torch.randn(2, 6, *size)
    padded = torch.nn.functional.pad(image, (0, 2, 0, 2))
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    assert torch.equal(
        layer(image), torch.nn.functional.conv2d(padded, layer.weight, layer.bias, stride=2, groups=groups)
    )
    assert [tuple(shape) for shape in heard] == [size]


def test_other_files_are_refused(tmp_path: Path, released_int8: Path) -> None:
    with pytest.raises(ModelError, match="not a file"):
        read_movenet(tmp_path / "absent.tflite")
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"TFL3" * 100)
    with pytest.raises(ModelError, match="cannot be read"):
        read_movenet(damaged)
    with pytest.raises(ModelError, match="MoveNet"):
        read_movenet(released_int8)


def test_skeletons_survive_in_weights(tmp_path: Path) -> None:
    network = Feather(LSP_14, channels=16, blocks=2).eval()
    save_network(tmp_path / "w.safetensors", network, "feather", facts={"note": json.dumps({"a": 1})})
    again = load_network(tmp_path / "w.safetensors")
    assert again.skeleton == LSP_14
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        torch.testing.assert_close(again(image)[0]._asdict(), network(image)[0]._asdict())


def test_compact_weights_are_small_and_say_nearly_the_same(tmp_path: Path, astronaut: np.ndarray) -> None:
    network = load_network(bundled_weights())
    save_network(tmp_path / "whole.safetensors", network, "feather")
    save_network(tmp_path / "compact.safetensors", network, "feather", compact=True)
    assert (tmp_path / "compact.safetensors").stat().st_size < 0.45 * (tmp_path / "whole.safetensors").stat().st_size
    again, image = load_network(tmp_path / "compact.safetensors"), _image(astronaut, (320, 256))
    with torch.no_grad():
        ours, theirs = (net(image)[0]._asdict()["heatmaps"] for net in (again, network))
    assert float(theirs.max()) > 0.3
    torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0)


def test_bundled_weights_find_the_same_person_as_the_bundled_file(astronaut: np.ndarray) -> None:
    network = load_network(bundled_weights())
    assert isinstance(network, Feather)
    decoder = network.method.decoder(network.skeleton, network.outputs, network.options)
    with torch.no_grad():
        ours = predict_image(network.eval(), astronaut, decoder, height=256)
    with PoseEstimator(quality="fast", height=256) as estimator:
        bundled = estimator(astronaut)
    assert len(ours) == len(bundled) == 1
    both = ours.detected[0] & bundled.detected[0]
    assert both.sum() >= 12
    assert np.median(np.linalg.norm(ours.keypoints[0] - bundled.keypoints[0], axis=1)[both]) < 5


def test_mean_of_a_network_and_a_larger_one(tmp_path: Path) -> None:
    """What the smaller one lacks counts as zero, which is how it would start."""
    torch.manual_seed(5)
    small = Feather(channels=16, blocks=1, context_blocks=0, fine=False)
    large = Feather(channels=16, blocks=1)
    for layer in (*large.context.blocks, large.context.fine):
        torch.nn.init.normal_(layer.weight, std=0.05)
    for name, network in (("small", small), ("large", large)):
        save_network(tmp_path / f"{name}.safetensors", network, "feather")
    average(*(str(tmp_path / f"{name}.safetensors") for name in ("mean", "small", "large")), shares=(0.75, 0.25))
    mean = as_module(load_network(tmp_path / "mean.safetensors")).state_dict()
    known = small.state_dict()
    for name, value in large.state_dict().items():
        expected = 0.25 * value + 0.75 * known.get(name, torch.zeros(()))
        torch.testing.assert_close(mean[name], expected.to(value.dtype))
