"""Tags: kernels against their references, people to maps and back, and the loss that pulls and pushes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from featherpose.errors import OptionError
from featherpose.evaluation.reference import tags as reference
from featherpose.geometry import Letterbox
from featherpose.methods.tags.grouping import MAX_PEAKS, assign, find_peaks, group
from featherpose.methods.tags.loss import pull_and_push
from featherpose.methods.tags.tag_method import TAGS, TagOptions, TagTargets, from_the_head_down
from featherpose.skeleton import COCO_17, Skeleton
from featherpose.training.config import LossConfig

_NO_BOXES = np.empty((0, 4), np.float32)


def test_assignment_is_optimal() -> None:
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (1, 5), (4, 4), (7, 12), (30, 45)):
        for costs in (rng.random((n, m)), rng.integers(0, 3, (n, m)).astype(np.float64)):
            found = assign(costs)
            assert len(set(found.tolist())) == n
            rows, columns = linear_sum_assignment(costs)
            assert costs[np.arange(n), found].sum() == pytest.approx(costs[rows, columns].sum())


def test_peaks_equal_the_reference() -> None:
    rng = np.random.default_rng(1)
    for shape in ((1, 1), (6, 9), (40, 30)):
        maps = rng.random((4, *shape)).astype(np.float32)
        maps[1] = np.rint(maps[1] * 4) / 4  # ties
        maps[2, 0, 0] = np.nan
        maps[3] = 0
        peaks, counts = find_peaks(maps, maps, 0.3)
        for k in (0, 1, 3):
            expected = reference.find_peaks(maps[k], 0.3, MAX_PEAKS)
            found = [(int(x), int(y), float(score)) for x, y, score, _ in peaks[k, : counts[k]]]
            assert [p[2] for p in found] == pytest.approx([p[2] for p in expected])
            if k == 0:
                assert [p[:2] for p in found] == [p[:2] for p in expected]


def test_groups_equal_the_reference() -> None:
    rng = np.random.default_rng(2)
    order = np.arange(6)
    for people in (1, 2, 5, 12):
        peaks, counts = np.zeros((6, MAX_PEAKS, 4), np.float32), np.zeros(6, np.int64)
        for k in range(6):
            present = rng.permutation(people)[: rng.integers(people + 1)]
            counts[k] = len(present)
            peaks[k, : len(present), 2] = rng.uniform(0.2, 1, len(present))
            peaks[k, : len(present), 3] = 1.7 * present + rng.normal(0, 0.25, len(present))
        members, _ = group(peaks, counts, order, 1.0)
        expected = reference.group(
            [[(float(p[2]), float(p[3])) for p in peaks[k, : counts[k]]] for k in range(6)], order.tolist(), 1.0
        )
        found = [{k: int(i) for k, i in enumerate(row) if i >= 0} for row in members]
        assert found == expected


def _people(count: int, seed: int) -> np.ndarray:
    """People that do not hide each other's keypoints of one kind."""
    rng = np.random.default_rng(seed)
    columns = np.linspace(20, 300, count)[:, None] if count > 1 else np.array([[160.0]])
    x = columns + rng.uniform(-12, 12, (count, 17))
    y = rng.uniform(12, 240, (count, 17))
    return np.stack((x, y), 2).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_people_come_back(count: int) -> None:
    people = _people(count, count)
    people[0, 9] = np.nan
    size = 320, 256
    outputs = TAGS.outputs(COCO_17)
    target = TAGS.encode(people, _NO_BOXES, COCO_17, size, outputs, TagTargets())
    # Between the marked cells a network's tags go on; here each cell takes those of the nearest person's column.
    middle = people[:, :, 0].copy()
    middle = np.nanmean(middle, axis=1)
    nearest = np.abs(np.arange(80)[None] * 4 + 1.5 - middle[:, None]).argmin(axis=0) + 1
    tags = np.broadcast_to(2.0 * nearest[None, None], target.values["tags"].shape).astype(np.float32)
    letterbox = Letterbox.fit(size, height=256, multiple=8)
    options = TagOptions(fill=False)
    poses = TAGS.decoder(COCO_17, outputs, options)({"heatmaps": target.values["heatmaps"], "tags": tags}, letterbox)
    assert len(poses) == count
    for person in people:
        known = np.isfinite(person[:, 0])
        errors = np.linalg.norm(poses.keypoints - person, axis=2)[:, known]
        best = np.nanmax(np.where(np.isnan(errors), np.inf, errors), axis=1).min()
        assert best < 3  # of a stride of 4
    missing = np.isnan(poses.keypoints[:, :, 0])
    assert missing.sum() == 1


