"""Compiled and rearranged arithmetic of the analysis against its plain form."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.signal import butter, sosfiltfilt

from featherpose.evaluation.motion.known_people import walking
from featherpose.evaluation.motion.noise import bundled_noise, see_with_noise
from featherpose.motion.body_points import body_boxes, body_size
from featherpose.motion.cleaning.cutoffs import pass_cutoff
from featherpose.motion.cleaning.filters import FilterOptions, derivative, filter_sequence, filter_values
from featherpose.motion.cleaning.gaps import fill_gaps
from featherpose.motion.cleaning.hampel import hampel_outliers
from featherpose.motion.cleaning.lowpass import low_pass
from featherpose.motion.cleaning.medians import row_medians
from featherpose.motion.cleaning.runs import true_runs
from featherpose.motion.cleaning.swaps import _cheapest
from featherpose.motion.events.supports import _rests
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import OPENPOSE_18, Skeleton


@pytest.fixture(scope="module")
def noisy() -> PoseSequence:
    return see_with_noise(walking(10), OPENPOSE_18, bundled_noise(), seed=3)


def test_outliers_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(60, 3))
    values[rng.random(values.shape) < 0.1] *= 30
    values[rng.random(values.shape) < 0.15] = np.nan
    least = np.array([0.0, 0.5, 1.0])
    plain = np.zeros(values.shape, bool)
    for c in range(3):
        for t in range(60):
            window = values[max(0, t - 3) : t + 4, c]
            window = window[np.isfinite(window)]
            if len(window) >= 3:
                middle = np.median(window)
                spread = 1.4826 * np.median(np.abs(window - middle))
                plain[t, c] = abs(values[t, c] - middle) > max(3 * spread, least[c])
    np.testing.assert_array_equal(hampel_outliers(values, 7, 3.0, least), plain)
    assert plain.sum() > 5


@pytest.mark.parametrize("order", [2, 4, 8])
def test_the_low_pass_is_that_of_scipy(order: int) -> None:
    rng = np.random.default_rng(2)
    for length in (4, 30, 500):
        rows, cutoffs = rng.normal(size=(5, length)).cumsum(1), np.array([6.0, 2.0, 6.0, 40.0, 1.0])
        plain = rows.copy()
        for row in (0, 1, 2, 4):  # 40 Hz is beyond what 60 values a second hold
            cutoff = cutoffs[row]
            sections = butter(order // 2, pass_cutoff(cutoff, order), fs=60, output="sos")
            pad = min(length - 1, max(3 * (order // 2 + 1), int(np.ceil(60 / cutoff))))
            plain[row] = sosfiltfilt(sections, rows[row], padtype="odd", padlen=pad)
        np.testing.assert_allclose(low_pass(rows, 60, cutoffs, order), plain, rtol=1e-12, atol=1e-12)


def test_gaps_are_filled_as_by_the_curve_through_everything() -> None:
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.5, 1.5, 120)) / 30
    points = rng.normal(size=(120, 1, 2)).cumsum(0)
    missing = rng.random(120) < 0.4
    points[missing] = np.nan
    there = np.flatnonzero(~missing)
    sequence = PoseSequence.from_arrays(points, times, Skeleton.create("dot", ["tip"], []))
    filled = fill_gaps(sequence, 0.2)
    added = filled.found[:, 0, 0] & missing
    assert added.sum() > 20
    plain = PchipInterpolator(times[there], points[there, 0])(times[added])
    np.testing.assert_allclose(filled.keypoints[added, 0, 0], plain, rtol=1e-12)


def test_the_cheapest_exchange_is_that_of_all_exchanges() -> None:
    rng = np.random.default_rng(4)
    decided = 0
    for _ in range(40):
        times = np.cumsum(rng.uniform(0.8, 1.2, 8)) / 30
        pair = rng.normal(0, 0.02, (8, 2, 2)).cumsum(0) + np.array([[0.0, 0.0], [0.3, 0.1]])
        hurt = rng.random(8) < 0.3
        pair[hurt] = pair[hurt][:, ::-1]
        bones = rng.uniform(0, 0.01, (8, 2))
        steps = np.diff(times)

        def bends(order: np.ndarray, pair: np.ndarray = pair, steps: np.ndarray = steps) -> np.ndarray:
            seen = np.where(order[:, None, None], pair[:, ::-1], pair)
            moves = np.diff(seen, axis=0)
            bend = moves[1:] - (steps[1:] / steps[:-1])[:, None, None] * moves[:-1]
            return np.asarray(np.median(steps) / steps[1:] * np.hypot(bend[..., 0], bend[..., 1]).sum(1))

        price = max(0.01, float(np.median(bends(np.zeros(8, bool)))))
        fee = price + bones[:, 1] - bones[:, 0]
        orders = [np.array(order) for order in product((False, True), repeat=8)]
        costs = [bends(order).sum() + fee[order].sum() for order in orders]
        found = _cheapest(pair, times, 0.01, bones)
        np.testing.assert_array_equal(found, orders[int(np.argmin(costs))])
        decided += int(found.any())
    assert decided > 10


def test_the_robust_curve_is_that_of_plain_rounds(noisy: PoseSequence) -> None:
    options = FilterOptions()
    size, times = body_size(noisy)[0], noisy.timestamps_s
    for k in range(OPENPOSE_18.num_keypoints):
        read = noisy.keypoints[:, 0, k] / size
        curve = filter_values(read, times, options)
        for turn in range(6):
            away = read - curve
            apart = np.hypot(away[:, 0], away[:, 1])
            sigma = max(0.01, 1.4826 * float(np.median(np.nan_to_num(np.abs(away)))))
            ratio = np.maximum(apart / sigma, 2.0)
            weights = 2.0 / ratio if turn < 4 else np.clip(1 - (ratio / 4.685) ** 2, 0, None) ** 2
            weights[ratio <= 2.0] = 1.0
            if not (apart > 2.0 * sigma).any():
                break
            curve = filter_values(curve + weights[:, None] * away, times, options)
        robust = filter_sequence(noisy, options, robust=True).keypoints[:, 0, k]
        np.testing.assert_allclose(robust, curve * size, rtol=1e-9)


def test_boxes_and_medians_are_those_of_numpy(noisy: PoseSequence) -> None:
    points = noisy.keypoints.copy()
    points[5] = np.nan
    boxes = body_boxes(PoseSequence.from_arrays(points, noisy.timestamps_s, OPENPOSE_18))
    assert np.isnan(boxes[5]).all()
    np.testing.assert_array_equal(boxes[4, 0, :2], np.nanmin(points[4, 0], axis=0))
    np.testing.assert_array_equal(boxes[4, 0, 2:], np.nanmax(points[4, 0], axis=0))
    for length in (1, 2, 7, 100):
        values = np.random.default_rng(length).normal(size=(5, length))
        np.testing.assert_array_equal(row_medians(values), np.median(values, axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_rests_of_a_foot_are_those_of_slices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times, leg, clear = np.arange(3000) / 60, 0.9, 0.1
    height = np.repeat(rng.choice([0.0, 0.05, 0.3], 100), 30) + rng.normal(0, 0.004, 3000)
    height[rng.random(3000) < 0.01] = np.nan
    height[rng.random(3000) < 0.02] += 0.2

    stretches: list[list[tuple[int, int]]] = []
    with np.errstate(invalid="ignore"):
        still = np.abs(derivative(height, times)) < 0.5 * leg
    for first, last in true_runs(still):
        if stretches and np.ptp(height[stretches[-1][0][0] : last]) <= clear:
            stretches[-1].append((first, last))
        else:
            stretches.append([(first, last)])
    plain = []
    for runs in stretches:
        first, last = runs[0][0], runs[-1][1]
        top_s = 1.07 * float(np.sqrt(np.ptp(height[first:last]) / leg))
        if times[last - 1] - times[first] >= max(0.15, top_s) or any(times[b - 1] - times[a] >= 0.15 for a, b in runs):
            plain.append((first, last, float(np.median(height[first:last]))))

    assert len(plain) > 20
    assert any(len(runs) > 1 for runs in stretches)
    np.testing.assert_array_equal(_rests(height, times, leg, clear), plain)
