"""Cleaning and filters against plain references and injected faults."""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.errors import OptionError, SourceError
from featherpose.evaluation.motion.known_people import squatting, walking
from featherpose.motion.cleaning.cutoffs import choose_cutoffs
from featherpose.motion.cleaning.filters import FilterOptions, derivative, filter_sequence, filter_values
from featherpose.motion.cleaning.gaps import drop_doubtful, fill_gaps, resample
from featherpose.motion.cleaning.hampel import reject_outliers
from featherpose.motion.cleaning.swaps import repair_swaps
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25, Skeleton

DOT = Skeleton.create("dot", ["tip"], [])


def moving_dot(x: np.ndarray, rate_hz: float = 30) -> PoseSequence:
    return PoseSequence.from_arrays(np.stack([x, 0 * x], -1)[:, None], np.arange(len(x)) / rate_hz, DOT)


def test_outliers_become_gaps_and_smooth_motion_stays() -> None:
    known = walking(6)
    points = known.sequence.keypoints.copy()
    rows = np.arange(10, len(points) - 10, 9)
    points[rows, 0, BODY_25.index("left_wrist")] += 80
    cleaned = reject_outliers(PoseSequence.from_arrays(points, known.sequence.timestamps_s, BODY_25))
    assert not cleaned.found[rows, 0, BODY_25.index("left_wrist")].any()
    untouched = reject_outliers(known.sequence)
    assert untouched.steps[-1].changed <= 0.002 * untouched.found.size
    assert cleaned.raw.found.all()  # what was read is kept


def test_gaps_up_to_the_maximum_are_filled_and_longer_ones_stay() -> None:
    x = np.linspace(0, 29, 30)
    x[[0, 5, 6, 12, 13, 14, 15, 16, 17, 29]] = np.nan
    filled = fill_gaps(moving_dot(x, 10), max_gap_s=0.3)
    expected = np.linspace(0, 29, 30)
    expected[[0, 12, 13, 14, 15, 16, 17, 29]] = np.nan
    np.testing.assert_allclose(filled.keypoints[:, 0, 0, 0], expected)
    assert filled.steps[-1].changed == 2
    assert filled.scores[5, 0, 0] == 0  # a filled keypoint is known by its score


@pytest.mark.parametrize("method", ["linear", "pchip", "cubic"])
def test_filled_values_follow_the_motion(method: str) -> None:
    truth = 100 * np.sin(np.arange(60) / 8)
    x = truth.copy()
    x[20:24] = np.nan
    filled = fill_gaps(moving_dot(x), max_gap_s=0.2, method=method)  # type: ignore[arg-type]
    assert np.abs(filled.keypoints[:, 0, 0, 0] - truth).max() < (6 if method == "linear" else 2)


def test_doubtful_keypoints_are_dropped() -> None:
    sequence = moving_dot(np.arange(5.0))
    weak = PoseSequence.from_arrays(sequence.keypoints, sequence.timestamps_s, DOT, scores=np.full((5, 1, 1), 0.05))
    assert not drop_doubtful(weak, 0.1).found.any()
    assert drop_doubtful(sequence, 0.1).found.all()


@pytest.mark.slow
@pytest.mark.parametrize("facing", ["right", "left"])
@pytest.mark.parametrize("rows", [slice(30, 33), slice(50, 75), slice(100, 101)])
def test_swapped_legs_are_exchanged_back(facing: str, rows: slice) -> None:
    sequence = walking(10, facing=facing).sequence
    points = sequence.keypoints.copy()
    order = list(BODY_25.flip_order)
    points[rows] = points[rows][:, :, order]
    repaired = repair_swaps(PoseSequence.from_arrays(points, sequence.timestamps_s, BODY_25))
    wrong = ~np.isclose(repaired.keypoints, sequence.keypoints).all(-1)
    # Joints that are close together may cross without anybody being able to tell; ankles and toes are far apart.
    apart = np.hypot(*(np.moveaxis(sequence.keypoints - sequence.keypoints[:, :, order], -1, 0))) > 80
    assert not (wrong & apart).any()


