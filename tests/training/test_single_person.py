"""Single-person heatmaps from a photograph with labels to an exported model that finds the person again."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from astronaut_labels import ASTRONAUT_KEYPOINTS

from featherpose.cli.main import run
from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.errors import OptionError
from featherpose.estimator import PoseEstimator
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.formats.jsonl import read_jsonl
from featherpose.nn.checkpoints import load_network
from featherpose.skeleton import COCO_17
from featherpose.training.config import DataConfig, LossConfig, NetworkConfig, OptimizerConfig, RunConfig, TrainConfig
from featherpose.training.loop import load_images, train
from featherpose.training.networks import build_network


@pytest.fixture
def config(photograph: ImageFolder) -> TrainConfig:
    """A run that learns one photograph by heart."""
    augment = AugmentOptions(
        size_px=96, base_px=96, min_scale=0.95, max_scale=1.1, rotation_deg=8, flip=0, center_jitter=0.02,
        photometric=0.2, blur=0, gray=0,
    )  # fmt: skip
    return TrainConfig(
        data=DataConfig(
            sources=(photograph,), skeleton="coco_17", validation=photograph, augment=augment, person_regions=1.6
        ),
        network=NetworkConfig(arch="single-person", channels=16, blocks=1),
        loss=LossConfig(kind="soft"),
        optimizer=OptimizerConfig(kind="adamw", lr=1e-2, schedule="cosine", warmup=5, grad_clip=5.0),
        run=RunConfig(
            steps=150, batch_size=6, log_every=10, save_every=150, precision="fp32", validation_height=96,
            validation_metric="pck",
        ),
    )  # fmt: skip


def test_a_photograph_is_learned_exported_and_read_again(config: TrainConfig, tmp_path: Path) -> None:
    result = train(config, tmp_path / "run")
    assert result.metric is not None
    assert result.metric > 0.8
    exported = export_checkpoint(
        ExportRequest(
            checkpoint=tmp_path / "run/best.safetensors",
            output=tmp_path / "model",
            images=tmp_path / "photos",
            height=96,
        )
    )
    assert exported.network == "single-person"
    (sample,), _ = load_images(config.data)
    assert sample.region is not None
    left, top, right, bottom = sample.region
    image = cv2.imread(str(sample.path))
    assert image is not None
    with PoseEstimator(str(tmp_path / "model/best.xml"), quality="fast", height=96) as estimator:
        poses = estimator(np.ascontiguousarray(image[top:bottom, left:right]))
    assert len(poses) == 1
    known = [COCO_17.keypoints.index(name) for name in ASTRONAUT_KEYPOINTS]
    found = poses.keypoints[0, known] + np.array([left, top])
    distances = np.linalg.norm(found - np.array(list(ASTRONAUT_KEYPOINTS.values())), axis=1)
    assert np.nanmedian(distances) < 12
    unknown = [k for k in range(17) if k not in known]
    assert np.isnan(poses.keypoints[0, unknown]).all()


def test_weights_come_back_and_frozen_parts_run_in_the_engine(config: TrainConfig, tmp_path: Path) -> None:
    from dataclasses import replace

    short = replace(config, run=replace(config.run, steps=2, log_every=1, threads=1))
    train(short, tmp_path / "run")
    start = str(tmp_path / "run/best.safetensors")
    assert load_network(Path(start)).method.name == "heatmap"
    frozen = replace(
        short.network, init_from=start, freeze=("stem", "encoder"), frozen_in_engine=True
    )  # fmt: skip
    plain = replace(frozen, frozen_in_engine=False)
    losses = [
        train(replace(short, network=network), tmp_path / name).loss
        for name, network in (("engine", frozen), ("plain", plain))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_options_of_other_networks_are_refused() -> None:
    with pytest.raises(OptionError, match="refinements 2 for single-person"):
        build_network(NetworkConfig(arch="single-person", refinements=2), COCO_17)


def test_the_shipped_configuration_by_the_commands(
    photograph: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labeled/images").mkdir(parents=True)
    assert photograph.annotations is not None
    Path("labeled/annotations.json").write_bytes(Path(photograph.annotations).read_bytes())
    Path("labeled/images/1.png").write_bytes((photograph.images / "1.png").read_bytes())
    folder = '{ images = "labeled/images", annotations = "labeled/annotations.json" }'
    settings = (
        f"data.sources=[{folder}]", f"data.validation={folder}", "data.workers=0", "data.augment.size_px=128",
        "data.augment.width_px=96", "data.augment.base_px=128", "run.steps=3", "run.batch_size=2",
        "run.validate_every=3", "run.validation_height=128", "run.threads=1", "optimizer.warmup=1",
    )  # fmt: skip
    overrides = [word for setting in settings for word in ("--set", setting)]
    at = ["--height", "128"]
    assert run(["train", "single-person", "--out", "run", *overrides]) == 0
    assert run(["export", "run/best.safetensors", "-o", "model", "--images", "labeled/images", *at]) == 0
    int8 = ["quantize", "model/best.xml", "--calibration", "labeled", "-o", "int8.xml", "--min-agreement", "0"]
    assert run([*int8, "--images", "1", "--max-drop", "1", *at]) == 0
    capsys.readouterr()
    for model in ("model/best.xml", "int8.xml"):
        assert run(["evaluate", "labeled", "--model", model, "--json", "ap.json", *at]) == 0
        assert json.loads(Path("ap.json").read_text())["images"] == 1
        assert run(["predict", "labeled/images/1.png", "--model", model, "--jsonl", "poses.jsonl", "-q", *at]) == 0
        (record,) = read_jsonl("poses.jsonl", COCO_17)
        assert len(record.poses) <= 1
