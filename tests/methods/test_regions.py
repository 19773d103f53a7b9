"""Boxes and the keypoints in them: RoIAlign, the choice of people, losses, and people to rows and back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.reference import roi_align as reference
from featherpose.geometry import Letterbox
from featherpose.methods.boxes.box_targets import BoxTargets
from featherpose.methods.method import Method
from featherpose.methods.regions.mask import MASK
from featherpose.methods.regions.one_hot_loss import region_loss
from featherpose.methods.regions.places import PlaceOptions
from featherpose.methods.regions.residual import RESIDUAL
from featherpose.nn.layers.roi_align import roi_align
from featherpose.nn.outputs import BoxRows
from featherpose.nn.trunk.people import best_people, highest_cells
from featherpose.skeleton import COCO_17
from featherpose.training.config import LossConfig

_NO_BOXES = np.empty((0, 4), np.float32)


def _people(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle = np.stack((70 + 120 * np.arange(count), rng.uniform(120, 180, count)), axis=1)
    return (middle[:, None] + rng.uniform(-45, 45, (count, 17, 2))).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_roi_align_equals_the_reference(samples: int) -> None:
    rng = np.random.default_rng(samples)
    features = rng.normal(size=(2, 3, 9, 13)).astype(np.float32)
    boxes = rng.uniform(-20, 70, (2, 4, 4)).astype(np.float32)
    boxes[..., 2:] = boxes[..., :2] + rng.uniform(1, 60, (2, 4, 2))
    found = roi_align(torch.from_numpy(features), torch.from_numpy(boxes), 4, (5, 7), samples=samples).numpy()
    assert found.shape == (2, 4, 3, 5, 7)
    for image in range(2):
        for box in range(4):
            expected = reference.roi_align(features[image], tuple(boxes[image, box].tolist()), 4, (5, 7), samples)
            np.testing.assert_allclose(found[image, box], expected, atol=1e-4)


def test_exported_roi_align_takes_any_size(tmp_path: Path) -> None:
    runtime = pytest.importorskip("openvino")

    class Cut(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            boxes = torch.tensor([[[8.0, 4.0, 30.0, 26.0]]]) + 0 * features[:, :1, 0, :1]
            return roi_align(features, boxes, 4, (5, 7)).flatten(1, 2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is announced to go
        torch.onnx.export(
            Cut(), (torch.zeros(1, 3, 13, 17),), tmp_path / "cut.onnx", input_names=["features"], opset_version=17,
            dynamic_axes={"features": {2: "rows", 3: "columns"}}, dynamo=False,
        )  # fmt: skip
    compiled = runtime.Core().compile_model(tmp_path / "cut.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    features = torch.rand(1, 3, 9, 11)
    np.testing.assert_allclose(compiled([features.numpy()])[0], Cut()(features), atol=1e-4)


def test_best_people_are_those_that_no_better_one_covers() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 80, (200, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (200, 2)).astype(np.float32)], axis=1)
    scores = rng.permutation(200).astype(np.float32) / 200
    found = best_people(BoxRows(torch.from_numpy(boxes)[None, None], torch.from_numpy(scores)[None, None, :, None]), 10)

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
        return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))

    order = np.argsort(-scores)
    kept = [i for n, i in enumerate(order) if all(overlap(boxes[i], boxes[j]) <= 0.6 for j in order[:n])][:10]
    np.testing.assert_allclose(found.scores[0, 0, :, 0], scores[kept])
    np.testing.assert_allclose(found.boxes[0, 0], boxes[kept])


@pytest.mark.parametrize("method", [MASK, RESIDUAL], ids=lambda m: m.name)
def test_what_is_encoded_is_decoded(method: Method) -> None:
    people, size = _people(4, 1), (512, 320)
    people[2, 5] = np.nan
    outputs = method.outputs(COCO_17)
    target = method.encode(people, _NO_BOXES, COCO_17, size, outputs, method.Targets())
    poses = method.decoder(COCO_17, outputs)(target.values, Letterbox.fit(size, height=320, multiple=32))
    assert len(poses) == 4
    assert np.isnan(poses.keypoints).sum() == 2
    for person in people:
        assert np.nanmax(np.abs(poses.keypoints - person), axis=(1, 2)).min() < 3.1


def test_heatmaps_are_unknown_in_boxes_without_keypoints() -> None:
    people = np.full((2, 17, 2), np.nan, np.float32)
    people[0] = 20
    boxes = np.array([[8, 8, 31, 31], [40, 8, 63, 31]], np.float32)
    outputs = RESIDUAL.outputs(COCO_17)
    target = RESIDUAL.encode_in_boxes(people, boxes, _NO_BOXES, COCO_17, (64, 64), outputs, BoxTargets())
    assert target.values["scores"].sum() == 2
    assert target.masks["heatmaps"][4, 4] == 1
    assert target.masks["heatmaps"][4, 12] == 0
    everywhere = np.array([[0, 0, 63, 63]], np.float32)
    incomplete = RESIDUAL.encode_in_boxes(people, boxes, everywhere, COCO_17, (64, 64), outputs, BoxTargets())
    assert incomplete.masks["heatmaps"].sum() == 36


@pytest.mark.parametrize("method", [MASK, RESIDUAL], ids=lambda m: m.name)
def test_right_maps_cost_least(method: Method) -> None:
    people, size = _people(2, 3), (256, 256)
    outputs = method.outputs(COCO_17)
    target = method.encode(people, _NO_BOXES, COCO_17, size, outputs, method.Targets())
    values = {name: torch.from_numpy(value)[None] for name, value in target.values.items()}
    masks = {name: torch.from_numpy(mask)[None, None] for name, mask in target.masks.items()}
    regions = values["boxes"][0, 0, :2]
    cells = values["places"][0, 0, :2].reshape(2, 17, 3)
    part = (cells[..., :2] - regions[:, None, :2]) / (regions[:, None, 2:] - regions[:, None, :2])
    right = torch.zeros(2, 17, 8, 8)
    for person in range(2):
        for k in range(17):
            x, y = (part[person, k] * 8).long().tolist()
            right[person, k, y, x] = 12
    count = 32 * 32 + 16 * 16 + 8 * 8
    stage = {
        "boxes": torch.rand(1, 1, count, 4) + torch.tensor([0.0, 0, 30, 30]),
        "scores": torch.full((1, 1, count, 1), 0.1),
        "regions": regions, "images": torch.zeros(2, dtype=torch.long), "rows": torch.arange(2),
        "heatmaps": values.get("heatmaps", torch.zeros(1)).clamp(0.01, 0.99),
    }  # fmt: skip
    losses = []
    for logits in (right, right.roll(1, 3), torch.zeros_like(right)):
        total, parts = method.loss(
            [{**stage, "logits": logits}], values, masks, LossConfig(kind="soft"), COCO_17, probabilities=True
        )
        losses.append(float(parts["keypoints"]))
        assert torch.isfinite(total)
    assert losses[0] < 0.01 < losses[2] < losses[1]


def test_keypoints_outside_of_a_box_are_not_learned() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    points = torch.tensor([[[50.0, 2.0, 1.0], [2.0, 2.0, 0.0]]])
    assert float(region_loss(logits, torch.tensor([[0.0, 0, 4, 4]]), points)) == 0


def test_places_come_back_from_maps() -> None:
    maps = torch.rand(2, 3, 5, 6, 4)
    boxes = torch.tensor([10.0, 20, 50, 80]).expand(2, 3, 4)
    places = highest_cells(maps, boxes).reshape(2, 3, 5, 3)
    best = maps.flatten(3).argmax(3)
    torch.testing.assert_close(places[..., 0], 10 + 40 * (best % 4 + 0.5) / 4)
    torch.testing.assert_close(places[..., 1], 20 + 60 * (best // 4 + 0.5) / 6)
    torch.testing.assert_close(places[..., 2], maps.flatten(3).amax(3))


def test_rows_that_do_not_fit_are_refused() -> None:
    decode = MASK.decoder(COCO_17, MASK.outputs(COCO_17))
    rows = {"boxes": np.zeros((1, 3, 4), np.float32), "scores": np.zeros((1, 3, 1), np.float32)}
    letterbox = Letterbox.fit((64, 64), height=64, multiple=32)
    with pytest.raises(ModelError, match="51 numbers in a row of places"):
        decode({**rows, "places": np.zeros((1, 3, 50), np.float32)}, letterbox)
    assert len(decode({**rows, "places": np.zeros((1, 3, 51), np.float32)}, letterbox)) == 0
    bad = np.full((1, 3, 51), np.nan, np.float32)
    assert len(decode({**rows, "scores": rows["scores"] + 1, "places": bad}, letterbox)) == 0
    with pytest.raises(OptionError, match="max_overlap is 3"):
        PlaceOptions(max_overlap=3)
