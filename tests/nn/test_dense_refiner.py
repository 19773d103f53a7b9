"""The refiner of dense layers: its options in its weights, its file for the engine, its crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from featherpose.crops import CropShape
from featherpose.errors import OptionError
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.media.images import read_image
from featherpose.nn.checkpoints import load_network, read_checkpoint, save_network
from featherpose.nn.dense_refiner import DenseRefiner
from featherpose.preprocess import cut_crop
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import COCO_17, LSP_14
from featherpose.zoo.resolve import resolve_model


def test_options_are_read_from_the_weights(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "widths": (8, 16, 24, 32, 40),
        "depths": (2, 0, 1, 3),
        "prior": False,
        "crop_shape": (96, 160, 1.2),
    }
    save_network(tmp_path / "mine.safetensors", DenseRefiner(LSP_14, **options), "refiner-dense")
    checkpoint = read_checkpoint(tmp_path / "mine.safetensors")
    assert (checkpoint.network, checkpoint.skeleton()) == ("refiner-dense", LSP_14)
    network = cast(DenseRefiner, load_network(tmp_path / "mine.safetensors"))
    assert DenseRefiner.options_of(network.state_dict()) == options
    assert network.crop == CropShape(width=96, height=160, margin=1.2)


def test_a_training_state_is_recognized(tmp_path: Path) -> None:
    network = DenseRefiner(widths=(8, 8, 8, 8, 8), depths=(1, 1, 1, 1))
    torch.save({"average": network.state_dict()}, tmp_path / "last.pt")
    checkpoint = read_checkpoint(tmp_path / "last.pt")
    assert (checkpoint.network, checkpoint.skeleton()) == ("refiner-dense", COCO_17)


def test_exported_file_gives_the_networks_heatmaps(grace_hopper: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DenseRefiner().eval()
    save_network(tmp_path / "mine.safetensors", network, "refiner-dense")
    export_checkpoint(ExportRequest(checkpoint=tmp_path / "mine.safetensors", output=tmp_path, name="mine", fp16=False))
    resolved = resolve_model(tmp_path / "mine.xml")
    shape = resolved.spec.crop
    assert shape == CropShape(width=128, height=192, margin=1.0)
    box = np.array([[40, 20, 480, 600]], np.float32)
    crop = cut_crop(read_image(grace_hopper), shape.matrices(box)[0], shape)
    with torch.no_grad():
        expected = network(torch.from_numpy(crop).permute(0, 3, 1, 2))[-1].heatmaps[0].numpy()
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(precision="fp32"))
    try:
        found = backend.infer(crop)[0]["heatmaps"]
    finally:
        backend.close()
    assert found.shape == (17, 48, 32)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "value"), [("widths", (8, 8, 8, 8)), ("widths", (8, 8, 8, 8, 10**6)),
                                             ("depths", (1, 1, 1)), ("depths", (1, 1, 1, -1)),
                                             ("crop_shape", (100, 192, 1.0))])  # fmt: skip
def test_impossible_options_are_refused(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=name.replace("_", " ")):
        DenseRefiner(COCO_17, **{name: value})
