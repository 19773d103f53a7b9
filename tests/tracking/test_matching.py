"""The compiled similarity is held to the plain formula; the assignment is the best one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from featherpose.evaluation.tracking.baselines import plain_shifted_oks
from featherpose.oks import oks_matrix
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17
from featherpose.tracking.matching import assign, shifted_oks
from featherpose.tracking.motion import pose_sizes

SIGMAS = np.asarray(COCO_17.sigmas, np.float32)


def _people(rng: np.random.Generator, count: int, missing: float) -> np.ndarray:
    points = rng.uniform(0, 60, (count, 17, 2)) + rng.uniform(0, 60, (count, 1, 2))
    points[rng.random((count, 17)) < missing] = np.nan
    return points.astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_compiled_similarity_equals_the_plain_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    believed, detected = _people(rng, 7, 0.2), _people(rng, 9, 0.5)
    detected[0] = np.nan
    spread = rng.uniform(0, 200, (7, 17)).astype(np.float32)
    position_var = rng.uniform(0.01, 900, 7)
    sizes, found_sizes = pose_sizes(believed), pose_sizes(np.nan_to_num(detected))
    fast = shifted_oks(believed, spread, position_var, sizes, detected, found_sizes, SIGMAS)
    for i, j in itertools.product(range(7), range(9)):
        plain = plain_shifted_oks(
            believed[i], spread[i], float(position_var[i]), float(sizes[i]), detected[j], float(found_sizes[j]), SIGMAS
        )
        assert fast[i, j] == pytest.approx(plain, abs=1e-4)


def test_without_uncertainty_it_is_oks() -> None:
    rng = np.random.default_rng(0)
    points = _people(rng, 5, 0)
    moved = points + rng.normal(0, 3, points.shape).astype(np.float32)
    sizes = np.maximum(pose_sizes(points)[:, None], pose_sizes(moved)[None])
    fast = shifted_oks(
        points, np.zeros((5, 17), np.float32), np.full(5, 1e-6), pose_sizes(points), moved, pose_sizes(moved), SIGMAS
    )
    ones = np.ones((5, 17), np.float32)
    for j in range(5):
        a = Poses(points, ones, ones[:, 0], COCO_17, (200, 200))
        b = Poses(moved, ones, ones[:, 0], COCO_17, (200, 200))[[j]]
        assert fast[:, j] == pytest.approx(oks_matrix(a, b, areas=sizes[:, j] ** 2)[:, 0] * 17 / 18, abs=1e-3)


def test_a_shift_within_the_uncertainty_is_forgiven_and_another_shape_is_not() -> None:
    rng = np.random.default_rng(1)
    points = _people(rng, 1, 0)
    size = pose_sizes(points)
    shifted = points + np.float32(0.8) * size
    other = points + rng.normal(0, 0.8 * size[0], points.shape).astype(np.float32)
    spread = np.zeros((1, 17), np.float32)
    unsure = np.array([float(size[0]) ** 2])
    forgiven, strange = (
        float(shifted_oks(points, spread, unsure, size, found, size, SIGMAS)[0, 0]) for found in (shifted, other)
    )
    sure = float(shifted_oks(points, spread, unsure * 1e-6, size, shifted, size, SIGMAS)[0, 0])
    assert forgiven > 0.4
    assert strange < 0.2
    assert sure < 0.05


@pytest.mark.parametrize("seed", range(10))
def test_no_other_assignment_is_better(seed: int) -> None:
    values = np.random.default_rng(seed).random((4, 5)).astype(np.float32)
    rows, columns = assign(values, 0.3)
    assert (values[rows, columns] >= 0.3).all()
    counted = np.where(values >= 0.3, values, 0)
    best = max(sum(counted[i, p[i]] for i in range(4)) for p in itertools.permutations(range(5), 4))
    assert values[rows, columns].sum() == pytest.approx(best)


def test_nobody_matches_nobody() -> None:
    rows, columns = assign(np.empty((0, 3), np.float32), 0.2)
    assert len(rows) == len(columns) == 0
