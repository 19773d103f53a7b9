"""Distillation: the released network teaches on real pictures, labelled and not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import PictureSource
from featherpose.data.dataset import PoseDataset, TargetOptions
from featherpose.skeleton import OPENPOSE_18
from featherpose.training.config import (
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    TeacherConfig,
    TrainConfig,
)
from featherpose.training.loop import load_pictures, train
from featherpose.training.teacher import prepare_teacher


def _some(source: Path, folder: Path, count: int) -> PictureSource:
    """A data set of the first pictures with people."""
    data = json.loads((source / "annotations.json").read_text())
    people = {a["image_id"] for a in data["annotations"] if a.get("num_keypoints", 0) > 10}
    data["images"] = [image for image in data["images"] if image["id"] in people][:count]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    (folder / "images").mkdir(parents=True)
    for image in data["images"]:
        (folder / "images" / image["file_name"]).write_bytes((source / "images" / image["file_name"]).read_bytes())
    (folder / "annotations.json").write_text(json.dumps(data))
    return PictureSource(images=folder / "images", annotations=folder / "annotations.json")


def test_released_network_teaches(coco_train: Path, released_int8: Path, tmp_path: Path) -> None:
    labelled = _some(coco_train, tmp_path / "labelled", 2)
    unlabelled = PictureSource(images=_some(coco_train, tmp_path / "unlabelled", 1).images)
    config = TrainConfig(
        data=DataConfig(sources=(labelled, unlabelled), augment=AugmentOptions(size_px=96, flip=1.0)),
        network=NetworkConfig(kind="feather", channels=8, blocks=1),
        teacher=TeacherConfig(model=str(released_int8), long_sides_px=(320, 480)),
        loss=LossConfig(kind="soft"),
        optimiser=OptimiserConfig(kind="relative_adam", rate=1e-3, schedule="cosine"),
        run=RunConfig(steps=2, batch=3, precision="f32"),
    )
    result = train(config, tmp_path / "run")
    assert result.loss is not None
    assert np.isfinite(result.loss)
    assert len(list((tmp_path / "run/teacher").glob("*.npz"))) == 3
    # A second pass finds everything done, even without the teacher.
    pictures, _ = load_pictures(config.data)
    gone = TeacherConfig(model="no such model")
    assert prepare_teacher(gone, pictures, OPENPOSE_18, tmp_path / "run") == tmp_path / "run/teacher"


def test_teacher_and_labels_agree_where_people_are(coco_train: Path, released_int8: Path, tmp_path: Path) -> None:
    source = _some(coco_train, tmp_path / "labelled", 3)
    data = DataConfig(sources=(source,))
    pictures, _ = load_pictures(data)
    teacher = prepare_teacher(TeacherConfig(model=str(released_int8)), pictures, OPENPOSE_18, tmp_path)
    whole = AugmentOptions(size_px=480, min_scale=1, max_scale=1, rotation_deg=25, flip=0.5, person_centred=0, light=0)
    targets = TargetOptions(heatmap_stride=4, background=False)
    taught = PoseDataset(pictures, OPENPOSE_18, augment=whole, targets=targets, teacher_folder=teacher)
    labelled = PoseDataset(pictures, OPENPOSE_18, augment=whole, targets=targets)
    for index in range(len(pictures)):
        mixed, truth = taught[index].maps, labelled[index].maps
        assert np.array_equal(taught[index].picture, labelled[index].picture)
        peaks = truth.heatmaps > 0.95
        assert mixed.heatmaps[peaks].min() > 0.8  # labels survive the mixture
        limbs = np.abs(truth.pafs) > 0.7
        agree = np.sign(mixed.pafs[limbs]) == np.sign(truth.pafs[limbs])
        assert agree.mean() > 0.9
