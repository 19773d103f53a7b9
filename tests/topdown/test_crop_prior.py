"""Another network's pose under a crop: where it lies, and that the single-person network follows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherpose import PoseEstimator, RefineOptions
from featherpose.crop_prior import draw_prior
from featherpose.crops import CropShape
from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.reference import prior as reference
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.dense_refiner import DenseRefiner, split_prior
from featherpose.poses import Poses
from featherpose.runtime.backend import Backend, EngineOptions, ModelSpec
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import COCO_17, LSP_14
from featherpose.topdown.person_estimator import PersonEstimator, open_person_estimator
from featherpose.zoo.resolve import resolve_model

SHAPE = CropShape(width=128, height=192, margin=1.0, prior=17)


@given(st.integers(0, 10**6), st.sampled_from([SHAPE, CropShape(width=96, height=128, margin=1, prior=5)]))
@settings(max_examples=60, deadline=None)
def test_the_kernel_draws_what_the_reference_draws(seed: int, shape: CropShape) -> None:
    random = np.random.default_rng(seed)
    matrix = shape.matrices(np.array([[30, 40, 130, 220]], np.float32))[0]
    if random.random() < 0.5:  # of a mirrored crop
        matrix = matrix @ np.array([[-1, 0, shape.width - 4], [0, 1, 0], [0, 0, 1.0]])
    keypoints = random.uniform(-100, 400, (shape.prior, 2)).astype(np.float32)
    keypoints[random.random(shape.prior) < 0.2] = np.nan
    scores = random.uniform(-0.2, 1.2, shape.prior).astype(np.float32)
    found, expected = (np.full((shape.rows, shape.width, 3), 9, np.uint8) for _ in range(2))
    draw_prior(keypoints, scores, matrix, shape, found)
    reference.draw_prior(keypoints, scores, matrix, shape, expected)
    np.testing.assert_array_equal(found, expected)
    assert (found[: shape.height] == 9).all()


def test_the_network_reads_the_maps_where_they_were_drawn() -> None:
    keypoints = np.stack([np.arange(17) * 7.0, np.arange(17) * 11.0], axis=1).astype(np.float32)
    inputs = np.random.default_rng(0).integers(0, 255, (SHAPE.rows, SHAPE.width, 3), np.uint8)
    draw_prior(keypoints, np.ones(17, np.float32), np.eye(3)[:2], SHAPE, inputs)
    crops, maps = split_prior(torch.from_numpy(inputs)[None].permute(0, 3, 1, 2).float(), 17)
    np.testing.assert_array_equal(crops[0].permute(1, 2, 0).numpy(), inputs[: SHAPE.height])
    assert maps.shape == (1, 17, 24, 16)
    for k, (x, y) in enumerate(keypoints):
        row, column = divmod(int(maps[0, k].argmax()), 16)
        assert abs(8 * column - x) <= 4
        assert abs(8 * row - y) <= 4


@pytest.mark.parametrize("wrong", [{"prior": -1}, {"width": 100, "prior": 17}, {"height": 100, "prior": 1}])
def test_impossible_priors_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="keypoints under a crop"):
        CropShape(**{"width": 128, "height": 192, **wrong})


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that answers where the other one's pose is, and sees nothing else."""
    folder = tmp_path_factory.mktemp("prior")
    network = DenseRefiner(widths=(8, 8, 17, 8, 8), depths=(0, 0, 0, 0), prior=True)
    assert network.prior is not None
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for k in range(17):  # one channel a keypoint, whose four cells at stride 4 are alike
            network.prior.weight[k, k, 1, 1] = 1
            network.heatmaps.weight[4 * k : 4 * k + 4, k] = 1
    save_network(folder / "mine.safetensors", network, "refiner-dense")
    export_checkpoint(ExportRequest(checkpoint=folder / "mine.safetensors", output=folder, name="mine", fp16=False))
    return folder / "mine.xml"


def test_options_are_read_from_the_weights(network_file: Path) -> None:
    network = load_network(network_file.with_name("mine.safetensors"))
    assert network.crop == SHAPE


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_other_networks_pose_comes_through(network_file: Path, suffix: str, mirror: bool) -> None:
    image = np.full((300, 200, 3), 90, np.uint8)
    boxes = np.array([[10, 10, 150, 280], [60, 20, 190, 290]], np.float32)
    random = np.random.default_rng(1)
    keypoints = random.uniform((70, 30), (140, 270), (2, 17, 2)).astype(np.float32)
    keypoints[1, 3] = np.nan
    scores = np.where(np.isnan(keypoints[..., 0]), 0, 0.9).astype(np.float32)
    known = Poses(keypoints, scores, np.ones(2, np.float32), COCO_17, (200, 300))
    engine = EngineOptions(precision="fp32", threads=1)
    with open_person_estimator(str(network_file.with_suffix(suffix)), engine, mirror=mirror) as estimator:
        found = estimator(image, boxes, known)
        nothing = estimator(image, boxes)
    np.testing.assert_allclose(found.keypoints, keypoints, atol=11)  # a cell of 8 crop pixels
    assert np.isnan(found.keypoints[1, 3]).all()
    assert not nothing.detected.any()


def test_refinement_shows_the_network_what_was_found(network_file: Path, astronaut: np.ndarray) -> None:
    both = np.ascontiguousarray(np.concatenate([astronaut, astronaut[:, ::-1]], axis=1))
    with PoseEstimator(quality="fast") as estimator:
        first = estimator(both)
    options = RefineOptions(mode="all", model=str(network_file), min_person_score=0)
    with PoseEstimator(refine=options) as estimator:
        refined = estimator(both)
    assert len(refined) >= len(first) == 2
    for person in first:
        distances = [np.linalg.norm(person.keypoints - other.keypoints, axis=1) for other in refined]
        seen = min((d[np.isfinite(d)] for d in distances), key=lambda d: float(np.median(d)))
        assert len(seen) >= 8
        assert np.median(seen) < 16  # of 512 pixels


def test_poses_that_do_not_fit_are_refused(network_file: Path, astronaut: np.ndarray) -> None:
    points, inputs = np.zeros((16, 2), np.float32), np.zeros((SHAPE.rows, SHAPE.width, 3), np.uint8)
    with pytest.raises(OptionError, match="16 keypoints"):
        draw_prior(points, points[:, 0].copy(), np.eye(3)[:2], SHAPE, inputs)
    with PoseEstimator(quality="fast") as whole, open_person_estimator(str(network_file), mirror=True) as single:
        found = whole(astronaut)
        with pytest.raises(OptionError, match="1 known people for 2 boxes"):
            single(astronaut, np.zeros((2, 4), np.float32), found)
        tracked = found.with_track_ids(np.array([7]))
        assert len(single(astronaut, found.boxes(), tracked)) == 1


def test_a_card_of_another_skeletons_prior_is_refused(network_file: Path) -> None:
    resolved = resolve_model(str(network_file))
    assert resolved.spec.crop is not None
    wrong = replace(resolved.spec, skeleton=LSP_14)
    backend = open_backend(resolved.path, resolved.spec)
    try:
        with pytest.raises(ModelError, match="17 keypoints"):
            PersonEstimator(_Claims(backend, wrong))  # type: ignore[arg-type]
    finally:
        backend.close()


class _Claims:
    """A backend that says to be another one."""

    def __init__(self, backend: Backend, spec: ModelSpec) -> None:
        self.backend, self.spec = backend, spec
