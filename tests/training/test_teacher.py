"""Distillation: the released network teaches on real images, labeled and not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.data.dataset import PoseDataset, teacher_file
from featherpose.data.teacher_maps import load_teacher_maps
from featherpose.errors import ConfigError
from featherpose.methods.heatmap import HEATMAP
from featherpose.methods.paf.method import PAF
from featherpose.skeleton import COCO_17, OPENPOSE_18
from featherpose.training.config import (
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    RunConfig,
    TeacherConfig,
    TopDownTeacherConfig,
    TrainConfig,
)
from featherpose.training.distillation.teacher import prepare_teacher
from featherpose.training.distillation.top_down import label_boxes
from featherpose.training.loop import load_images, train


def _some(source: Path, folder: Path, count: int) -> ImageFolder:
    """A data set of the first images with people."""
    data = json.loads((source / "annotations.json").read_text())
    people = {a["image_id"] for a in data["annotations"] if a.get("num_keypoints", 0) > 10}
    data["images"] = [image for image in data["images"] if image["id"] in people][:count]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    (folder / "images").mkdir(parents=True)
    for image in data["images"]:
        (folder / "images" / image["file_name"]).write_bytes((source / "images" / image["file_name"]).read_bytes())
    (folder / "annotations.json").write_text(json.dumps(data))
    return ImageFolder(images=folder / "images", annotations=folder / "annotations.json")


def test_released_network_teaches(coco_train: Path, released_int8: Path, tmp_path: Path) -> None:
    labeled = _some(coco_train, tmp_path / "labeled", 2)
    unlabeled = ImageFolder(images=_some(coco_train, tmp_path / "unlabeled", 1).images)
    config = TrainConfig(
        data=DataConfig(sources=(labeled, unlabeled), augment=AugmentOptions(size_px=96, flip=1.0)),
        network=NetworkConfig(arch="feather", channels=8, blocks=1),
        teacher=TeacherConfig(model=str(released_int8), long_sides_px=(320, 480)),
        loss=LossConfig(kind="soft"),
        optimizer=OptimizerConfig(kind="relative_adam", lr=1e-3, schedule="cosine"),
        run=RunConfig(steps=2, batch_size=3, precision="fp32"),
    )
    result = train(config, tmp_path / "run")
    assert result.loss is not None
    assert np.isfinite(result.loss)
    assert len(list((tmp_path / "run/teacher").glob("*.npz"))) == 3
    # A second pass finds everything done, even without the teacher.
    images, _ = load_images(config.data)
    gone = TeacherConfig(model="no such model", long_sides_px=(320, 480))
    assert prepare_teacher(gone, images, PAF, OPENPOSE_18, tmp_path / "run") == tmp_path / "run/teacher"


def test_teacher_and_labels_agree_where_people_are(coco_train: Path, released_int8: Path, tmp_path: Path) -> None:
    source = _some(coco_train, tmp_path / "labeled", 3)
    data = DataConfig(sources=(source,))
    images, _ = load_images(data)
    teacher = prepare_teacher(TeacherConfig(model=str(released_int8)), images, PAF, OPENPOSE_18, tmp_path)
    whole = AugmentOptions(
        size_px=480, min_scale=1, max_scale=1, rotation_deg=25, flip=0.5, person_centered=0, photometric=0
    )
    outputs = PAF.outputs(OPENPOSE_18, strides={"heatmaps": 4})
    taught = PoseDataset(images, OPENPOSE_18, method=PAF, outputs=outputs, augment=whole, teacher_folder=teacher)
    labeled = PoseDataset(images, OPENPOSE_18, method=PAF, outputs=outputs, augment=whole)
    for index in range(len(images)):
        mixed, truth = taught[index].target.values, labeled[index].target.values
        assert np.array_equal(taught[index].image, labeled[index].image)
        peaks = truth["heatmaps"] > 0.95
        assert mixed["heatmaps"][peaks].min() > 0.8  # labels survive the mixture
        limbs = np.abs(truth["pafs"]) > 0.7
        agree = np.sign(mixed["pafs"][limbs]) == np.sign(truth["pafs"][limbs])
        assert agree.mean() > 0.9


def test_teachers_of_another_method_or_skeleton_are_refused(
    coco_train: Path, released_int8: Path, tmp_path: Path
) -> None:
    images, _ = load_images(DataConfig(sources=(_some(coco_train, tmp_path / "labeled", 1),)))
    teacher = TeacherConfig(model=str(released_int8))
    with pytest.raises(ConfigError, match="has method paf; expected heatmap"):
        prepare_teacher(teacher, images, HEATMAP, COCO_17, tmp_path)
    with pytest.raises(ConfigError, match="has skeleton 'openpose_18'"):
        prepare_teacher(teacher, images, PAF, COCO_17, tmp_path)


def test_ensemble_is_the_mean_of_its_scales(coco_train: Path, released_int8: Path, tmp_path: Path) -> None:
    images, _ = load_images(DataConfig(sources=(_some(coco_train, tmp_path / "labeled", 1),)))
    (image,) = images
    longest = max(image.size)
    parts = {}
    for name, sides, scales in (("a", (320,), (1.0,)), ("b", (480,), (1.0,)), ("both", (320, 480), (1.0, 1.5))):
        teacher = TeacherConfig(
            model=str(released_int8), long_sides_px=sides, scales=scales, max_enlargement=500 / longest,
            folder=str(tmp_path / name),
        )  # fmt: skip
        folder = prepare_teacher(teacher, images, PAF, OPENPOSE_18, tmp_path)
        parts[name] = load_teacher_maps(teacher_file(folder, image.path))
    both = parts["both"][0].values["heatmaps"].astype(float)
    size = both.shape[:0:-1]
    larger = [cv2.resize(c, size, interpolation=cv2.INTER_AREA) for c in parts["b"][0].values["heatmaps"]]
    mean = (parts["a"][0].values["heatmaps"] + np.array(larger, float)) / 2
    assert np.abs(both - mean).max() <= 2
    # 720 pixels would enlarge the image too much: the second level is its own size alone.
    np.testing.assert_array_equal(parts["both"][1].values["pafs"], parts["b"][0].values["pafs"])
    with pytest.raises(ConfigError, match="other settings"):
        prepare_teacher(TeacherConfig(model=str(released_int8), folder=str(tmp_path / "a")), images, PAF, OPENPOSE_18,
                        tmp_path)  # fmt: skip


def test_boxes_get_the_labels_that_the_top_down_teacher_is_sure_of(coco_train: Path, tmp_path: Path) -> None:
    source = _some(coco_train, tmp_path / "labeled", 4)
    truth, _ = load_images(DataConfig(sources=(source,)))
    hidden = [
        dataclasses.replace(image, keypoints=image.keypoints[:0], areas=image.areas[:0],
                            ignore_boxes=_boxes(image.keypoints), crowds=np.zeros(len(image.keypoints), np.bool_))
        for image in truth if image.areas is not None
    ]  # fmt: skip
    config = TopDownTeacherConfig(min_box_px=40)
    labeled = label_boxes(config, hidden, OPENPOSE_18)
    offsets, found = [], 0
    for before, after, true in zip(hidden, labeled, truth, strict=True):
        assert len(after.ignore_boxes) <= len(before.ignore_boxes)
        assert after.areas is not None
        assert len(after.areas) == len(after.keypoints)
        for person in after.keypoints:
            assert np.isfinite(person[:, 0]).sum() >= config.min_keypoints
            extent = np.nanmax(true.keypoints, axis=(0, 1)).max()
            distance = np.linalg.norm(true.keypoints - person, axis=2)
            offsets.append(np.nanmin(np.nanmedian(distance, axis=1)) / extent)
            found += 1
    assert found >= 3
    assert np.median(offsets) < 0.05
    nobody = label_boxes(TopDownTeacherConfig(min_box_px=1e6), hidden, OPENPOSE_18)
    assert all(one is other for one, other in zip(nobody, hidden, strict=True))


def _boxes(people: np.ndarray) -> np.ndarray:
    low, high = np.nanmin(people, axis=1), np.nanmax(people, axis=1)
    return np.concatenate([low - 5, high + 5], axis=1).astype(np.float32)
