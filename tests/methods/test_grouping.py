"""Limbs and groups on hand-made candidates: matching, joining, contradiction, completion."""

from __future__ import annotations

import numpy as np

from featherpose.methods.paf.grouping import group_limbs
from featherpose.methods.paf.limbs import limb_support, match_limbs, order_by_score

# A chain 0-1-2-3 and a limb 0-3 that closes a loop.
LIMBS = np.array([[0, 1, 0, 1], [1, 2, 2, 3], [2, 3, 4, 5], [0, 3, 6, 7]], np.int32)
JOINS = np.array([True, True, True, True])


def group(matches: list[tuple[int, int, int, float]], peaks: int, joins: np.ndarray = JOINS) -> list[dict[int, int]]:
    types = np.array([m[0] for m in matches], np.int32)
    ends = np.array([m[1:3] for m in matches], np.int32).reshape(-1, 2)
    scores = np.array([m[3] for m in matches], np.float32)
    members, sums = group_limbs(np.full(peaks, 0.5, np.float32), 4, LIMBS, joins, types, ends, scores)
    people = [{k: int(m) for k, m in enumerate(row) if m >= 0} for row in members]
    for person, total in zip(people, sums, strict=True):
        inside = sum(
            s
            for t, a, b, s in matches
            if joins[t] and a in person.values() and b in person.values()
            and person.get(int(LIMBS[t, 0])) == a and person.get(int(LIMBS[t, 1])) == b
        )  # fmt: skip
        assert abs(total - (0.5 * len(person) + inside)) < 1e-5  # every keypoint and limb once
    return people


def test_order_is_descending_for_any_length() -> None:
    for n in (0, 1, 2, 3, 10, 1000):
        scores = np.random.default_rng(n).random(n).astype(np.float32)
        order = order_by_score(scores, np.int64(n))
        assert sorted(order.tolist()) == list(range(n))
        assert (np.diff(scores[order]) <= 0).all()


def test_a_chain_is_one_person() -> None:
    assert group([(0, 0, 1, 0.9), (1, 1, 2, 0.8), (2, 2, 3, 0.7)], 4) == [{0: 0, 1: 1, 2: 2, 3: 3}]


def test_defect_4_two_partial_people_that_a_limb_joins_are_merged() -> None:
    # Both ends are found first, the limb between them last.
    assert group([(0, 0, 1, 0.9), (2, 2, 3, 0.8), (1, 1, 2, 0.1)], 4) == [{0: 0, 1: 1, 2: 2, 3: 3}]


def test_defect_4_a_contradicting_limb_overwrites_nothing_and_counts_nothing() -> None:
    # Peaks 3 and 4 are both keypoint 3: the better limb stands.
    people = group([(0, 0, 1, 0.9), (1, 1, 2, 0.8), (2, 2, 3, 0.7), (3, 0, 4, 0.2)], 5)
    assert people == [{0: 0, 1: 1, 2: 2, 3: 3}]
    people = group([(0, 0, 1, 0.9), (1, 1, 2, 0.8), (2, 2, 3, 0.2), (3, 0, 4, 0.7)], 5)
    assert people == [{0: 0, 1: 1, 2: 2, 3: 4}]


def test_defect_4_no_keypoint_belongs_to_two_people() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        # Four candidates of each keypoint; limbs one to one but otherwise at random.
        matches = []
        for limb, (a, b) in enumerate(LIMBS[:, :2].tolist()):
            for p, q in zip(rng.permutation(4)[:3].tolist(), rng.permutation(4)[:3].tolist(), strict=True):
                matches.append((limb, 4 * a + p, 4 * b + q, float(rng.random())))
        people = group(matches, 16)
        owned = [peak for person in people for peak in person.values()]
        assert len(owned) == len(set(owned))
        assert all(peak // 4 == k for person in people for k, peak in person.items())


def test_loops_that_may_not_join_only_lend_a_keypoint() -> None:
    joins = np.array([True, True, True, False])
    assert group([(3, 0, 3, 0.9)], 4, joins) == []
    members, _ = group_limbs(
        np.full(4, 0.5, np.float32), 4, LIMBS, joins,
        np.array([0, 3], np.int32), np.array([[0, 1], [0, 3]], np.int32), np.array([0.5, 0.9], np.float32),
    )  # fmt: skip
    assert members.tolist() == [[0, 1, -1, 3]]


def test_defect_5_eight_of_ten_samples_are_eight_tenths() -> None:
    field = np.zeros((2, 3, 10), np.float32)
    field[0, 1] = 1
    field[0, 1, 4] = -0.5  # one sample of ten fails, exactly on a cell
    total, good = limb_support(
        field[0], field[1], np.float32(0), np.float32(1), np.float32(9), np.float32(1), 10, np.float32(0.05), 9
    )
    assert good == 9
    assert abs(total - 8.5) < 1e-4
    field[0, 1, 5] = -0.5
    assert limb_support(
        field[0], field[1], np.float32(0), np.float32(1), np.float32(9), np.float32(1), 10, np.float32(0.05), 8
    )[1] == 8  # fmt: skip


def test_each_peak_is_matched_once_per_limb_best_first() -> None:
    pafs = np.zeros((2, 9, 20), np.float32)
    pafs[0] = 1
    positions = np.array([[2, 2], [2, 6], [16, 2], [16, 6]], np.float32)
    limbs = match_limbs(
        positions, np.array([0, 2, 4], np.int32), np.array([2, 4], np.int32), pafs, np.array([[0, 1, 0, 1]], np.int32),
        samples=10, threshold=0.05, min_part=0.8, every_cell=False, max_length=100.0,
    )  # fmt: skip
    assert sorted(map(tuple, limbs.ends.tolist())) == [(0, 2), (1, 3)]
    short = match_limbs(
        positions, np.array([0, 2, 4], np.int32), np.array([2, 4], np.int32), pafs, np.array([[0, 1, 0, 1]], np.int32),
        samples=10, threshold=0.05, min_part=0.8, every_cell=False, max_length=10.0,
    )  # fmt: skip
    assert len(short.scores) == 0
