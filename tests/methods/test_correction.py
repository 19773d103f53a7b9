"""The correction of keypoints: the compiled form against the plain one, on drawn maps, and on real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fit_correction import Annotated, examples, mirrored

import featherpose.methods.paf
from featherpose.errors import CheckpointError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.coco_ap import evaluated, poses_as_results, summarized
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.reference.correction import correct, describe
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.methods.paf.correction import (
    CORRECTION_FEATURES,
    can_correct,
    correct_keypoints,
    correction_features,
    read_correction,
)
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.pose_prior import pose_prior
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton

FILE = Path(featherpose.methods.paf.__file__).with_name("correction.npz")


def standing(people: int, rng: np.random.Generator, *, size: float = 40) -> np.ndarray:
    """float32[P, 18, 2] people beside each other."""
    prior = pose_prior(OPENPOSE_18)
    assert prior is not None
    shapes = size * (prior.mean[prior.rows] + rng.normal(0, 0.1, (people, 18, 2)))
    return np.asarray(shapes + 100 + 90 * np.arange(people)[:, None, None] * [1, 0], np.float32)


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("skeleton", [OPENPOSE_18, BODY_25], ids=lambda skeleton: skeleton.name)
def test_the_kernel_equals_the_reference(skeleton: Skeleton, stride: int) -> None:
    rng = np.random.default_rng(stride)
    heatmaps = rng.random((skeleton.num_keypoints + 1, 30, 40), np.float32) ** 4
    points = rng.uniform(-5, 40 * stride, (3, skeleton.num_keypoints, 2)).astype(np.float32)
    found = rng.random(points.shape[:2]) < 0.7
    people = np.where(found[..., None], points, np.float32(np.nan))
    names = [skeleton.keypoints.index(name) for name in OPENPOSE_18.keypoints]
    rows = correction_features(heatmaps, stride, skeleton, points, found)
    there = [(p, kind) for p in range(3) for kind in range(18) if found[p, names[kind]]]
    wanted = [describe(heatmaps, stride, skeleton, people[p], kind) for p, kind in there]
    np.testing.assert_allclose(rows, wanted, atol=1e-4)
    moved = correct_keypoints(heatmaps, stride, skeleton, points, found)
    plain = correct(heatmaps, stride, skeleton, people, read_correction(FILE))
    np.testing.assert_allclose(moved[found], plain[found], atol=2e-3)
    assert np.array_equal(moved[~found], points[~found])
    assert 0 < np.abs(moved - points).max() <= 8


def test_others_and_their_number_change_nothing() -> None:
    rng = np.random.default_rng(1)
    heatmaps = rng.random((18, 40, 60), np.float32) ** 4
    points = rng.uniform(0, 160, (5, 18, 2)).astype(np.float32)
    found = rng.random((5, 18)) < 0.8
    together = correct_keypoints(heatmaps, 4, OPENPOSE_18, points, found)
    alone = [correct_keypoints(heatmaps, 4, OPENPOSE_18, points[p : p + 1], found[p : p + 1])[0] for p in range(5)]
    assert np.array_equal(together, np.stack(alone))
    assert correct_keypoints(heatmaps, 4, OPENPOSE_18, points[:0], found[:0]).shape == (0, 18, 2)


@pytest.mark.parametrize("stride", [4, 8])
def test_drawn_maps_are_left_as_they_are(stride: int) -> None:
    people = standing(3, np.random.default_rng(0))
    maps = encode_maps(people, OPENPOSE_18, (448, 256), heatmap_stride=stride)
    box = Letterbox.fit((448, 256), height=256, multiple=8)
    poses = PafDecoder(OPENPOSE_18, PafOptions(correct=True))(maps, box)
    assert len(poses) == 3
    order = np.argsort(poses.keypoints[:, 1, 0])
    off = np.linalg.norm(poses.keypoints[order] - people, axis=2)
    assert np.median(off) < 0.7
    assert off.max() < 3


@pytest.mark.parametrize("mirror", [False, True])
def test_examples_of_the_recipe_lead_to_the_annotated_joint(mirror: bool) -> None:
    """Two people of whom one is annotated 3 image pixels to the right; the image is half as large as the input."""
    people = standing(2, np.random.default_rng(3))
    maps = encode_maps(people, OPENPOSE_18, (448, 256))
    box = Letterbox.fit((224, 128), height=256, multiple=8)
    found = PafDecoder(OPENPOSE_18, PafOptions(correct=False))(maps, box)
    shift = -3 if mirror else 3
    annotated = Annotated(box.inverse(people[1]).astype(float) + np.array([shift, 0.0]), 4000.0)
    if mirror:  # twice mirrored is as before
        annotated = mirrored(mirrored(annotated, 224), 224)
    made = examples(maps, box, found, [annotated])
    known = ~np.isnan(made.way[:, 0])
    assert known.sum() == 18
    np.testing.assert_allclose(made.way[known], np.tile((shift * 2 / 4, 0), (18, 1)), atol=0.15)
    assert made.features.shape == (36, CORRECTION_FEATURES)


def test_other_skeletons_stay_where_their_maxima_are() -> None:
    assert not can_correct(COCO_17)
    people = standing(1, np.random.default_rng(2))[:, [OPENPOSE_18.index(name) for name in COCO_17.keypoints]]
    maps = encode_maps(people, COCO_17, (256, 256))
    box = Letterbox.fit((256, 256), height=256, multiple=8)
    with_it, without = (PafDecoder(COCO_17, PafOptions(correct=correct))(maps, box) for correct in (True, False))
    assert np.array_equal(with_it.keypoints, without.keypoints, equal_nan=True)


def test_a_wrong_network_is_refused(tmp_path: Path) -> None:
    arrays = {"weight0": np.zeros((2, CORRECTION_FEATURES), np.float32), "bias0": np.zeros(2, np.float32)}
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    with pytest.raises(CheckpointError, match="1 layers"):
        read_correction(tmp_path / "a.npz")


@pytest.mark.slow
def test_it_helps_on_photographs_that_it_has_not_seen(coco_train: Path) -> None:
    data = read_coco_dataset(coco_train)
    held_out = data.only([image.path.name for image in data.images if image.image_id % 10 == 0])
    precisions = []
    for options in (PafOptions(correct=False), PafOptions()):
        with PoseEstimator(quality="fast", height=368, options=options) as estimator:
            results = []
            for image, poses in zip(
                held_out.images, estimator.map(read_image(image.path) for image in held_out.images), strict=True
            ):
                results += poses_as_results(poses.to_skeleton(COCO_17), image.image_id)
        precisions.append(summarized(evaluated(held_out, results))[0])
    assert precisions[1] > precisions[0] + 0.004, precisions
