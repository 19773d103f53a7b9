"""Where a person's missing keypoints are expected, given the others: a Gaussian over poses.

Poses are aligned with a mean pose by scale and translation; the conditional mean and variance of the missing keypoints
follow from the covariance of all (Bishop 2006, "Pattern Recognition and Machine Learning", section 2.3.1). The two
coordinates share one covariance. Mean and covariance of people in COCO photographs lie beside this module
(``benchmarks/fit_pose_prior.py`` made them); any part of the keypoints has the corresponding part of both.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from featherpose.jit import kernel
from featherpose.skeleton import Skeleton

__all__ = ["PosePrior", "aligned", "expect_keypoints", "pose_prior"]

# Variance, in units of the aligned pose, that found keypoints are off by themselves.
_NOISE = np.float64(0.02)
# Fewer known keypoints than this tell nothing about scale.
_FEWEST = 2


class PosePrior(NamedTuple):
    """A Gaussian over aligned poses.

    Attributes:
        rows: int32[K], for each keypoint of a skeleton its row in the other arrays, -1 where the prior lacks it.
        mean: float64[M, 2], a pose of unit spread.
        covariance: float64[M, M], of one coordinate.
    """

    rows: Int32[np.ndarray, " K"]
    mean: Float64[np.ndarray, "M 2"]
    covariance: Float64[np.ndarray, "M M"]


@lru_cache(maxsize=64)
def pose_prior(skeleton: Skeleton) -> PosePrior | None:
    """Return the prior of a skeleton's keypoints, by their names; None if it knows fewer than half of them.

    Example:
        >>> from featherpose.skeleton import COCO_17, Skeleton
        >>> prior = pose_prior(COCO_17)
        >>> prior is not None and int((prior.rows >= 0).sum())
        17
        >>> pose_prior(Skeleton.create("hand", ["thumb", "wrist"], [("thumb", "wrist")])) is None
        True
    """
    known = json.loads(resources.files(__package__).joinpath("pose_prior.json").read_text())
    names = {name: row for row, name in enumerate(known["keypoints"])}
    rows = np.array([names.get(name, -1) for name in skeleton.keypoints], np.int32)
    if 2 * int((rows >= 0).sum()) < len(rows):
        return None
    covariance = np.zeros((len(names), len(names)))
    for row, values in enumerate(known["covariance"]):
        covariance[row, : row + 1] = covariance[: row + 1, row] = values
    return PosePrior(rows, np.array(known["mean"], np.float64), covariance)


def aligned(
    pose: Float64[np.ndarray, "K 2"], mean: Float64[np.ndarray, "K 2"]
) -> tuple[Float64[np.ndarray, "K 2"], float]:
    """Move and scale a pose onto the mean pose with the least squared error over its known keypoints.

    The scale is never under half of the ratio of both spreads, so a pose unlike the mean never shrinks to a point.

    Args:
        pose: NaN where missing.
        mean: The mean pose.

    Returns:
        The pose in the mean's units, and its scale: those units per unit of the pose.

    Example:
        >>> square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
        >>> moved, scale = aligned(4 * square + 7, square)
        >>> moved.round(6).tolist(), round(scale, 6)
        ([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], 0.25)
    """
    known = np.isfinite(pose[:, 0])
    mine, its = pose[known] - pose[known].mean(axis=0), mean[known] - mean[known].mean(axis=0)
    spread = max(float((mine**2).sum()), 1e-9)
    scale = max(float((mine * its).sum()) / spread, 0.5 * float(np.sqrt((its**2).sum() / spread)), 1e-6)
    return (pose - pose[known].mean(axis=0)) * scale + mean[known].mean(axis=0), scale


@kernel
def expect_keypoints(members, positions, rows, mean, covariance, expected, spread):  # type: ignore[no-untyped-def]
    """Compute where the missing keypoints of one person are expected; False where too few are known.

    Args:
        members: int32[K], peaks of the person, -1 where missing.
        positions: float32[N, 2] of the peaks.
        rows: As in `PosePrior`.
        mean: As in `PosePrior`.
        covariance: As in `PosePrior`.
        expected: float64[K, 2], written for missing keypoints, in the units of the positions.
        spread: float64[K], written likewise: the standard deviation of one coordinate; negative for all others.
    """
    count = members.shape[0]
    known = np.empty(count, np.int64)
    n = 0
    for k in range(count):
        spread[k] = -1.0
        if members[k] >= 0 and rows[k] >= 0:
            known[n] = k
            n += 1
    if n < _FEWEST:
        return False
    center_x = center_y = middle_x = middle_y = 0.0
    for i in range(n):
        center_x += positions[members[known[i]], 0] / n
        center_y += positions[members[known[i]], 1] / n
        middle_x += mean[rows[known[i]], 0] / n
        middle_y += mean[rows[known[i]], 1] / n
    own = its = both = 0.0
    for i in range(n):
        dx = positions[members[known[i]], 0] - center_x
        dy = positions[members[known[i]], 1] - center_y
        mx = mean[rows[known[i]], 0] - middle_x
        my = mean[rows[known[i]], 1] - middle_y
        own += dx * dx + dy * dy
        its += mx * mx + my * my
        both += dx * mx + dy * my
    own = max(own, 1e-9)
    scale = max(max(both / own, 0.5 * np.sqrt(its / own)), 1e-6)
    # Cholesky factor of the covariance of the known keypoints, then the deviations and each missing row through it.
    lower = np.zeros((n, n))
    off = np.empty((n, 2))
    for i in range(n):
        for j in range(i + 1):
            value = covariance[rows[known[i]], rows[known[j]]]
            if i == j:
                value += _NOISE
            for m in range(j):
                value -= lower[i, m] * lower[j, m]
            lower[i, j] = np.sqrt(max(value, 1e-9)) if i == j else value / lower[j, j]
        off[i, 0] = (positions[members[known[i]], 0] - center_x) * scale + middle_x - mean[rows[known[i]], 0]
        off[i, 1] = (positions[members[known[i]], 1] - center_y) * scale + middle_y - mean[rows[known[i]], 1]
        for axis in range(2):
            for m in range(i):
                off[i, axis] -= lower[i, m] * off[m, axis]
            off[i, axis] /= lower[i, i]
    gain = np.empty(n)
    for k in range(count):
        if rows[k] < 0 or members[k] >= 0:
            continue
        x = mean[rows[k], 0]
        y = mean[rows[k], 1]
        variance = covariance[rows[k], rows[k]]
        for i in range(n):
            value = covariance[rows[k], rows[known[i]]]
            for m in range(i):
                value -= lower[i, m] * gain[m]
            gain[i] = value / lower[i, i]
            x += gain[i] * off[i, 0]
            y += gain[i] * off[i, 1]
            variance -= gain[i] * gain[i]
        expected[k, 0] = (x - middle_x) / scale + center_x
        expected[k, 1] = (y - middle_y) / scale + center_y
        spread[k] = np.sqrt(max(variance, 1e-6)) / scale
    return True
