"""Boxes of training crops as a detector finds them in real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featherpose.data.coco import read_coco
from featherpose.data.crops import CropOptions
from featherpose.data.regions import people_in_images
from featherpose.nn.networks import create_network
from featherpose.skeleton import COCO_17
from featherpose.training.boxes import crop_views


def test_a_detectors_errors_in_photographs(coco_train: Path, tmp_path: Path) -> None:
    images = read_coco(coco_train / "annotations.json", coco_train / "images", COCO_17)[:40]
    people = people_in_images(images)
    network = create_network("refiner", COCO_17)
    options = CropOptions(detector="feather", missed=0)
    first = crop_views(network, options, people, tmp_path)
    again = crop_views(network, options, [], tmp_path)  # what was learned is read
    assert first is not None
    assert again is not None
    assert first.proposals is not None
    assert again.proposals is not None
    offsets = first.proposals.offsets
    assert (again.proposals.offsets == offsets).all()
    assert 40 <= len(offsets) <= len(people)
    # Boxes of which half must overlap are off by no more than their sides, and not all of them equally.
    assert np.abs(offsets).max() <= 1.0
    assert 0.01 < offsets.std() < 0.3
    person = people[0].keypoints[0]
    a, b = (views.draw(person, people[0].size, np.random.default_rng(0)).linear for views in (first, again))
    assert (a == b).all()
