"""The single-person network: its weights exactly, crops in its card, channels of equal range."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from featherpose.crops import CropShape
from featherpose.errors import OptionError
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.media.images import read_image
from featherpose.nn.checkpoints import load_network, read_checkpoint, save_network
from featherpose.nn.refiner import Refiner
from featherpose.preprocess import cut_crop
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import COCO_17
from featherpose.training.networks import bundled_weights, load_matching
from featherpose.zoo.resolve import resolve_model


@pytest.fixture(scope="module")
def crop(grace_hopper: Path) -> np.ndarray:
    """A crop of a real photograph."""
    shape = CropShape(width=160, height=224, margin=1.1)
    return cut_crop(read_image(grace_hopper), shape.matrices(np.array([[40, 20, 480, 600]], np.float32))[0], shape)


def _heatmaps(network: Refiner, crop: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(crop).permute(0, 3, 1, 2))[-1].heatmaps[0])


def test_weights_are_recognized() -> None:
    checkpoint = read_checkpoint(bundled_weights("refiner"))
    assert checkpoint.network == "refiner"
    assert checkpoint.skeleton() == COCO_17


def test_exported_file_gives_the_networks_heatmaps(crop: np.ndarray, tmp_path: Path) -> None:
    weights = bundled_weights("refiner")
    export_checkpoint(ExportRequest(checkpoint=weights, output=tmp_path, name="mine", fp16=False))
    resolved = resolve_model(tmp_path / "mine.xml")
    assert resolved.card is not None
    assert resolved.card.crop is not None
    assert (resolved.card.crop.width, resolved.card.crop.height, resolved.card.crop.margin) == (160, 224, 1.1)
    assert resolved.card.outputs["heatmaps"].origin_px == 0
    assert resolved.card.pad_value == 0
    network = cast(Refiner, load_network(weights))
    expected = _heatmaps(network, crop)
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(precision="fp32"))
    try:
        found = backend.infer(crop)[0]["heatmaps"]
    finally:
        backend.close()
    assert expected.max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_equalization_keeps_the_heatmaps_and_narrows_the_ranges(crop: np.ndarray) -> None:
    network = cast(Refiner, load_network(bundled_weights("refiner")))
    before = _heatmaps(network, crop)
    ranges: list[float] = []

    def listen(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        ranges.append(float(inputs[0][0].flatten(1).abs().amax(dim=1).max()))

    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m is not network.stem.stem]
    network.equalize([torch.from_numpy(crop).permute(0, 3, 1, 2).float()])
    np.testing.assert_allclose(_heatmaps(network, crop), before, atol=1e-4)
    handles = [layer.register_forward_pre_hook(listen) for layer in layers]
    _heatmaps(network, crop)
    for handle in handles:
        handle.remove()
    # Every layer but the first reads channels whose 99.9th percentile is 1.
    assert len(ranges) == len(layers)
    assert np.median(ranges) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("gated", [True, False])
def test_a_shorter_network_is_recognized_by_its_weights(gated: bool, tmp_path: Path) -> None:
    network = Refiner(exchanges=(1, 3, 2), far=False, gated=gated)
    save_network(tmp_path / "short.safetensors", network, "refiner")
    read = cast(Refiner, load_network(tmp_path / "short.safetensors"))
    assert [len(list(stage.children())) for stage in read.stages] == [1, 3, 2]
    assert Refiner.options_of(read.state_dict()) == {
        "exchanges": (1, 3, 2),
        "far": False,
        "gated": gated,
        "crop_shape": None,
    }
    assert sum(p.numel() for p in read.parameters()) < 0.9 * sum(p.numel() for p in Refiner().parameters())


def test_the_crop_s_shape_is_among_the_weights(tmp_path: Path) -> None:
    save_network(tmp_path / "small.safetensors", Refiner(crop_shape=(128, 192, 1.05)), "refiner")
    assert load_network(tmp_path / "small.safetensors").crop == CropShape(width=128, height=192, margin=1.05)
    assert Refiner().crop == CropShape(width=160, height=224, margin=1.1)
    # Another one that starts from these weights keeps its own.
    other = Refiner(crop_shape=(64, 96, 1.2))
    load_matching(other, read_checkpoint(tmp_path / "small.safetensors"))
    assert Refiner.options_of(other.state_dict())["crop_shape"] == (64, 96, 1.2)


@pytest.mark.parametrize("crop_shape", [(128, 192), (100, 192, 1.0), (128, 192, 9.0)])
def test_impossible_crops_are_refused(crop_shape: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match="crop"):
        Refiner(crop_shape=crop_shape)


@pytest.mark.parametrize("exchanges", [(1, 1), (0, 4, 2), (2, 4, 2, 1), (2, 10**6, 2)])
def test_impossible_exchanges_are_refused(exchanges: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="three numbers"):
        Refiner(exchanges=exchanges)


@pytest.mark.parametrize("gated", [True, False])
def test_a_shorter_network_is_equalized(gated: bool, crop: np.ndarray) -> None:
    torch.manual_seed(0)
    network = Refiner(exchanges=(1, 1, 1), far=False, gated=gated).eval()
    before = _heatmaps(network, crop)
    network.equalize([torch.from_numpy(crop).permute(0, 3, 1, 2).float()])
    np.testing.assert_allclose(_heatmaps(network, crop), before, atol=1e-4)
