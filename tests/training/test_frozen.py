"""A frozen part in the inference engine equals PyTorch's, and the rest trains alike."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.errors import ConfigError
from featherpose.nn.feather import Feather
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.skeleton import OPENPOSE_18
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
)
from featherpose.training.frozen import FrozenPart, frozen_part, frozen_split
from featherpose.training.logs import read_log
from featherpose.training.loop import train
from featherpose.training.networks import build_network, freeze_batch_norm_stats
from featherpose.training.precision import MixedPrecision
from featherpose.training.smoke import draw_scenes

_FEATHER = NetworkConfig(arch="feather", init_from="bundled", freeze=("front", "tail", "pyramid"))
_NETWORKS = {
    "feather": _FEATHER,
    "feather, keypoints too": replace(_FEATHER, freeze=("front", "tail", "pyramid", "keypoints")),
    "front": replace(_FEATHER, freeze=("front",)),
    "backbone": NetworkConfig(arch="lightweight-openpose", freeze=("model",)),
    "backbone and cpm": NetworkConfig(arch="lightweight-openpose", freeze=("model", "cpm")),
    "released": NetworkConfig(arch="human-pose-estimation-0001", freeze=("model", "cpm")),
    "openpose": NetworkConfig(arch="openpose-mobilenet-v1-conv4_1", freeze=("backbone",), refinements=1),
}


@pytest.fixture(scope="module")
def images(grace_hopper: Path) -> torch.Tensor:
    """uint8[2, 3, 128, 96] of the photograph, channels last as batches are."""
    image = cv2.imread(str(grace_hopper))
    assert image is not None
    views = [cv2.resize(image, (96, 128), interpolation=cv2.INTER_AREA), cv2.resize(image[:300], (96, 128))]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)


@pytest.fixture
def exact() -> MixedPrecision:
    return MixedPrecision.choose("cpu", "fp32")


def _network(config: NetworkConfig) -> PoseNetwork:
    torch.manual_seed(2)
    return build_network(config, OPENPOSE_18)


@pytest.mark.parametrize("name", _NETWORKS)
def test_features_equal_those_of_pytorch(name: str, images: torch.Tensor, exact: MixedPrecision) -> None:
    network = _network(_NETWORKS[name])
    module = exact.place(as_module(network)).train()
    freeze_batch_norm_stats(module)
    split = frozen_split(network)
    assert split is not None
    part = FrozenPart(network, exact)
    with torch.no_grad():
        wanted = split.before(exact.images(images))
    found = part.features(images)
    assert len(found) == len(wanted) == len(split.names)
    for said, true in zip(found, wanted, strict=True):
        assert said.is_contiguous(memory_format=torch.channels_last)
        assert not said.requires_grad
        torch.testing.assert_close(said, true, rtol=1e-3, atol=1e-4 * float(true.abs().max()))


@pytest.mark.parametrize("name", ["feather", "front", "backbone"])
def test_gradients_of_the_rest_equal_those_of_pytorch(name: str, images: torch.Tensor, exact: MixedPrecision) -> None:
    network = _network(_NETWORKS[name])
    module = exact.place(as_module(network)).train()
    freeze_batch_norm_stats(module)

    def gradients(stages: tuple[object, ...]) -> dict[str, torch.Tensor]:
        module.zero_grad(set_to_none=True)
        maps = stages[-1]
        assert isinstance(maps, tuple)
        torch.autograd.backward((maps[0] - 0.1).square().mean() + (maps[1] - 0.1).square().mean())
        return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}

    plain = gradients(network.training_stages(exact.images(images)))
    part = FrozenPart(network, exact)
    # Twice: the features of the first pass are overwritten by those of the second.
    gradients(part.stages(images.flip(3)))
    found = gradients(part.stages(images))
    assert found.keys() == plain.keys()
    for parameter, value in plain.items():
        torch.testing.assert_close(found[parameter], value, rtol=1e-2, atol=1e-3 * float(value.abs().max()))


def test_the_engine_has_as_many_threads_as_pytorch(images: torch.Tensor, exact: MixedPrecision) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert FrozenPart(_network(_FEATHER), exact)._engine.threads == 1
    finally:
        torch.set_num_threads(before)


def test_a_frozen_batch_norm_keeps_its_statistics(images: torch.Tensor, exact: MixedPrecision) -> None:
    network = _network(_NETWORKS["backbone"])
    module = as_module(network).train()
    freeze_batch_norm_stats(module)
    before = {name: value.clone() for name, value in module.named_buffers()}
    network.training_stages(exact.images(images))
    changed = {name for name, value in module.named_buffers() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("model.") for name in changed)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (NetworkConfig(arch="feather", freeze=("tail", "pyramid")), "front or front and tail and pyramid in freeze"),
        (NetworkConfig(arch="lightweight-openpose", freeze=("cpm",)), "model or model and cpm in freeze"),
    ],
)
def test_a_trained_part_that_feeds_others_is_refused(
    config: NetworkConfig, expected: str, exact: MixedPrecision
) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        FrozenPart(_network(config), exact)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_engine_is_one_line(exact: MixedPrecision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "featherpose.runtime.openvino.features", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"needs packages that are not installed \(openvino\)"):
        FrozenPart(_network(_FEATHER), exact)


def test_on_a_gpu_everything_stays_in_pytorch(caplog: pytest.LogCaptureFixture) -> None:
    on_gpu = MixedPrecision(torch.device("cuda"), None, torch.amp.GradScaler("cpu", enabled=False))
    assert frozen_part(replace(_FEATHER, frozen_in_engine=True), _network(_FEATHER), on_gpu) is None
    assert "stays in PyTorch" in caplog.text
    assert frozen_part(_FEATHER, _network(_FEATHER), on_gpu) is None


def test_what_observes_layers_is_refused() -> None:
    data = DataConfig(sources=(ImageFolder(images=Path("a")),))
    with pytest.raises(ConfigError, match=r"together with \[qat\]"):
        TrainConfig(data=data, network=replace(_FEATHER, frozen_in_engine=True), qat=QatConfig())
    features = FeatureDistillationConfig(model="a", pairs=(("front", "front"),))
    with pytest.raises(ConfigError, match=r"together with \[feature_distillation\]"):
        TrainConfig(data=data, network=replace(_FEATHER, frozen_in_engine=True), feature_distillation=features)


def test_feather_is_split_behind_its_trunk_and_its_front() -> None:
    places = [split.parts for split in Feather(channels=8, blocks=1).splits()]
    assert places == [("front", "tail", "pyramid"), ("front",)]


@pytest.fixture
def run_config(tmp_path: Path) -> TrainConfig:
    scenes = draw_scenes(tmp_path / "scenes", count=4)
    source = ImageFolder(images=scenes.parent / "images", annotations=scenes)
    return TrainConfig(
        data=DataConfig(sources=(source,), augment=AugmentOptions(size_px=64, base_px=64)),
        network=replace(_FEATHER, channels=8, blocks=1, freeze=("front", "tail", "pyramid"), frozen_in_engine=True),
        loss=LossConfig(kind="soft"),
        optimizer=OptimizerConfig(kind="adamw", lr=1e-3, schedule="cosine", ema=0.9),
        run=RunConfig(steps=4, batch_size=2, save_every=2, log_every=1, precision="fp32", threads=1),
    )


def test_a_run_learns_the_same_and_resumes_exactly(run_config: TrainConfig, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise StopError

    train(run_config, tmp_path / "whole")
    with pytest.raises(StopError):
        train(run_config, tmp_path / "parts", on_step=stop)
    train(run_config, tmp_path / "parts", resume=True)
    whole, parts = (load_state(tmp_path / name / "last.pt")["network"] for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    plain = replace(run_config, network=replace(run_config.network, frozen_in_engine=False))
    train(plain, tmp_path / "plain")
    losses = [read_log(tmp_path / name / "log.csv", "train", "loss")[1] for name in ("whole", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_kept_features_are_read_and_not_computed(
    images: torch.Tensor, exact: MixedPrecision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _network(_FEATHER)
    first = FrozenPart(network, exact, tmp_path / "features")
    found = [value.clone() for value in first.features(images)]
    plain = FrozenPart(network, exact).features(images)
    for value, wanted in zip(found, plain, strict=True):
        torch.testing.assert_close(value, wanted, rtol=2e-3, atol=2e-3)
    (file,) = (tmp_path / "features").iterdir()
    again = FrozenPart(network, exact, tmp_path / "features")
    monkeypatch.setattr(again, "_engine", None)  # which would fail if it were called
    for value, wanted in zip(again.features(images), found, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=0)
    file.write_bytes(file.read_bytes()[:1000])  # a crash left half of it
    for value, wanted in zip(first.features(images), found, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=0)
    with pytest.raises(ConfigError, match="features_folder without frozen_in_engine"):
        replace(_FEATHER, features_folder="features")
