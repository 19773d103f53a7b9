"""Disks and offsets: voting against its reference, the way to maps and back, and the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featherpose.errors import OptionError
from featherpose.evaluation.reference import disks as reference
from featherpose.geometry import Letterbox
from featherpose.methods.disks.disk_method import DISKS, DiskOptions, DiskTargets
from featherpose.methods.disks.voting import vote
from featherpose.skeleton import COCO_17
from featherpose.training.config import LossConfig

_NO_BOXES = np.empty((0, 4), np.float32)
_SIZE = 192, 256


def test_votes_equal_the_reference() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (5, 9), (16, 12)):
        disks = rng.random((3, height, width)).astype(np.float32)
        disks[2, 0, 0] = np.nan
        offsets = rng.normal(0, 1, (6, height, width)).astype(np.float32)
        offsets[0, 0] = 1e6
        np.testing.assert_allclose(vote(disks, offsets, 3.0), reference.vote(disks, offsets, 3.0), atol=1e-4)


def _encode(people: np.ndarray, stride: int = 4) -> dict[str, np.ndarray]:
    outputs = DISKS.outputs(COCO_17, strides={"disks": stride, "offsets": stride})
    target = DISKS.encode(people, _NO_BOXES, COCO_17, _SIZE, outputs, DiskTargets())
    return dict(target.values)


@pytest.mark.parametrize("stride", [4, 8])
def test_people_come_back_with_the_precision_of_offsets(stride: int) -> None:
    rng = np.random.default_rng(1)
    people = rng.uniform((20, 20), (170, 235), (1, 17, 2)).astype(np.float32)
    people[0, 2] = np.nan
    arrays = {name: np.nan_to_num(value) for name, value in _encode(people, stride).items()}
    outputs = DISKS.outputs(COCO_17, strides={"disks": stride, "offsets": stride})
    letterbox = Letterbox.fit(_SIZE, height=256, multiple=8)
    poses = DISKS.decoder(COCO_17, outputs)(arrays, letterbox)
    known = np.isfinite(people[0, :, 0])
    assert np.array_equal(np.isfinite(poses.keypoints[0, :, 0]), known)
    assert np.abs(poses.keypoints[0, known] - people[0, known]).max() < 0.05
    # Without offsets a disk's middle is all there is.
    plain = DISKS.decoder(COCO_17, outputs, DiskOptions(voting=False))(arrays, letterbox)
    errors = np.abs(plain.keypoints[0, known] - people[0, known])
    assert 0.05 < errors.max() < 3 * stride
    # A keypoint's score is the disk's, wherever the votes meet; who lacks a keypoint is less certain.
    assert poses.keypoint_scores[0, known].min() > 0.99
    people[0, 3] = np.nan
    fewer = {name: np.nan_to_num(value) for name, value in _encode(people, stride).items()}
    assert DISKS.decoder(COCO_17, outputs)(fewer, letterbox).scores[0] < poses.scores[0] - 0.02


def test_offsets_vanish_at_the_keypoint_and_are_unknown_outside() -> None:
    people = np.full((1, 17, 2), 101.5, np.float32)
    arrays = _encode(people)
    inside = arrays["disks"][0] > 0
    assert np.array_equal(np.isfinite(arrays["offsets"][0]), inside)
    assert arrays["offsets"][:2, 25, 25].tolist() == [0, 0]
    radius = DiskTargets().radius_px
    assert np.count_nonzero(inside) * 16 == pytest.approx(np.pi * radius**2, rel=0.1)


def test_loss_vanishes_at_the_truth() -> None:
    people = np.random.default_rng(2).uniform(20, 170, (1, 17, 2)).astype(np.float32)
    values = {name: torch.from_numpy(value)[None] for name, value in _encode(people).items()}
    masks = {name: torch.ones(1, 1, 64, 48) for name in values}
    answer = {"disks": values["disks"].clone(), "offsets": torch.nan_to_num(values["offsets"])}
    config = LossConfig(kind="soft")
    loss, _ = DISKS.loss([answer], values, masks, config, COCO_17, probabilities=True)
    assert float(loss) < 1e-3
    shifted = {**answer, "offsets": answer["offsets"] + 0.3}
    more, parts = DISKS.loss([shifted], values, masks, config, COCO_17, probabilities=True)
    assert float(more) > 0.1
    assert float(parts["disks_0"]) < 1e-3


def test_impossible_options_are_refused() -> None:
    with pytest.raises(OptionError, match="radius_px is 0"):
        DiskOptions(radius_px=0)
    with pytest.raises(OptionError, match="disks, offsets, for method disks"):
        DISKS.decoder(COCO_17, ())
