"""Encoding: the compiled kernels against the plain definition, masks, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherpose.errors import OptionError, SkeletonError
from featherpose.evaluation.reference.paf import encode_maps_plainly
from featherpose.methods.gaussians import ignore_boxes, shrink_mask
from featherpose.methods.paf.encode import encode_into, encode_maps
from featherpose.skeleton import BODY_25, COCO_17, LSP_14, OPENPOSE_18, Skeleton


def crowd(seed: int, people: int, skeleton: Skeleton, size: tuple[int, int], missing: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-20, 20, (people, skeleton.num_keypoints, 2)) + rng.uniform(0, size, (people, 1, 2))
    points[rng.random(points.shape[:2]) < missing] = np.nan
    return points.astype(np.float32)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), people=st.integers(0, 5), which=st.sampled_from([OPENPOSE_18, COCO_17, LSP_14]))
def test_kernels_draw_what_the_plain_definition_says(seed: int, people: int, which: Skeleton) -> None:
    points = crowd(seed, people, which, (104, 72))
    fast = encode_maps(points, which, (104, 72))
    plain = encode_maps_plainly(points, which, (104, 72))
    np.testing.assert_allclose(fast.heatmaps, plain.heatmaps, atol=2e-5)
    # A cell exactly on a limb's border may fall on either side by rounding.
    wrong = np.abs(fast.pafs - plain.pafs) > 1e-4
    assert wrong.mean() < 1e-3


def test_stride_4_and_8_together_keep_the_same_place() -> None:
    points = np.full((1, 18, 2), 83.5, np.float32)  # the center of cell 10 of stride 8
    maps = encode_maps(points, OPENPOSE_18, (160, 160), heatmap_stride=8, paf_stride=4)
    assert maps.heatmaps.shape == (19, 20, 20)
    assert maps.pafs.shape == (38, 40, 40)
    assert maps.heatmaps[0, 10, 10] == 1.0
    assert maps.heatmaps[18, 10, 10] == 0.0


def test_a_missing_or_infinite_keypoint_draws_nothing() -> None:
    points = np.full((1, 18, 2), np.nan, np.float32)
    points[0, 3] = np.inf, 20
    points[0, 4] = 1e30, -1e30
    maps = encode_maps(points, OPENPOSE_18, (64, 64))
    assert not maps.heatmaps[:18].any()
    assert not maps.pafs.any()
    assert (maps.heatmaps[18] == 1).all()


def test_overlapping_limbs_are_averaged() -> None:
    line = Skeleton.create("line", ["a", "b"], [("a", "b")])
    people = np.array([[[8, 20], [56, 20]], [[56, 20], [8, 20]]], np.float32)
    maps = encode_maps(people, line, (64, 40))
    assert np.abs(maps.pafs).max() < 1e-6  # to the right and to the left: nothing remains
    assert np.abs(encode_maps(people[:1], line, (64, 40)).pafs).max() == 1


def test_old_contents_of_the_output_are_overwritten() -> None:
    heatmaps, pafs = np.full((19, 8, 8), 7, np.float32), np.full((38, 8, 8), 7, np.float32)
    encode_into(np.empty((0, 18, 2), np.float32), OPENPOSE_18, heatmaps, pafs)
    assert not pafs.any()
    assert not heatmaps[:18].any()
    assert (heatmaps[18] == 1).all()


def test_what_does_not_fit_is_refused() -> None:
    points = np.zeros((1, 18, 2), np.float32)
    with pytest.raises(SkeletonError, match=r"\(people, 25, 2\)"):
        encode_maps(points, BODY_25, (64, 64))
    with pytest.raises(OptionError, match="sigma_px"):
        encode_maps(points, OPENPOSE_18, (64, 64), sigma_px=0)
    with pytest.raises(OptionError, match="positive"):
        encode_maps(points, OPENPOSE_18, (0, 64))
    with pytest.raises(SkeletonError, match="contiguous"):
        encode_into(points, OPENPOSE_18, np.zeros((19, 8, 16), np.float32)[:, :, ::2], np.zeros((38, 8, 8), np.float32))
    with pytest.raises(SkeletonError, match="heatmaps of shape"):
        encode_into(points, OPENPOSE_18, np.zeros((17, 8, 8), np.float32), np.zeros((38, 8, 8), np.float32))


def test_masks_count_the_pixels_of_each_cell() -> None:
    mask = np.ones((20, 20), np.bool_)
    mask[:4] = False
    cells = shrink_mask(mask, 8)
    assert cells.shape == (3, 3)
    np.testing.assert_allclose(cells[:, 0], [0.5, 1, 1])
    assert (ignore_boxes(np.array([[-50, -50, 500, 500]], np.float32), (24, 16)) == 0).all()
    assert (ignore_boxes(np.array([[9, 9, 3, 3]], np.float32), (24, 16)) == 1).all()
