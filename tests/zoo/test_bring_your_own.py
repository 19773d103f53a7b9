"""Networks that people bring: recognized from their graphs, run by every engine, decoded to people."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherpose.errors import ConfigError, ModelError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.reference import box_suppression as reference
from featherpose.geometry import Letterbox
from featherpose.methods.boxes.box_rows import BOX_ROWS, BoxRowOptions
from featherpose.methods.boxes.box_suppression import suppress_boxes
from featherpose.methods.boxes.person_boxes import PERSON_BOX, PERSON_BOXES
from featherpose.methods.method import Method
from featherpose.methods.simcc import SIMCC
from featherpose.skeleton import COCO_17, Skeleton
from featherpose.tiling import TileOptions
from featherpose.topdown.person_estimator import open_person_estimator
from featherpose.topdown.topdown_options import RefineOptions
from featherpose.zoo.resolve import resolve_model


def _export(module: nn.Module, size: tuple[int, int], path: Path, names: list[str]) -> None:
    """Write an ONNX file that is bound to one size, as people's exports are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is announced to go
        torch.onnx.export(
            module, (torch.zeros(1, 3, *size),), path, input_names=["images"], output_names=names, opset_version=17,
            dynamo=False,
        )  # fmt: skip


def _people(count: int, seed: int) -> np.ndarray:
    """People in a row, far enough apart that no box hides another."""
    rng = np.random.default_rng(seed)
    center = np.stack((60 + 90 * np.arange(count), np.full(count, 160.0)), 1)
    return (center[:, None] + rng.uniform((-30, -90), (30, 90), (count, 17, 2))).astype(np.float32)


def _rows(people: np.ndarray, doubles: int, seed: int) -> np.ndarray:
    """Rows as a YOLO-pose network answers them: each person several times, the best one exact."""
    rng, rows = np.random.default_rng(seed), []
    for person in people:
        low, high = person.min(axis=0), person.max(axis=0)
        for number in range(1 + doubles):
            shift = 0 if number == 0 else rng.uniform(-3, 3, 2)
            points = np.column_stack([person + shift + 0.5, np.full(17, 0.9)])
            box = np.concatenate([(low + high) / 2 + shift + 0.5, high - low])
            rows.append(np.concatenate([box, [0.9 - 0.1 * number], points.ravel()]))
    rows += [np.concatenate([rng.uniform(0, 300, 4), [0.001], rng.uniform(0, 300, 51)]) for _ in range(100)]
    order = rng.permutation(len(rows))
    return np.asarray(rows, np.float32)[order].T[:, None]


def test_suppression_equals_the_reference() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 60):
        corners = rng.uniform(0, 60, (count, 2, 2)).astype(np.float32)
        boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
        scores = np.rint(rng.random(count) * 8).astype(np.float32)
        for limit in (0.0, 0.3, 0.7):
            assert suppress_boxes(boxes, scores, limit).tolist() == reference.suppress_boxes(boxes, scores, limit)


def test_rows_become_people_once() -> None:
    people = _people(4, 1)
    decode = BOX_ROWS.decoder(COCO_17, BOX_ROWS.outputs(COCO_17))
    letterbox = Letterbox.fit((480, 320), height=320, multiple=32)
    poses = decode({"rows": _rows(people, 3, 2)}, letterbox)
    assert len(poses) == 4
    for person in people:
        assert np.abs(poses.keypoints - person).max(axis=(1, 2)).min() < 1e-3
    assert (np.diff(poses.scores) <= 0).all()
    rows = _rows(people, 0, 2)
    rows[5 + 2 :: 3] = 0.01  # no keypoint is sure
    assert len(decode({"rows": rows}, letterbox)) == 0
    rows[:] = np.nan
    assert len(decode({"rows": rows}, letterbox)) == 0
    with pytest.raises(ModelError, match="at least 56 channels"):
        decode({"rows": rows[:50]}, letterbox)
    with pytest.raises(OptionError, match="max_overlap is 2"):
        BoxRowOptions(max_overlap=2)
    with pytest.raises(ConfigError, match="training for method yolo-pose"):
        BOX_ROWS.loss([], {}, {}, None, COCO_17, probabilities=True)


@pytest.mark.parametrize(("method", "skeleton"), [(BOX_ROWS, COCO_17), (SIMCC, COCO_17), (PERSON_BOXES, PERSON_BOX)])
def test_what_is_encoded_is_decoded(method: Method, skeleton: Skeleton) -> None:
    people = _people(1 if method is SIMCC else 4, 7)
    if skeleton == PERSON_BOX:
        people = np.stack((people.min(axis=1), people.max(axis=1)), axis=1)
    elif method is BOX_ROWS:
        people[0, 3] = np.nan
    outputs, size = method.outputs(skeleton), (480, 320)
    target = method.encode(people, np.empty((0, 4), np.float32), skeleton, size, outputs, method.Targets())
    poses = method.decoder(skeleton, outputs)(target.values, Letterbox.fit(size, height=320, multiple=32))
    assert len(poses) == len(people)
    assert np.isnan(poses.keypoints).sum() == np.isnan(people).sum()
    for person in people:
        assert np.nanmax(np.abs(poses.keypoints - person), axis=(1, 2)).min() < 0.3