def test_legs_that_cross_are_left_alone() -> None:
    assert repair_swaps(walking(12).sequence).steps[-1].changed == 0
    assert repair_swaps(squatting(3).sequence).steps[-1].changed == 0


def test_butterworth_agrees_with_its_formula() -> None:
    """Half of the power remains at the cut-off after both passes; slow motion passes, fast trembling does not."""
    times = np.arange(0, 20, 1 / 100)
    for hz, share in ((0.5, 1.0), (6.0, np.sqrt(0.5)), (20.0, 0.01)):
        wave = np.sin(2 * np.pi * hz * times)[:, None]
        middle = slice(500, 1500)
        passed = filter_values(wave, times)[middle].std() / wave[middle].std()
        assert passed == pytest.approx(share, abs=0.02)


def test_no_filter_shifts_motion_in_time() -> None:
    times = np.arange(0, 6, 1 / 60)
    bell = np.exp(-((times - 3) ** 2) / 0.1)[:, None]
    for name in ("butterworth", "adaptive", "one-euro", "gaussian", "median", "loess", "gcv-spline"):
        smooth = filter_values(bell, times, FilterOptions(name=name))[:, 0]
        top = times[smooth >= smooth.max() - 1e-6]
        assert abs((top[0] + top[-1]) / 2 - 3) <= 1 / 60 + 1e-9, name


def test_loess_agrees_with_lines_fitted_one_by_one() -> None:
    rng = np.random.default_rng(2)
    values, times = rng.normal(size=(40, 2)), np.arange(40) / 50
    smooth = filter_values(values, times, FilterOptions(name="loess", width_s=0.1))
    half = 5
    for row in (0, 3, 20, 39):
        near = np.arange(max(0, row - half), min(40, row + half + 1))
        weights = (1 - (np.abs(near - row) / (half + 1)) ** 3) ** 3
        for c in range(2):
            line = np.polyfit(near - row, values[near, c], 1, w=np.sqrt(weights))
            assert smooth[row, c] == pytest.approx(line[1])


def test_noise_falls_and_gaps_stay() -> None:
    rng = np.random.default_rng(3)
    times = np.arange(240) / 60
    truth = 10 * np.sin(2 * np.pi * times)
    noisy = truth + rng.normal(0, 2, 240)
    noisy[100:130] = np.nan
    for name in ("butterworth", "adaptive", "one-euro", "gaussian", "median", "loess", "gcv-spline"):
        smooth = filter_values(noisy[:, None], times, FilterOptions(name=name, beta=0.005))[:, 0]
        assert np.isnan(smooth[100:130]).all(), name
        rest = np.isfinite(smooth)
        assert np.std((smooth - truth)[rest]) < 0.8 * 2, name
    assert filter_values(noisy[:, None], times, FilterOptions(name="none"))[0, 0] == noisy[0]


def test_the_adaptive_cutoff_follows_the_noise() -> None:
    rng = np.random.default_rng(5)
    times = np.arange(0, 8, 1 / 60)
    slow = np.sin(2 * np.pi * 0.5 * times)[:, None]
    assert choose_cutoffs(slow, 60, 6.0, 4)[0] == pytest.approx(6)  # nothing to remove
    noisy = slow + rng.normal(0, 0.2, slow.shape)
    cutoff = float(choose_cutoffs(noisy, 60, 6.0, 4)[0])
    # Against the plain way: every cut-off tried, and the error seen.
    tried = np.geomspace(1, 6, 12)
    errors = [np.sqrt(((filter_values(noisy, times, FilterOptions(cutoff_hz=c)) - slow) ** 2).mean()) for c in tried]
    chosen = filter_values(noisy, times, FilterOptions(name="adaptive"))
    np.testing.assert_allclose(chosen, filter_values(noisy, times, FilterOptions(cutoff_hz=cutoff)))
    assert np.sqrt(((chosen - slow) ** 2).mean()) <= 1.2 * min(errors) < 0.7 * errors[-1]


