"""One pose a box, by the bundled single-person network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherpose.runtime.backend import EngineOptions
from featherpose.topdown.person_estimator import open_person_estimator
from featherpose.zoo.resolve import resolve_model


def test_no_keypoint_lies_outside_of_the_image_or_in_a_corner_of_the_crop(astronaut: np.ndarray) -> None:
    height, width = astronaut.shape[:2]
    boxes = np.array([[30, 20, 350, 510], [20, 100, 400, 700], [-100, -100, 612, 612]], np.float32)
    with open_person_estimator("refiner") as estimator:
        poses = estimator(astronaut, boxes)
        shape = estimator.spec.crop
    assert shape is not None
    assert poses.detected.sum() >= 25
    assert not poses.keypoint_scores[~poses.detected].any()
    inside = (poses.keypoints >= -0.5) & (poses.keypoints <= np.array([width, height], np.float32) - 0.5)
    assert inside[poses.detected].all()
    far = np.array([shape.width, shape.height]) - 1
    for matrix, person in zip(shape.matrices(boxes), poses.keypoints, strict=True):
        in_crop = (person - matrix[:, 2]) / matrix[0, 0]
        assert not (np.minimum(in_crop, far - in_crop) < 6).all(axis=1).any()


@pytest.mark.parametrize("mirror", [False, True])
def test_crops_side_by_side_and_one_by_one_give_the_same(mirror: bool, astronaut: np.ndarray) -> None:
    boxes = np.array([[30, 20, 350, 510], [100, 0, 400, 300], [0, 0, 512, 512]], np.float32)
    known = resolve_model("refiner")
    engine = EngineOptions(threads=2, precision="fp32")
    with open_person_estimator(known, engine, mirror=mirror) as side_by_side:
        expected = side_by_side(astronaut, boxes)
    one_by_one = replace(known, spec=replace(known.spec, side_by_side=False))
    with open_person_estimator(one_by_one, engine, mirror=mirror) as estimator:
        found = estimator(astronaut, boxes)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.05)
    np.testing.assert_allclose(found.keypoint_scores, expected.keypoint_scores, atol=1e-3)
