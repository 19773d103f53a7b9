"""Quantization-aware training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.errors import ConfigError
from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.feather import Feather
from featherpose.training.checkpoint import load_state
from featherpose.training.config import (
    DataConfig,
    FeatureDistillationConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    QatConfig,
    RunConfig,
    TrainConfig,
    config_from_dict,
)
from featherpose.training.loop import train
from featherpose.training.networks import bundled_weights
from featherpose.training.quantization_aware import QuantizationAware

_FLOATING = QatConfig(keep=("pyramid", "keypoints", "smooth"))


def test_inputs_and_weights_are_on_the_steps_that_pytorch_defines() -> None:
    torch.manual_seed(3)
    layer = nn.Conv2d(3, 4, 3, bias=False).eval()
    image = torch.randn(2, 3, 20, 24)
    rounding = QuantizationAware(QatConfig(), layer)
    with rounding.watching(layer):
        found = layer(image)
    low, high = (float(image.amin((1, 2, 3)).mean()), float(image.amax((1, 2, 3)).mean()))
    scale = (high - low) / 255
    inputs = torch.fake_quantize_per_tensor_affine(image, scale, -round(low / scale), 0, 255)
    scales = layer.weight.detach().abs().amax((1, 2, 3)) / 127
    weights = torch.fake_quantize_per_channel_affine(
        layer.weight.detach(), scales, torch.zeros(4, dtype=torch.int32), 0, -127, 127
    )
    expected = nn.functional.conv2d(inputs, weights)
    # A value in the middle between two steps may fall to either.
    assert (found - expected).abs().max() < scale * float(layer.weight.detach().abs().max())
    assert (found - expected).abs().median() < 1e-6
    assert (found - layer(image)).abs().max() > 1e-4


def test_gradients_pass_and_kept_layers_are_left_alone() -> None:
    torch.manual_seed(3)
    layer = nn.Conv2d(3, 4, 3).eval()
    image = torch.randn(1, 3, 20, 24, requires_grad=True)
    rounding = QuantizationAware(QatConfig(), layer)
    with rounding.watching(layer):
        layer(image).sum().backward()
    felt: list[Tensor | None] = [image.grad, layer.weight.grad]
    assert all(g is not None and float(g.abs().sum()) > 0 for g in felt)

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).eval()
    kept = QuantizationAware(QatConfig(keep=("0", "1")), network)
    with kept.watching(network):
        same = network(image)
    assert torch.equal(same, network(image))
    with pytest.raises(ConfigError, match="no layer matches 'neck'"):
        QuantizationAware(QatConfig(keep=("neck",)), network)
    with pytest.raises(ConfigError, match="no regular expression"):
        config_from_dict({"data": {"sources": [{"images": "x"}]}, "qat": {"keep": ["("]}})


def test_rounding_disturbs_the_bundled_network_about_as_int8_does(astronaut: np.ndarray) -> None:
    network = load_network(bundled_weights())
    assert isinstance(network, Feather)
    image = torch.from_numpy(cv2.resize(astronaut, (256, 256))).permute(2, 0, 1)[None].float()
    rounding = QuantizationAware(_FLOATING, network.eval())
    with torch.no_grad():
        (plain,) = network(image)
        with rounding.watching(network):
            (rounded,) = network(image)
        # The same ranges, pass after pass.
        with rounding.watching(network, learn=False):
            (again,), (third,) = network(image), network(image)
    assert torch.equal(again.pafs, third.pafs)
    assert torch.equal(again.pafs, rounded.pafs)
    for whole, felt in ((plain.heatmaps, rounded.heatmaps), (plain.pafs, rounded.pafs)):
        error = float((whole - felt).square().sum() / whole.square().sum())
        assert 1e-4 < error < 0.1


@pytest.fixture
def run(astronaut: np.ndarray, tmp_path: Path) -> TrainConfig:
    """A network that learns to stay as it is, rounded, on a photograph without labels."""
    torch.manual_seed(1)
    save_network(tmp_path / "start.safetensors", Feather(channels=8, blocks=1), "feather")
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "astronaut.png"), astronaut)
    return TrainConfig(
        data=DataConfig(
            sources=(ImageFolder(images=tmp_path / "photos"),), augment=AugmentOptions(size_px=64, base_px=256)
        ),
        network=NetworkConfig(arch="feather", channels=8, blocks=1, init_from=str(tmp_path / "start.safetensors")),
        feature_distillation=FeatureDistillationConfig(
            model=str(tmp_path / "start.safetensors"), pairs=(("pafs.out", "pafs.out"),)
        ),
        qat=_FLOATING,
        loss=LossConfig(kind="none"),
        optimizer=OptimizerConfig(kind="relative_adam", lr=1e-3, ema=0.9),
        run=RunConfig(steps=6, batch_size=2, log_every=1, save_every=3, threads=1, precision="fp32"),
    )  # fmt: skip


def test_a_run_under_rounding_resumes_exactly(run: TrainConfig, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 4:
            raise StopError

    whole = train(run, tmp_path / "whole")
    with pytest.raises(StopError):
        train(run, tmp_path / "parts", on_step=stop)
    resumed = train(run, tmp_path / "parts", resume=True)
    assert resumed.steps == whole.steps == 6
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    ranges = [name for name in first["network"] if name.endswith("ranges")]
    assert len(ranges) == 1
    assert bool(first["network"][ranges[0]].isfinite().all())
    for name, value in first["network"].items():
        assert torch.equal(value, second["network"][name]), name
    plain = train(replace(run, qat=None), tmp_path / "plain")
    assert plain.loss is not None
    assert whole.loss is not None
    assert plain.loss < whole.loss  # unrounded it already equals its start