def test_outliers_beside_the_curve_do_not_count() -> None:
    rng = np.random.default_rng(6)
    times = np.arange(240) / 60
    truth = np.stack([300 * np.sin(times), 300 * np.cos(times)], -1)
    points = np.stack([truth, truth + 400], 1)
    skeleton = Skeleton.create("stick", ["tip", "end"], [])
    calm = PoseSequence.from_arrays(points, times, skeleton)
    np.testing.assert_array_equal(filter_sequence(calm, robust=True).keypoints, filter_sequence(calm).keypoints)
    noisy = points + rng.normal(0, 8, points.shape)
    wild = rng.random(points.shape[:2]) < 0.1
    noisy[wild] += rng.normal(0, 100, (int(wild.sum()), 2))
    sequence = PoseSequence.from_arrays(noisy, times, skeleton)
    plain, robust = filter_sequence(sequence), filter_sequence(sequence, robust=True)
    errors = [np.sqrt(((s.keypoints[:, 0] - points) ** 2).mean()) for s in (plain, robust)]
    assert errors[1] < 0.5 * errors[0]
    assert "did not count" in robust.steps[-1].text


def test_uneven_times_are_filtered_at_their_times() -> None:
    rng = np.random.default_rng(4)
    times = np.cumsum(rng.uniform(0.5, 1.5, 400) / 60)
    truth = np.sin(2 * np.pi * times)
    smooth = filter_values(truth[:, None], times)[:, 0]
    assert np.abs(smooth - truth)[10:-10].max() < 0.02


def test_resampling_gives_even_times_and_keeps_gaps() -> None:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.uniform(0.5, 1.5, 200) / 30)
    x = 30 * np.sin(2 * np.pi * times / 2)
    x[80:110] = np.nan
    sequence = PoseSequence.from_arrays(np.stack([x, x], -1)[:, None], times, DOT)
    even = resample(sequence, 50)
    np.testing.assert_allclose(np.diff(even.timestamps_s), 0.02)
    truth = 30 * np.sin(2 * np.pi * even.timestamps_s / 2)
    there = even.found[:, 0, 0]
    assert np.abs(even.keypoints[there, 0, 0, 0] - truth[there]).max() < 0.5
    hidden = (even.timestamps_s > times[80]) & (even.timestamps_s < times[109])
    assert not there[hidden].any()
    assert (np.abs(times[even.frames] - even.timestamps_s) <= 0.03).all()


def test_derivatives_of_a_parabola_are_exact_on_uneven_times() -> None:
    times = np.cumsum(np.random.default_rng(6).uniform(0.5, 1.5, 50))
    np.testing.assert_allclose(derivative(3 * times**2 - times, times), 6 * times - 1)
    assert np.isnan(derivative(np.ones(2), np.arange(2.0))).all()


def test_steps_are_reported_in_order_and_can_be_undone() -> None:
    sequence = walking(4).sequence
    changed = filter_sequence(fill_gaps(reject_outliers(sequence)))
    assert [step.name for step in changed.steps] == ["reject_outliers", "fill_gaps", "filter_sequence"]
    assert changed.raw is sequence
    assert all(step.text for step in changed.steps)


def test_bad_settings_and_bad_times_are_one_clear_line() -> None:
    sequence = moving_dot(np.arange(5.0))
    with pytest.raises(OptionError, match="a window of 4 frames; expected an odd number"):
        reject_outliers(sequence, window=4)
    with pytest.raises(OptionError, match="order 3"):
        FilterOptions(order=3)
    with pytest.raises(OptionError, match="max_gap_s is -1"):
        fill_gaps(sequence, -1)
    with pytest.raises(SourceError, match="do not increase"):
        PoseSequence.from_arrays(np.zeros((3, 1, 2)), np.array([0.0, 1.0, 1.0]), DOT)


def test_one_frame_survives_everything() -> None:
    sequence = moving_dot(np.zeros(1))
    out = filter_sequence(fill_gaps(repair_swaps(reject_outliers(sequence))))
    assert out.num_frames == 1
    assert np.isnan(out.rate_hz)
