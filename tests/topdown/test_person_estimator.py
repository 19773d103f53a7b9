"""One pose a box, by the bundled single-person network."""

from __future__ import annotations

import numpy as np

from featherpose.topdown.person_estimator import open_person_estimator


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
