"""Peaks: the interpolation against a full resize by OpenCV, plateaus, suppression."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.peaks import _WEIGHTS, find_peaks
from featherpose.skeleton import Skeleton

POINT = Skeleton.create("point", ["point"], [])


def test_weights_are_those_of_opencvs_cubic_resize() -> None:
    rng = np.random.default_rng(0)
    row = rng.random((1, 9)).astype(np.float32)
    resized = cv2.resize(row, (9 * 16, 1), interpolation=cv2.INTER_CUBIC)[0]
    # Resized pixel 16 * 4 + 3 lies (3 + 0.5) / 16 - 0.5 cells from the center of cell 4; compare between two pixels.
    for s, offset in enumerate(np.arange(-3, 4) * 0.25):
        at = (4 + offset + 0.5) * 16 - 0.5
        between = (resized[int(np.floor(at))] + resized[int(np.ceil(at))]) / 2
        assert abs(float(_WEIGHTS[s] @ row[0, 2:7]) - between) < 5e-3
    np.testing.assert_allclose(_WEIGHTS.sum(axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_positions_are_exact_to_a_tenth_of_a_cell_everywhere() -> None:
    rng = np.random.default_rng(1)
    for x, y in rng.uniform(20, 100, (200, 2)):
        maps = encode_maps(np.array([[[x, y]]], np.float32), POINT, (120, 120))
        peaks = find_peaks(maps.heatmaps, 1, threshold=0.1, suppression_radius=0.75)
        assert len(peaks.scores) == 1
        assert np.hypot(*(peaks.positions[0] * 8 + 3.5 - (x, y))) < 0.8
        assert 0.9 < peaks.scores[0] < 1.02


def test_defect_1_a_weak_peak_on_the_left_does_not_delete_a_strong_one() -> None:
    heatmap = np.zeros((1, 9, 12), np.float32)
    heatmap[0, 4, 3], heatmap[0, 4, 5] = 0.3, 0.9
    peaks = find_peaks(heatmap, 1, threshold=0.1, suppression_radius=3)
    assert len(peaks.scores) == 1
    assert abs(peaks.positions[0, 0] - 5) < 0.3
    assert len(find_peaks(heatmap, 1, threshold=0.1, suppression_radius=1).scores) == 2


def test_defect_2_plateaus_give_exactly_one_peak() -> None:
    for height, width in ((1, 2), (2, 1), (2, 2), (3, 4), (1, 6)):
        heatmap = np.zeros((1, 12, 12), np.float32)
        heatmap[0, 4 : 4 + height, 3 : 3 + width] = 0.8
        peaks = find_peaks(heatmap, 1, threshold=0.1, suppression_radius=0.1)
        assert len(peaks.scores) == 1
        np.testing.assert_allclose(peaks.positions[0], [3 + (width - 1) / 2, 4 + (height - 1) / 2], atol=0.05)
    disc = np.hypot(*np.mgrid[-10:11, -10:11]) < 7
    peaks = find_peaks(disc[None].astype(np.float32), 1, threshold=0.1, suppression_radius=0.1)
    np.testing.assert_allclose(peaks.positions, [[10, 10]])


def test_a_plateau_on_a_slope_is_no_peak() -> None:
    heatmap = np.zeros((1, 5, 7), np.float32)
    heatmap[0, 2, 1:5] = 0.4, 0.4, 0.6, 0.9
    assert len(find_peaks(heatmap, 1, threshold=0.1, suppression_radius=0.1).scores) == 1


def test_a_whole_map_of_one_value_and_maps_of_one_cell() -> None:
    for shape in ((1, 6, 8), (1, 1, 1), (1, 1, 7)):
        peaks = find_peaks(np.full(shape, 0.5, np.float32), 1, threshold=0.1, suppression_radius=1)
        np.testing.assert_allclose(peaks.positions, [[(shape[2] - 1) / 2, (shape[1] - 1) / 2]], atol=0.26)


def test_nothing_is_found_in_empty_or_broken_maps() -> None:
    for value in (0.0, np.nan, -1.0):
        assert len(find_peaks(np.full((2, 6, 8), value, np.float32), 2, threshold=0, suppression_radius=1).scores) == 0


def test_more_peaks_than_the_first_buffer_holds() -> None:
    heatmap = np.zeros((1, 120, 120), np.float32)
    heatmap[0, 1::3, 1::3] = np.random.default_rng(2).uniform(0.2, 1, (40, 40))
    peaks = find_peaks(heatmap, 1, threshold=0.1, suppression_radius=1)
    assert len(peaks.scores) == 1600
    assert (np.diff(peaks.scores) <= 0).all()
