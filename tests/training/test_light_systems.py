"""The light forms of the slides' systems: from the shipped configuration to an exported model that finds somebody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.data.coco import ImageFolder
from featherpose.errors import ConfigError
from featherpose.estimator import PoseEstimator
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.topdown.person_estimator import open_person_estimator
from featherpose.training.config import TrainConfig, load_config
from featherpose.training.loop import train
from featherpose.zoo.resolve import resolve_model

_CONFIGS = Path(__file__).parents[2] / "src/featherpose/training/configs"


def _short(name: str, photograph: ImageFolder) -> TrainConfig:
    """The shipped configuration on one photograph, for a few steps."""
    config = load_config(_CONFIGS / f"{name}.toml")
    augment = replace(
        config.data.augment, rotation_deg=0.0, flip=0.0, photometric=0.0, blur=0.0, gray=0.0, center_jitter=0.0
    )
    # Views of equal difficulty, so that losses of different steps can be compared.
    crops = config.data.crops and replace(config.data.crops, shift=0.0, scale=0.0, rotation_deg=0.0, flip=0.0)
    data = replace(config.data, sources=(photograph,), validation=photograph, augment=augment, crops=crops, workers=0)
    return replace(
        config,
        data=data,
        optimizer=replace(config.optimizer, warmup=1, ema=0.0),
        run=replace(config.run, steps=12, batch_size=4, log_every=4, save_every=100, validate_every=0),
    )


@pytest.mark.parametrize(
    "name",
    [
        "deeppose", "associative-embedding", "person-detector", "multiposenet", "mask-rcnn",
        *(
            pytest.param(name, marks=pytest.mark.thorough)
            for name in ("hourglass", "g-rmi", "cpn", "cfn", "paf", "rmpe")
        ),
    ],
)  # fmt: skip
def test_configuration_trains_exports_and_runs(
    name: str, photograph: ImageFolder, astronaut: np.ndarray, tmp_path: Path
) -> None:
    config = _short(name, photograph)
    result = train(config, tmp_path / "run")
    log = (tmp_path / "run/log.csv").read_text().splitlines()
    losses = [float(line.split(",")[3]) for line in log if ",train,loss," in line]
    assert losses[-1] < losses[0]
    assert result.metric is not None
    exported = export_checkpoint(
        ExportRequest(
            checkpoint=tmp_path / "run/best.safetensors", output=tmp_path / "model", images=photograph.images,
            height=config.run.validation_height,
        )
    )  # fmt: skip
    assert exported.network == f"{name}-light"
    resolved = resolve_model(tmp_path / "model/best.xml")
    assert resolved.spec.method is config.method
    if resolved.spec.crop is None:
        with PoseEstimator(resolved, height=config.run.validation_height, refine="off") as estimator:
            poses = estimator(astronaut)
    else:
        with open_person_estimator(resolved) as person:
            poses = person(astronaut, np.array([[60, 20, 410, 500]], np.float32))
        assert len(poses) == 1
    assert poses.image_size == (512, 512)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("person-detector", {"run.validation_metric": "'ap'"}, "validation_metric 'ap' for person-detector-light"),
        ("multiposenet", {"run.validation_metric": "'box_ap50'"}, "expected 'ap' or 'pck'"),
        ("mask-rcnn", {"data.mosaic": "0.5"}, "views of whole images"),
        ("multiposenet", {"teacher.model": "'human-pose-estimation-0001'"}, "annotated boxes alone"),
    ],
)
def test_what_boxes_cannot_learn_from_is_refused(name: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(_CONFIGS / f"{name}.toml", overrides=changes)
