"""Single-person heatmaps: the kernel against its reference, targets, losses, and the way back to pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.reference import heatmap as reference
from featherpose.geometry import Letterbox
from featherpose.methods import METHODS, method_named
from featherpose.methods.heatmap import HEATMAP, HeatmapOptions, HeatmapTargets
from featherpose.methods.maxima import find_maxima
from featherpose.skeleton import COCO_17, Skeleton
from featherpose.training.config import LossConfig

_NOBODY = np.empty((0, 17, 2), np.float32)
_NO_BOXES = np.empty((0, 4), np.float32)


def _people(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    return rng.uniform((8, 8), (size[0] - 8, size[1] - 8), (count, 17, 2)).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0, 0.4, 1.0, 1.5])
@pytest.mark.parametrize("subcell", [True, False])
def test_kernel_equals_the_reference(subcell: bool, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 7), (2, 3), (12, 9), (64, 48)):
        noise = rng.random((6, height, width)).astype(np.float32)
        noise[1] = np.rint(noise[1] * 4) / 4  # ties: the first cell in reading order
        noise[2] *= -1
        noise[3] = np.nan
        noise[4, 0] = np.nan
        noise[5] = 0
        for kept in (6, 3):
            positions, scores = find_maxima(noise, kept, subcell=subcell, smoothing=smoothing)
            expected, heights = reference.find_maxima(noise, kept, subcell=subcell, smoothing=smoothing)
            np.testing.assert_allclose(positions, expected, atol=1e-4)
            np.testing.assert_allclose(scores, heights, rtol=1e-6)


def test_smoothing_finds_the_place_of_a_noisy_hill() -> None:
    rng = np.random.default_rng(2)
    x, y = np.meshgrid(np.arange(32), np.arange(48))
    places = rng.uniform(6, 26, (200, 2))
    hills = np.exp(-((x - places[:, :1, None]) ** 2 + (y - places[:, 1:, None]) ** 2) / 18)
    noisy = (0.5 * hills + rng.normal(0, 0.02, hills.shape)).astype(np.float32)
    errors, heights = {}, []
    for smoothing in (0.0, 1.0, 1.5):
        found, scores = find_maxima(noisy, len(noisy), smoothing=smoothing)
        errors[smoothing] = np.linalg.norm(found - places, axis=1).mean()
        heights.append(scores)
    assert errors[1.5] < errors[1.0] < 0.7 * errors[0.0]
    np.testing.assert_array_equal(heights[0], heights[2])  # scores are heights of the maps as they are


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_positions_of_gaussians_are_exact(stride: int) -> None:
    rng = np.random.default_rng(1)
    size = 192, 256
    outputs = HEATMAP.outputs(COCO_17, strides={"heatmaps": stride})
    decode = HEATMAP.decoder(COCO_17, outputs)
    for _ in range(20):
        person = _people(rng, 1, size)
        target = HEATMAP.encode(person, _NO_BOXES, COCO_17, size, outputs, HeatmapTargets(sigma_px=2 * stride))
        poses = decode(target.values, Letterbox.fit(size, height=size[1], multiple=32))
        inside = ((person[0] > stride) & (person[0] < np.array(size) - 1 - stride)).all(axis=1)
        assert np.abs(poses.keypoints[0] - person[0])[inside].max() < 0.02
        assert poses.keypoint_scores.min() > 0.8


def test_pixels_are_those_of_the_source_image() -> None:
    letterbox = Letterbox.fit((640, 480), height=240, multiple=32)
    heatmaps = np.zeros((17, 64, 80), np.float32)
    heatmaps[:, 20, 30] = 0.9
    poses = HEATMAP.decoder(COCO_17, HEATMAP.outputs(COCO_17))({"heatmaps": heatmaps}, letterbox)
    expected = letterbox.inverse(np.array([[30 * 4 + 1.5, 20 * 4 + 1.5]], np.float32))
    np.testing.assert_allclose(poses.keypoints[0], np.repeat(expected, 17, axis=0), atol=1e-3)
    assert poses.image_size == (640, 480)


def test_faint_keypoints_are_missing_and_of_nothing_comes_nobody() -> None:
    letterbox = Letterbox.fit((64, 64), height=64, multiple=32)
    heatmaps = np.full((18, 16, 16), 0.01, np.float32)
    heatmaps[17] = 1  # a channel that the method does not read
    decode = HEATMAP.decoder(COCO_17, HEATMAP.outputs(COCO_17), HeatmapOptions(min_score=0.3))
    assert len(decode({"heatmaps": heatmaps}, letterbox)) == 0
    heatmaps[3, 4, 5] = 0.4
    heatmaps[4, 4, 5] = 0.8
    poses = decode({"heatmaps": heatmaps}, letterbox)
    assert np.flatnonzero(np.isfinite(poses.keypoints[0, :, 0])).tolist() == [3, 4]
    assert poses.scores[0] == pytest.approx(0.6)
    strict = HEATMAP.decoder(COCO_17, HEATMAP.outputs(COCO_17), HeatmapOptions(min_score=0.3, min_keypoints=3))
    assert len(strict({"heatmaps": heatmaps}, letterbox)) == 0
    no_score = HEATMAP.decoder(COCO_17, HEATMAP.outputs(COCO_17), HeatmapOptions(min_score=0))
    assert len(no_score({"heatmaps": np.full((17, 4, 4), np.nan, np.float32)}, letterbox)) == 0


def test_targets_are_of_the_first_person_alone() -> None:
    rng = np.random.default_rng(2)
    people, outputs = _people(rng, 3, (96, 128)), HEATMAP.outputs(COCO_17)
    arguments = COCO_17, (96, 128), outputs, HeatmapTargets()
    boxes = np.array([[0, 0, 40, 40]], np.float32)
    crowd, alone = (HEATMAP.encode(p, boxes, *arguments) for p in (people, people[:1]))
    assert np.array_equal(crowd.values["heatmaps"], alone.values["heatmaps"])
    assert crowd.masks["heatmaps"].min() == 1
    empty = HEATMAP.encode(_NOBODY, boxes, *arguments)
    assert empty.values["heatmaps"].max() == 0
    assert (empty.masks["heatmaps"].min(), empty.masks["heatmaps"].max()) == (0, 1)


def test_labels_outrank_the_teacher() -> None:
    rng = np.random.default_rng(3)
    people, outputs = _people(rng, 1, (96, 128)), HEATMAP.outputs(COCO_17)
    people[0, 5] = np.nan
    teacher = HEATMAP.encode(people + 6, _NO_BOXES, COCO_17, (96, 128), outputs, HeatmapTargets()).values
    teacher = {"heatmaps": np.array(teacher["heatmaps"])}
    teacher["heatmaps"][5, 3, 3] = 0.9
    mixed = HEATMAP.merge(teacher, people, COCO_17, (96, 128), outputs, HeatmapTargets(), scale=0.7)
    truth = HEATMAP.encode(people, _NO_BOXES, COCO_17, (96, 128), outputs, HeatmapTargets())
    for k in range(17):
        expected = truth if k != 5 else mixed
        assert mixed.values["heatmaps"][k].argmax() == expected.values["heatmaps"][k].argmax()
    assert mixed.values["heatmaps"][5, 3, 3] == pytest.approx(0.9)


@pytest.mark.parametrize(("kind", "probabilities"), [("l2", True), ("soft", True), ("soft", False)])
def test_losses_vanish_at_the_truth_and_ignore_masked_cells(kind: str, probabilities: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    values = {"heatmaps": 0.1 + 0.8 * torch.rand(2, 17, 8, 6, generator=rng)}
    mask = torch.ones(2, 1, 8, 6)
    mask[:, :, :4] = 0
    answer = values["heatmaps"].clone()
    answer[:, :, :4] = 0.5
    config = LossConfig(kind=kind)  # type: ignore[arg-type]

    def loss(found: torch.Tensor) -> float:
        total, parts = HEATMAP.loss(
            [{"heatmaps": found}], values, {"heatmaps": mask}, config, COCO_17, probabilities=probabilities
        )
        assert set(parts) == {"heatmaps_0"}
        return float(total)

    assert loss(answer) == pytest.approx(0, abs=1e-5)
    assert loss((answer + 0.2).clamp(max=0.99)) > 0.01


def test_the_method_is_listed_and_refuses_what_is_not_its_own() -> None:
    assert method_named("heatmap") is HEATMAP
    assert HEATMAP in METHODS
    assert HEATMAP.recognize(["heatmaps"]) is None
    with pytest.raises(OptionError, match="no output 'pafs'"):
        HEATMAP.outputs(COCO_17, strides={"pafs": 8})
    paf = method_named("paf")
    with pytest.raises(OptionError, match="heatmaps alone"):
        HEATMAP.decoder(COCO_17, paf.outputs(COCO_17))
    with pytest.raises(OptionError, match="HeatmapOptions"):
        HEATMAP.decoder(COCO_17, HEATMAP.outputs(COCO_17), paf.Options())
    decode = HEATMAP.decoder(COCO_17, HEATMAP.outputs(COCO_17))
    with pytest.raises(ModelError, match="at least 17 channels"):
        decode({"heatmaps": np.zeros((16, 4, 4), np.float32)}, Letterbox.fit((16, 16), height=16, multiple=8))
    with pytest.raises(OptionError, match="min_score is 2"):
        HeatmapOptions(min_score=2)


def test_a_skeleton_without_limbs_is_enough() -> None:
    points = Skeleton.create("points", ["left_hand", "right_hand"], [])
    (output,) = HEATMAP.outputs(points)
    assert (output.channels, output.mirror, output.labels) == (2, (1, 0), ("left_hand", "right_hand"))