class _Rows(nn.Module):
    """Answers the same rows for every image, moved by the image so that no engine can leave the image out."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(rows.reshape(1, len(rows), -1)))

    def forward(self, images: Tensor) -> Tensor:
        rows: Tensor = self.rows + 0 * images.mean()  # type: ignore[operator]
        return rows


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_export_of_one_size_runs(engine: str, tmp_path: Path) -> None:
    from featherpose.runtime.backend import EngineOptions

    people = _people(2, 3)
    path = tmp_path / "yolo.onnx"
    _export(_Rows(_rows(people, 1, 4)), (320, 320), path, ["output0"])
    resolved = resolve_model(path)
    assert resolved.spec.method is BOX_ROWS
    assert resolved.spec.fixed_size == (320, 320)
    image = np.full((640, 480, 3), 90, np.uint8)
    with PoseEstimator(str(path), engine=EngineOptions(engine=engine, precision="fp32"), refine="off") as estimator:
        assert estimator.height == 320
        poses = estimator(image)
    assert len(poses) == 2
    # The image fills half of the square: a pixel of the input is two of the image.
    expected = 2 * people + 0.5
    for person in expected:
        assert np.abs(poses.keypoints - person).max(axis=(1, 2)).min() < 0.1
    with (
        PoseEstimator(str(path), refine="off", tiles=TileOptions(columns=2, rows=1)) as estimator,
        pytest.raises(OptionError, match="bound to 320 x 320 pixels"),
    ):
        estimator(image)


class _Simcc(nn.Module):
    """Finds the brightest column and row of the crop, for every keypoint."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        bright = images.mean(dim=1)
        x = bright.amax(dim=1).repeat_interleave(2, dim=1)
        y = bright.amax(dim=2).repeat_interleave(2, dim=1)
        scale = bright.amax(dim=(1, 2))[:, None]
        return (x / scale)[:, None].expand(-1, 17, -1), (y / scale)[:, None].expand(-1, 17, -1)


def test_a_simcc_network_finds_the_bright_point_in_each_box(tmp_path: Path) -> None:
    path = tmp_path / "simcc.onnx"
    _export(_Simcc(), (256, 192), path, ["simcc_x", "simcc_y"])
    resolved = resolve_model(path)
    assert resolved.spec.method is SIMCC
    assert resolved.spec.crop is not None
    image = np.zeros((400, 400, 3), np.uint8)
    points = np.array([[100, 120], [300, 250]], np.float32)
    for x, y in points.astype(int):
        cv2.circle(image, (int(x), int(y)), 4, (255, 255, 255), -1)
    boxes = np.array([[40, 20, 160, 220], [230, 150, 380, 360]], np.float32)
    with open_person_estimator(resolved) as estimator:
        poses = estimator(image, boxes)
    assert np.abs(poses.keypoints[:, 0] - points).max() < 8
    with pytest.raises(ModelError, match="sees one person at a time"):
        PoseEstimator(str(path))


def test_a_graph_that_says_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    _export(nn.Conv2d(3, 4, 3), (32, 32), path, ["y"])
    with pytest.raises(ModelError, match="does not say what its outputs mean"):
        resolve_model(path)


@pytest.mark.slow
def test_published_files_are_recognized_and_find_people(shared: Path, coco_val: Path) -> None:
    models = shared / "models"
    image = cv2.imread(str(min((coco_val / "images").iterdir())))
    assert image is not None
    yolo = resolve_model(models / "yolov8n-pose/yolov8n-pose-int8.xml")
    assert (yolo.spec.method, yolo.spec.fixed_size, yolo.spec.pad_value) == (BOX_ROWS, (640, 640), 114)
    picodet = resolve_model(models / "picodet-s-320/picodet-s-320.xml")
    assert (picodet.spec.method, picodet.spec.squashed) == (PERSON_BOXES, True)
    tiny = resolve_model(models / "pp-tinypose/pp-tinypose-128x96.xml")
    assert tiny.spec.crop is not None
    assert (tiny.spec.crop.width, tiny.spec.crop.height, tiny.spec.outputs[0].origin_px) == (96, 128, 0)
    with PoseEstimator(yolo, refine="off") as estimator:
        found = estimator(image)
    refine = RefineOptions(mode="all", model=tiny.path)
    with PoseEstimator(picodet, refine=refine) as estimator:
        assert estimator.skeleton == COCO_17
        topdown = estimator(image)
    with PoseEstimator(picodet, refine="off") as estimator:
        boxes = estimator(image)
    assert boxes.skeleton == PERSON_BOX
    assert len(found) > 0
    assert 0 < len(topdown) <= len(boxes)
    # Two networks of different makers agree about where the best person is.
    distances = np.linalg.norm(np.nanmean(found.keypoints, axis=1) - np.nanmean(topdown.keypoints[0], axis=0), axis=1)
    assert np.nanmin(distances) < 0.1 * max(image.shape)
