"""Learning a teacher's inner features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.errors import ConfigError
from featherpose.nn.checkpoints import save_network
from featherpose.nn.feather import Feather
from featherpose.nn.feather_front import FrontShape
from featherpose.training.checkpoint import load_state
from featherpose.training.config import (
    DataConfig,
    FeatureDistillationConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    config_from_dict,
)
from featherpose.training.distillation.features import FeatureDistillation
from featherpose.training.logs import read_log
from featherpose.training.loop import train

_PAIR = (("front.entry", "front.entry"),)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_network(tmp_path / "teacher.safetensors", Feather(channels=8, blocks=1), "feather")
    return tmp_path / "teacher.safetensors"


@pytest.fixture
def run(teacher: Path, astronaut: np.ndarray, tmp_path: Path) -> TrainConfig:
    """Features alone, on a photograph without labels."""
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "astronaut.png"), astronaut)
    return TrainConfig(
        data=DataConfig(
            sources=(ImageFolder(images=tmp_path / "photos"),), augment=AugmentOptions(size_px=64, base_px=256)
        ),
        network=NetworkConfig(arch="feather", channels=8, blocks=1, freeze=("tail", "pyramid", "keypoints", "pafs")),
        feature_distillation=FeatureDistillationConfig(model=str(teacher), pairs=_PAIR),
        loss=LossConfig(kind="none"),
        optimizer=OptimizerConfig(kind="adamw", lr=3e-3, weight_decay=0.0),
        run=RunConfig(steps=12, batch_size=2, log_every=1, save_every=12, threads=1, precision="fp32"),
    )


def test_front_learns_the_features_of_the_teacher(run: TrainConfig, tmp_path: Path) -> None:
    train(run, tmp_path / "run")
    _, losses = read_log(tmp_path / "run" / "log.csv", "train", "features")
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_projections_are_trained_kept_and_resumed(run: TrainConfig, tmp_path: Path) -> None:
    assert run.feature_distillation is not None
    pairs = (("front.entry", "front.block"),)
    other = replace(run, feature_distillation=replace(run.feature_distillation, pairs=pairs))
    train(other, tmp_path / "whole")
    short = replace(other, run=replace(other.run, save_every=6))
    with pytest.raises(KeyboardInterrupt):
        train(short, tmp_path / "cut", on_step=_stop_at(8))
    train(short, tmp_path / "cut", resume=True)
    whole, cut = (load_state(tmp_path / name / "last.pt")["network"] for name in ("whole", "cut"))
    projected = [name for name in whole if "projections" in name]
    assert projected
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=0, atol=0)


def _stop_at(step: int) -> Callable[[int, float], None]:
    def stop(done: int, _: float) -> None:
        if done == step:
            raise KeyboardInterrupt

    return stop


def test_parts_that_do_not_exist_are_named(teacher: Path) -> None:
    student = Feather(channels=8, blocks=1, front=FrontShape(stem=16))
    with pytest.raises(ConfigError, match=r"the network has no part 'front.exit'"):
        FeatureDistillation(
            FeatureDistillationConfig(model=str(teacher), pairs=(("front.exit", "front.entry"),)), student
        )
    with pytest.raises(ConfigError, match=r"'tail' of the teacher gives no map"):
        FeatureDistillation(FeatureDistillationConfig(model=str(teacher), pairs=(("front.entry", "tail"),)), student)
    with pytest.raises(ConfigError, match=r"no table \[feature_distillation\]"):
        config_from_dict({"data": {"sources": [{"images": "photos"}]}, "loss": {"kind": "none"}})


def test_different_sizes_meet(teacher: Path) -> None:
    student = Feather(channels=8, blocks=1).eval()
    distance = FeatureDistillation(
        FeatureDistillationConfig(model=str(teacher), pairs=(("front.block", "front.entry"),)), student
    )
    images = torch.rand(1, 3, 64, 96) * 255
    student(images)
    assert distance(images).item() > 0
    assert json.dumps([type(p).__name__ for p in distance.projections]) == '["Conv2d"]'
