"""A detector's errors come back in the boxes that are drawn, for each kind of pose its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherpose.crops import CropShape
from featherpose.data.crops import CropOptions, CropViews
from featherpose.data.proposals import Proposals
from featherpose.errors import ConfigError
from featherpose.geometry import box_overlaps

STANDING = np.array([[40, 0], [60, 0], [45, 100], [55, 100], [45, 200], [55, 200]], np.float32)
LYING = STANDING[:, ::-1].copy()


def _box(person: np.ndarray) -> np.ndarray:
    return np.concatenate([np.nanmin(person, axis=0), np.nanmax(person, axis=0)]).astype(np.float32)


def _learned() -> Proposals:
    """Learn of a detector that cuts the feet of those who stand, and is right about those who lie, up to noise."""
    rng = np.random.default_rng(1)
    people = np.stack([pose + rng.normal(0, 2, (6, 2)) for pose in (STANDING, LYING) for _ in range(200)])
    people = people.astype(np.float32)
    boxes = np.stack([_box(person) for person in people])
    found = boxes + rng.normal(0, 1, boxes.shape).astype(np.float32)
    found[:200, 3] -= 60
    far_away = np.array([500, 500, 600, 700], np.float32)
    return Proposals.learn(people, boxes, [np.stack([far_away, box]) for box in found])


def test_errors_are_those_of_the_pose() -> None:
    proposals, rng = _learned(), np.random.default_rng(2)
    drawn = {
        name: np.mean([proposals.draw(person, _box(person), rng) - _box(person) for _ in range(300)], axis=0)
        for name, person in (("standing", STANDING), ("lying", LYING))
    }
    assert abs(drawn["standing"][3] + 60) < 3
    assert np.abs(drawn["standing"][:3]).max() < 1.5
    assert np.abs(drawn["lying"]).max() < 1.5


def test_missing_keypoints_and_equal_states() -> None:
    proposals = _learned()
    person = STANDING.copy()
    person[4:] = np.nan
    first, again = (proposals.draw(person, _box(person), np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert np.isfinite(first).all()


def test_people_who_are_not_found() -> None:
    people = np.stack([STANDING] * 50)
    boxes = np.stack([_box(person) for person in people])
    nothing = [np.empty((0, 4), np.float32)] * 20 + [boxes[:1] + 1000] * 20 + [boxes[:1]] * 10
    with pytest.raises(ConfigError, match="found 10 of 50 people"):
        Proposals.learn(people, boxes, nothing)


def test_kept_and_read(tmp_path: Path) -> None:
    proposals = _learned()
    proposals.save(tmp_path / "proposals.npz")
    read = Proposals.read(tmp_path / "proposals.npz")
    assert (read.offsets == proposals.offsets).all()
    assert (read.poses == proposals.poses).all()
    (tmp_path / "proposals.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        Proposals.read(tmp_path / "proposals.npz")


def test_crops_follow_the_proposals() -> None:
    options = CropOptions(missed=0, shift=1, scale=1, rotation_deg=0, flip=0)
    views = CropViews(
        shape=CropShape(width=96, height=192, margin=1), box_of=lambda found, _: _box(found), options=options,
        proposals=_learned(),
    )  # fmt: skip
    feet = np.mean(
        [views.draw(STANDING, (300, 300), np.random.default_rng(i)).points(STANDING)[5, 1] for i in range(50)]
    )
    # The feet lie below the crop: 200 pixels of the person in 140 of the box.
    assert 250 < feet < 290


def test_overlap_of_empty_boxes() -> None:
    assert box_overlaps(np.zeros(4, np.float32), np.zeros((2, 4), np.float32)).tolist() == [0, 0]
