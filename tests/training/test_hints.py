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
from featherpose.data.coco import PictureSource
from featherpose.errors import ConfigError
from featherpose.nn.checkpoints import save_network
from featherpose.nn.feather import Feather
from featherpose.nn.feather_front import FrontShape
from featherpose.training.checkpoint import load_state
from featherpose.training.config import (
    DataConfig,
    HintsConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
    config_from_dict,
)
from featherpose.training.hints import FeatureHints
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
            sources=(PictureSource(images=tmp_path / "photos"),), augment=AugmentOptions(size_px=64, base_px=256)
        ),
        network=NetworkConfig(kind="feather", channels=8, blocks=1, freeze=("tail", "pyramid", "keypoints", "pafs")),
        hints=HintsConfig(model=str(teacher), pairs=_PAIR),
        loss=LossConfig(kind="hints"),
        optimiser=OptimiserConfig(kind="adamw", rate=3e-3, weight_decay=0.0),
        run=RunConfig(steps=12, batch=2, log_every=1, save_every=12, threads=1, precision="f32"),
    )


def test_front_comes_to_say_what_the_teacher_says(run: TrainConfig, tmp_path: Path) -> None:
    train(run, tmp_path / "run")
    _, losses = read_log(tmp_path / "run" / "log.csv", "train", "hints")
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_projections_are_trained_kept_and_resumed(run: TrainConfig, tmp_path: Path) -> None:
    other = replace(run, hints=HintsConfig(model=run.hints.model if run.hints else "", pairs=(
        ("front.entry", "front.block"),)))  # fmt: skip
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
        FeatureHints(HintsConfig(model=str(teacher), pairs=(("front.exit", "front.entry"),)), student)
    with pytest.raises(ConfigError, match=r"'tail' of the teacher gives no map"):
        FeatureHints(HintsConfig(model=str(teacher), pairs=(("front.entry", "tail"),)), student)
    with pytest.raises(ConfigError, match=r"no table \[hints\]"):
        config_from_dict({"data": {"sources": [{"images": "photos"}]}, "loss": {"kind": "hints"}})


def test_different_sizes_meet(teacher: Path) -> None:
    student = Feather(channels=8, blocks=1).eval()
    hints = FeatureHints(HintsConfig(model=str(teacher), pairs=(("front.block", "front.entry"),)), student)
    pictures = torch.rand(1, 3, 64, 96) * 255
    student(pictures)
    assert hints(pictures).item() > 0
    assert json.dumps([type(p).__name__ for p in hints.projections]) == '["Conv2d"]'
