"""What a detector's cells learn: assignment against its reference, unknown areas, and a loss that finds people."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featherpose.errors import ConfigError
from featherpose.evaluation.reference import box_assignment as reference
from featherpose.geometry import Letterbox
from featherpose.methods.boxes.box_loss import assign, box_loss, cell_centers, generalized_overlap, overlaps
from featherpose.methods.boxes.box_targets import BoxTargets, box_target
from featherpose.methods.boxes.person_boxes import PERSON_BOX, PERSON_BOXES
from featherpose.skeleton import COCO_17
from featherpose.training.config import LossConfig

_NO_BOXES = np.empty((0, 4), np.float32)


def _boxes(count: int, seed: int, size: float = 128) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle, side = rng.uniform(20, size - 20, (count, 2)), rng.uniform(6, 60, (count, 2))
    return np.concatenate([middle - side / 2, middle + side / 2], axis=1).astype(np.float32)


def test_assignment_equals_the_reference() -> None:
    centers, _ = cell_centers(16, 16)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        people = _boxes(5, seed)
        people[0] = (33, 33, 35, 36)  # between the centers of all cells
        near = people[rng.integers(5, size=len(centers))] + rng.normal(0, 6, (len(centers), 4))
        found = torch.from_numpy(near.astype(np.float32))
        scores = torch.from_numpy(rng.uniform(0.1, 1, len(centers)).astype(np.float32))
        rows = torch.cat((torch.from_numpy(people), torch.zeros(2, 4)))
        present = torch.arange(7) < 5
        wanted, levels = assign(found[None], scores[None], rows[None], present[None], centers)
        owners, expected = reference.assign(found.tolist(), scores.tolist(), people.tolist(), centers.tolist())
        # Cells that overlap nobody are told apart by distance alone, which the reference leaves to their order.
        clear = expected > 1e-6
        np.testing.assert_allclose(levels[0].numpy()[clear], expected[clear], rtol=1e-3)
        assert (levels[0].numpy()[~clear] < 1e-5).all()
        np.testing.assert_array_equal(wanted[0].numpy()[clear], people[np.array(owners)[clear]])


def test_overlaps_of_boxes_apart_inside_and_alike() -> None:
    a = torch.tensor([[0.0, 0, 10, 10]] * 3)
    b = torch.tensor([[20.0, 0, 30, 10], [0, 0, 5, 10], [0, 0, 10, 10]])
    assert overlaps(a, b).tolist() == pytest.approx([0, 0.5, 1])
    assert generalized_overlap(a, b).tolist() == pytest.approx([-1 / 3, 0.5, 1])


def test_what_is_unknown_costs_nothing() -> None:
    centers, _ = cell_centers(8, 8)
    boxes = torch.cat((centers - 8, centers + 8), 1)[None, None]
    nobody = torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 1)
    scores = torch.full((1, 1, len(centers), 1), 0.5)
    _, sure = box_loss(boxes, scores, *nobody, torch.ones(1, 1, 8, 8))
    assert float(sure) > 1
    _, unknown = box_loss(boxes, scores, *nobody, torch.zeros(1, 1, 8, 8))
    assert float(unknown) == 0
    with pytest.raises(ConfigError, match="views of 64x40"):
        box_loss(boxes, scores, *nobody, torch.ones(1, 1, 5, 8))


def test_targets_tell_people_from_what_is_unknown() -> None:
    boxes = np.array([[9.5, 9.5, 40.5, 60.5], [60, 0, 63, 3], [-60, 0, 10, 40]], np.float32)
    crowd = np.array([[32, 0, 63, 31]], np.float32)
    target, rows = box_target(boxes, crowd, (64, 64), BoxTargets(max_people=4))
    assert rows == [0]  # one is too small, of one too little is seen
    assert target.values["scores"][0, :, 0].tolist() == [1, 0, 0, 0]
    assert target.values["boxes"][0, 0].tolist() == [10, 10, 41, 61]
    known = target.masks["boxes"]
    assert known[1, 7] == 0
    assert known[7, 7] == 1
    assert known[2, 3] == 1  # inside of a person, though in the crowd
    assert known[0, 0] == 0  # the person of whom too little is seen
    everywhere = np.array([[0, 0, 63, 63]], np.float32)
    known = box_target(boxes[:1], everywhere, (64, 64), BoxTargets())[0].masks["scores"]
    assert (known[2:7, 2:5] == 1).all()
    assert known[:, 6:].sum() == 0
    most, rows = box_target(_boxes(9, 0), _NO_BOXES, (128, 128), BoxTargets(max_people=3))
    areas = (most.values["boxes"][0, :, 2:] - most.values["boxes"][0, :, :2]).prod(axis=1)
    assert len(rows) == 3
    assert (np.diff(areas) <= 0).all()
    with pytest.raises(ConfigError, match="impossible"):
        BoxTargets(max_people=0)


def test_cells_learn_to_find_people() -> None:
    size, outputs = (128, 128), PERSON_BOXES.outputs(PERSON_BOX)
    people = np.array([[8, 16, 48, 112], [72, 24, 120, 120]], np.float32)
    target = PERSON_BOXES.encode_in_boxes(
        np.full((2, 17, 2), np.nan, np.float32), people, _NO_BOXES, COCO_17, size, outputs, BoxTargets()
    )
    values = {name: torch.from_numpy(value)[None] for name, value in target.values.items()}
    masks = {name: torch.from_numpy(mask)[None, None] for name, mask in target.masks.items()}
    centers, strides = cell_centers(16, 16)
    sides = torch.zeros(len(centers), 4, requires_grad=True)
    logits = torch.full((len(centers),), -2.0, requires_grad=True)
    optimizer = torch.optim.Adam([sides, logits], lr=0.1)
    for _ in range(150):
        reach = strides[:, None] * sides.exp()
        boxes = torch.cat((centers - reach[:, :2], centers + reach[:, 2:]), 1)
        stage = {"boxes": boxes[None, None], "scores": logits.sigmoid()[None, None, :, None]}
        loss, parts = PERSON_BOXES.loss([stage], values, masks, LossConfig(), PERSON_BOX, probabilities=True)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert set(parts) == {"boxes_0", "scores_0"}
    answer = {name: value.detach().numpy()[0] for name, value in stage.items()}
    found = PERSON_BOXES.decoder(PERSON_BOX, outputs)(answer, Letterbox.fit(size, height=128, multiple=32))
    assert len(found) == 2
    for box in people:
        assert np.abs(found.keypoints.reshape(-1, 4) - box).max(axis=1).min() < 3