def test_missing_keypoints_are_filled_where_the_tag_fits() -> None:
    people = _people(2, 5)
    target = TAGS.encode(people, _NO_BOXES, COCO_17, (320, 256), TAGS.outputs(COCO_17), TagTargets())
    heatmaps, tags = np.array(target.values["heatmaps"]), np.zeros((17, 64, 80), np.float32)
    tags[:, :, 40:] = 5
    letterbox = Letterbox.fit((320, 256), height=256, multiple=8)
    heatmaps[15, :, :40] *= 0.2  # a faint left ankle of the first person
    with_fill, without = (
        TAGS.decoder(COCO_17, TAGS.outputs(COCO_17), TagOptions(fill=fill, peak_threshold=0.3))(
            {"heatmaps": heatmaps, "tags": tags}, letterbox
        )
        for fill in (True, False)
    )
    assert np.isnan(without["left_ankle"][:, 0]).sum() == 1
    assert np.isnan(with_fill["left_ankle"][:, 0]).sum() == 1  # nothing above the threshold has the tag
    heatmaps[15, 20, 3] = 0.29
    poses = TAGS.decoder(COCO_17, TAGS.outputs(COCO_17), TagOptions(peak_threshold=0.1))(
        {"heatmaps": heatmaps, "tags": tags}, letterbox
    )
    assert not np.isnan(poses["left_ankle"]).any()


def test_loss_pulls_a_person_together_and_pushes_people_apart() -> None:
    owners = torch.zeros(2, 3, 4, 4)
    owners[0, :, 0, 0], owners[0, :, 3, 3] = 1, 2  # two people; nobody in the second image
    tags = torch.zeros(2, 3, 4, 4, requires_grad=True)
    pull, push = pull_and_push(tags, owners)
    assert [float(pull.detach()), float(push.detach())] == pytest.approx([0, 0.5])
    apart = torch.zeros(2, 3, 4, 4)
    apart[0, :, 0, 0] = 4
    assert float(pull_and_push(apart, owners)[1]) < 1e-3
    apart[0, 0, 0, 0] = 1
    assert float(pull_and_push(apart, owners)[0]) > 0.1
    torch.autograd.backward(pull + push)
    assert tags.grad is not None
    assert torch.isfinite(tags.grad).all()


@pytest.mark.parametrize("kind", ["l2", "soft"])
def test_whole_loss_has_every_part(kind: str) -> None:
    people = _people(3, 9)
    target = TAGS.encode(people, _NO_BOXES, COCO_17, (320, 256), TAGS.outputs(COCO_17), TagTargets())
    values = {name: torch.from_numpy(np.asarray(value))[None] for name, value in target.values.items()}
    masks = {name: torch.from_numpy(np.asarray(value))[None, None] for name, value in target.masks.items()}
    answer = {"heatmaps": values["heatmaps"].clamp(0.01, 0.99), "tags": 3 * values["tags"]}
    loss, parts = TAGS.loss([answer], values, masks, LossConfig(kind=kind), COCO_17, probabilities=True)  # type: ignore[arg-type]
    assert torch.isfinite(loss)
    assert set(parts) == {"heatmaps_0", "pull_0", "push_0"}
    assert float(parts["pull_0"]) == pytest.approx(0, abs=1e-6)


def test_odd_numbers_and_other_skeletons() -> None:
    arm = Skeleton.create("arm", ["shoulder", "elbow", "wrist"], [("shoulder", "elbow"), ("elbow", "wrist")])
    decode = TAGS.decoder(arm, TAGS.outputs(arm), TagOptions(min_keypoints=1))
    letterbox = Letterbox.fit((64, 64), height=64, multiple=8)
    maps = np.full((3, 16, 16), np.nan, np.float32)
    assert len(decode({"heatmaps": maps, "tags": maps}, letterbox)) == 0
    maps = np.zeros((3, 16, 16), np.float32)
    maps[:, 5, 5] = 0.8
    assert len(decode({"heatmaps": maps, "tags": np.full((3, 16, 16), np.inf, np.float32)}, letterbox)) == 1
    assert from_the_head_down(arm).tolist() == [0, 1, 2]
    with pytest.raises(OptionError, match="max_distance is 0"):
        TagOptions(max_distance=0)
