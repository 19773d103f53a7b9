"""AP by stages runs on real images, and the last stage is the network itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featherpose.cli.main import run
from featherpose.errors import DatasetError
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.performance.stages import held_out


def test_stages_of_the_released_network(shared: Path, coco_val: Path, tmp_path: Path) -> None:
    checkpoint = shared / "models/human-pose-estimation-0001/human-pose-estimation-0001-fp16.safetensors"
    arguments = ["analyze", "stages", str(coco_val), "--checkpoint", str(checkpoint), "--limit", "6", "--height", "184"]
    arguments += ["--threads", "1", "--json", str(tmp_path / "stages.json"), "--plot", str(tmp_path / "stages.png")]
    assert run(arguments) == 0
    report = json.loads((tmp_path / "stages.json").read_text())
    assert [row["stage"] for row in report["stages"]] == ["initial stage", "refinement stage 1"]
    assert [row["published"] for row in report["stages"]] == [0.35, 0.428]
    assert [round(row["gmacs"], 2) for row in report["stages"]] == [5.52, 8.92]
    assert all(row["AP"] > 0.05 for row in report["stages"])
    assert (tmp_path / "stages.svg").stat().st_size > 1000


def test_held_out_images(coco_train: Path) -> None:
    dataset = read_coco_dataset(coco_train)
    held = held_out(dataset, 10)
    assert 0 < len(held.images) < len(dataset.images) / 5
    assert all(image.image_id % 10 == 0 for image in held.images)
    assert held_out(dataset, 1).images == dataset.images
    with pytest.raises(DatasetError, match="no image whose id"):
        held_out(dataset, 10**12)
