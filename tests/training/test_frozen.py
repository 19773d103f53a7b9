"""A frozen part in the inference engine says what PyTorch says, and trains the rest alike."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import PictureSource
from featherpose.errors import ConfigError
from featherpose.nn.feather import Feather
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.skeleton import OPENPOSE_18
from featherpose.training.arithmetic import Arithmetic
from featherpose.training.checkpoint import load_state
from featherpose.training.config import (
    DataConfig,
    HintsConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    RoundingConfig,
    RunConfig,
    TrainConfig,
)
from featherpose.training.cuts import cuts_of, frozen_cut, stages_of
from featherpose.training.frozen import FrozenPart, frozen_part
from featherpose.training.logs import read_log
from featherpose.training.loop import train
from featherpose.training.networks import build_network, still_norms
from featherpose.training.smoke import draw_scenes

_FEATHER = NetworkConfig(kind="feather", start="bundled", freeze=("front", "tail", "pyramid"))
_NETWORKS = {
    "feather": _FEATHER,
    "feather, keypoints too": replace(_FEATHER, freeze=("front", "tail", "pyramid", "keypoints")),
    "front": replace(_FEATHER, freeze=("front",)),
    "backbone": NetworkConfig(kind="lightweight-openpose", freeze=("model",)),
    "backbone and cpm": NetworkConfig(kind="lightweight-openpose", freeze=("model", "cpm")),
    "released": NetworkConfig(kind="human-pose-estimation-0001", freeze=("model", "cpm")),
    "openpose": NetworkConfig(kind="openpose-mobilenet-v1-conv4_1", freeze=("backbone",), refinements=1),
}


@pytest.fixture(scope="module")
def pictures(grace_hopper: Path) -> torch.Tensor:
    """uint8[2, 3, 128, 96] of the photograph, channels last as batches are."""
    image = cv2.imread(str(grace_hopper))
    assert image is not None
    views = [cv2.resize(image, (96, 128), interpolation=cv2.INTER_AREA), cv2.resize(image[:300], (96, 128))]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)


@pytest.fixture
def exact() -> Arithmetic:
    return Arithmetic.choose("cpu", "f32")


def _network(config: NetworkConfig) -> PoseNetwork:
    torch.manual_seed(2)
    return build_network(config, OPENPOSE_18)


@pytest.mark.parametrize("name", _NETWORKS)
def test_features_equal_those_of_pytorch(name: str, pictures: torch.Tensor, exact: Arithmetic) -> None:
    network = _network(_NETWORKS[name])
    module = exact.place(as_module(network)).train()
    still_norms(module)
    cut = frozen_cut(network)
    assert cut is not None
    part = FrozenPart(network, exact)
    with torch.no_grad():
        wanted = cut.before(exact.pictures(pictures))
    found = part.features(pictures)
    assert len(found) == len(wanted) == len(cut.names)
    for said, true in zip(found, wanted, strict=True):
        assert said.is_contiguous(memory_format=torch.channels_last)
        assert not said.requires_grad
        torch.testing.assert_close(said, true, rtol=1e-3, atol=1e-4 * float(true.abs().max()))


@pytest.mark.parametrize("name", ["feather", "front", "backbone"])
def test_gradients_of_the_rest_equal_those_of_pytorch(name: str, pictures: torch.Tensor, exact: Arithmetic) -> None:
    network = _network(_NETWORKS[name])
    module = exact.place(as_module(network)).train()
    still_norms(module)

    def gradients(stages: tuple[object, ...]) -> dict[str, torch.Tensor]:
        module.zero_grad(set_to_none=True)
        maps = stages[-1]
        assert isinstance(maps, tuple)
        torch.autograd.backward((maps[0] - 0.1).square().mean() + (maps[1] - 0.1).square().mean())
        return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}

    plain = gradients(stages_of(network, exact.pictures(pictures)))
    part = FrozenPart(network, exact)
    # Twice: the features of the first pass are overwritten by those of the second.
    gradients(part.stages(pictures.flip(3)))
    found = gradients(part.stages(pictures))
    assert found.keys() == plain.keys()
    for parameter, value in plain.items():
        torch.testing.assert_close(found[parameter], value, rtol=1e-2, atol=1e-3 * float(value.abs().max()))


def test_the_engine_has_as_many_threads_as_pytorch(pictures: torch.Tensor, exact: Arithmetic) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert FrozenPart(_network(_FEATHER), exact)._engine.threads == 1
    finally:
        torch.set_num_threads(before)


def test_a_frozen_batch_norm_keeps_its_statistics(pictures: torch.Tensor, exact: Arithmetic) -> None:
    network = _network(_NETWORKS["backbone"])
    module = as_module(network).train()
    still_norms(module)
    before = {name: value.clone() for name, value in module.named_buffers()}
    stages_of(network, exact.pictures(pictures))
    changed = {name for name, value in module.named_buffers() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("model.") for name in changed)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (NetworkConfig(kind="feather", freeze=("tail", "pyramid")), "front or front and tail and pyramid in freeze"),
        (NetworkConfig(kind="lightweight-openpose", freeze=("cpm",)), "model or model and cpm in freeze"),
    ],
)
def test_a_trained_part_that_feeds_others_is_refused(config: NetworkConfig, expected: str, exact: Arithmetic) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        FrozenPart(_network(config), exact)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_engine_is_one_line(exact: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "featherpose.runtime.openvino_features", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"needs packages that are not installed \(openvino\)"):
        FrozenPart(_network(_FEATHER), exact)


def test_on_a_gpu_everything_stays_in_pytorch(caplog: pytest.LogCaptureFixture) -> None:
    on_gpu = Arithmetic(torch.device("cuda"), None, torch.amp.GradScaler("cpu", enabled=False))
    assert frozen_part(replace(_FEATHER, frozen_in_engine=True), _network(_FEATHER), on_gpu) is None
    assert "stays in PyTorch" in caplog.text
    assert frozen_part(_FEATHER, _network(_FEATHER), on_gpu) is None


def test_what_watches_inside_is_refused() -> None:
    data = DataConfig(sources=(PictureSource(images=Path("a")),))
    with pytest.raises(ConfigError, match=r"together with \[rounding\]"):
        TrainConfig(data=data, network=replace(_FEATHER, frozen_in_engine=True), rounding=RoundingConfig())
    hints = HintsConfig(model="a", pairs=(("front", "front"),))
    with pytest.raises(ConfigError, match=r"together with \[hints\]"):
        TrainConfig(data=data, network=replace(_FEATHER, frozen_in_engine=True), hints=hints)


def test_every_network_has_a_place_to_be_parted() -> None:
    places = [cut.parts for cut in cuts_of(Feather(channels=8, blocks=1))]
    assert places == [("front", "tail", "pyramid"), ("front",)]


@pytest.fixture
def run_config(tmp_path: Path) -> TrainConfig:
    scenes = draw_scenes(tmp_path / "scenes", count=4)
    source = PictureSource(images=scenes.parent / "images", annotations=scenes)
    return TrainConfig(
        data=DataConfig(sources=(source,), augment=AugmentOptions(size_px=64, base_px=64)),
        network=replace(_FEATHER, channels=8, blocks=1, freeze=("front", "tail", "pyramid"), frozen_in_engine=True),
        loss=LossConfig(kind="soft"),
        optimiser=OptimiserConfig(kind="adamw", rate=1e-3, schedule="cosine", ema=0.9),
        run=RunConfig(steps=4, batch=2, save_every=2, log_every=1, precision="f32", threads=1),
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
