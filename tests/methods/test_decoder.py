"""The decoder as a whole: one test for each defect of other implementations, threads, odd maps, read-only installs."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import ModelError, OptionError
from featherpose.geometry import Letterbox
from featherpose.jit import kernel_cache, kernels_are_cached
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.maps import Maps
from featherpose.methods.paf.method import PAF
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton
from featherpose.tracking import warm_up as warm_up_tracking

# A standing person in OpenPose order, in units of its height.
STANDING = np.array(
    [
        [0, 0.06], [0, 0.18], [-0.11, 0.18], [-0.14, 0.34], [-0.15, 0.48], [0.11, 0.18], [0.14, 0.34], [0.15, 0.48],
        [-0.07, 0.5], [-0.08, 0.73], [-0.08, 0.96], [0.07, 0.5], [0.08, 0.73], [0.08, 0.96],
        [-0.03, 0.04], [0.03, 0.04], [-0.06, 0.05], [0.06, 0.05],
    ],
    np.float32,
)  # fmt: skip


def row_of_people(count: int, height_px: float = 220) -> tuple[np.ndarray, tuple[int, int]]:
    """People side by side and the size of an image that holds them."""
    step = height_px * 0.55
    x = (np.arange(count) + 0.5) * step
    people = STANDING[None] * height_px + np.stack((x, np.full(count, 12.0)), axis=1)[:, None]
    return people.astype(np.float32), (int(count * step), int(height_px + 24))


def box_of(size: tuple[int, int]) -> Letterbox:
    width, height = -(-size[0] // 8) * 8, -(-size[1] // 8) * 8
    return Letterbox((width, height), (width, height), (0, 0), (width, height))


@pytest.mark.slow
@pytest.mark.parametrize("options", [PafOptions(), PafOptions.published()])
def test_everyone_comes_back_where_they_were(options: PafOptions) -> None:
    people, size = row_of_people(5)
    poses = PafDecoder(OPENPOSE_18, options)(encode_maps(people, OPENPOSE_18, size), box_of(size))
    assert len(poses) == 5
    poses = poses[np.argsort(poses.keypoints[:, 1, 0])]
    assert np.abs(poses.keypoints - people).max() < 1.5
    assert (poses.keypoint_scores > 0.9).all()


def test_defect_3_the_callers_maps_are_not_modified() -> None:
    people, size = row_of_people(2)
    maps = encode_maps(people, OPENPOSE_18, size)
    before = maps.heatmaps.copy(), maps.pafs.copy()
    PafDecoder(OPENPOSE_18)(maps, box_of(size))
    np.testing.assert_array_equal(maps.heatmaps, before[0])
    np.testing.assert_array_equal(maps.pafs, before[1])
    maps.heatmaps.flags.writeable = maps.pafs.flags.writeable = False
    assert len(PafDecoder(OPENPOSE_18)(maps, box_of(size))) == 2


def test_defect_6_one_decoder_one_place_for_every_stride() -> None:
    people, size = row_of_people(1)
    found = []
    for heatmap_stride, paf_stride in ((8, 8), (4, 8), (4, 4), (8, 4)):
        maps = encode_maps(people, OPENPOSE_18, size, heatmap_stride=heatmap_stride, paf_stride=paf_stride)
        poses = PafDecoder(OPENPOSE_18)(maps, box_of(size))
        assert len(poses) == 1
        found.append(poses.keypoints[0])
        assert np.abs((poses.keypoints[0] - people[0]).mean(axis=0)).max() < 0.15  # no shift of half a pixel
    for other in found[1:]:
        assert np.abs(other - found[0]).max() < 1


def test_defect_7_missing_keypoints_are_nan_with_score_zero() -> None:
    people, size = row_of_people(1)
    people[0, [4, 10]] = np.nan
    poses = PafDecoder(OPENPOSE_18)(encode_maps(people, OPENPOSE_18, size), box_of(size))
    assert np.isnan(poses.keypoints[0, [4, 10]]).all()
    assert (poses.keypoint_scores[0, [4, 10]] == 0).all()
    assert poses.detected.sum() == 16


def test_defect_11_a_scaled_and_padded_image_gives_source_pixels() -> None:
    people, _ = row_of_people(1, height_px=400)
    people += np.array([300.3, 20.7], np.float32)
    letterbox = Letterbox.fit((1283, 517), height=256, multiple=8)
    maps = encode_maps(letterbox.forward(people), OPENPOSE_18, letterbox.network_size)
    poses = PafDecoder(OPENPOSE_18)(maps, letterbox)
    assert poses.image_size == (1283, 517)
    assert np.abs((poses.keypoints - people).mean(axis=(0, 1))).max() < 0.5
    assert np.abs(poses.keypoints - people).max() < 3.5


@pytest.mark.parametrize("count", [31, 150])
def test_defect_12_nobody_is_cut_off(count: int) -> None:
    people, size = row_of_people(count, height_px=160)
    poses = PafDecoder(OPENPOSE_18)(encode_maps(people, OPENPOSE_18, size), box_of(size))
    assert len(poses) == count


def test_people_come_best_first_and_small_fragments_do_not_come() -> None:
    people, size = row_of_people(3)
    people[1, 8:14] = np.nan  # cut off at the hips
    people[2, 2:] = np.nan  # nose and neck only
    poses = PafDecoder(OPENPOSE_18)(encode_maps(people, OPENPOSE_18, size), box_of(size))
    assert len(poses) == 2
    assert poses.scores[0] > poses.scores[1]
    assert poses.detected.sum(axis=1).tolist() == [18, 12]
    pairs = PafDecoder(OPENPOSE_18, PafOptions(min_keypoints=2, min_rating=0))
    assert len(pairs(encode_maps(people, OPENPOSE_18, size), box_of(size))) == 3


def test_second_pass_gives_weak_joints_to_people_who_lack_them() -> None:
    people, size = row_of_people(1)
    maps = encode_maps(people, OPENPOSE_18, size)
    maps.heatmaps[4] *= 0.06  # a right wrist that the network hardly sees, at the end of a clear forearm
    decoder = PafDecoder(OPENPOSE_18)
    strict = PafOptions(peak_threshold=0.1, weak_peak_threshold=None)
    assert decoder(maps, box_of(size), options=strict).detected.sum() == 17
    completed = decoder(maps, box_of(size), options=PafOptions(peak_threshold=0.1, weak_peak_threshold=0.03))
    assert completed.detected.all()
    assert 0.03 < completed.keypoint_scores[0, 4] < 0.1


def test_any_number_of_threads_may_share_a_decoder() -> None:
    people, size = row_of_people(6)
    maps, decoder = encode_maps(people, OPENPOSE_18, size), PafDecoder(OPENPOSE_18)
    alone = decoder(maps, box_of(size))
    with ThreadPoolExecutor(8) as pool:
        for poses in pool.map(lambda _: decoder(maps, box_of(size)), range(64)):
            np.testing.assert_array_equal(poses.keypoints, alone.keypoints)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0, 1.0])
def test_maps_of_nonsense_find_nobody_or_finish(value: float) -> None:
    maps = Maps(np.full((19, 8, 9), value, np.float32), np.full((38, 8, 9), value, np.float32))
    poses = PafDecoder(OPENPOSE_18)(maps, box_of((72, 64)))
    assert len(poses) <= 1
    assert not np.isinf(poses.keypoints).any()


def test_noise_finishes_and_channels_last_views_are_taken() -> None:
    rng = np.random.default_rng(0)
    heatmaps, pafs = rng.random((19, 40, 60)), rng.uniform(-1, 1, (38, 40, 60))
    box = box_of((480, 320))
    plain = PafDecoder(OPENPOSE_18)(Maps(heatmaps.astype(np.float32), pafs.astype(np.float32)), box)
    views = Maps(
        np.ascontiguousarray(heatmaps.transpose(1, 2, 0).astype(np.float32)).transpose(2, 0, 1),
        np.ascontiguousarray(pafs.transpose(1, 2, 0).astype(np.float32)).transpose(2, 0, 1),
    )
    np.testing.assert_array_equal(PafDecoder(OPENPOSE_18)(views, box).keypoints, plain.keypoints)


def test_maps_of_another_skeleton_are_refused() -> None:
    maps = Maps(np.zeros((19, 8, 8), np.float32), np.zeros((38, 8, 8), np.float32))
    with pytest.raises(ModelError, match="body_25"):
        PafDecoder(BODY_25)(maps, box_of((64, 64)))


def test_skeletons_without_limbs_or_with_one_keypoint_find_nobody() -> None:
    point = Skeleton.create("point", ["point"], [])
    decoder = PafDecoder(point)
    decoder.warm_up()
    maps = encode_maps(np.full((1, 1, 2), 30, np.float32), point, (64, 64))
    assert len(decoder(maps, box_of((64, 64)))) == 0


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("peak_threshold", -0.1), ("peak_threshold", float("nan")), ("min_limb_support", 1.5), ("limb_samples", 1),
        ("suppression_radius_px", -1), ("min_keypoints", 0), ("weak_peak_threshold", 0.5), ("rank_exponent", 99),
    ],
)  # fmt: skip
def test_rules_outside_their_range_are_refused(rule: str, value: float) -> None:
    with pytest.raises(OptionError, match=rule):
        PafOptions(**{rule: value})  # type: ignore[arg-type]


@pytest.mark.slow
def test_warm_up_compiles_everything_and_leaves_it_on_disk() -> None:
    for skeleton in (OPENPOSE_18, COCO_17):
        PafDecoder(skeleton, PafOptions.published()).warm_up()
    warm_up_tracking()  # whoever collected the tests may have loaded its kernels, and those count as well
    assert kernel_cache() is None or kernels_are_cached(*PAF.kernel_modules, "featherpose.tracking")


@pytest.mark.slow
def test_kernels_work_where_no_cache_can_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("not a folder")
    code = (
        "from featherpose.jit import kernel_cache\n"
        "from featherpose.methods.paf.peaks import find_peaks\n"
        "import numpy as np\n"
        "assert kernel_cache() is None\n"
        "print(len(find_peaks(np.eye(5, dtype=np.float32)[None], 1, threshold=0.1, suppression_radius=1).scores))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(blocked / "below")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1


def test_near_limbs_first_finds_the_same_crowd() -> None:
    people, size = row_of_people(40, height_px=160)
    maps, decoder = encode_maps(people, OPENPOSE_18, size), PafDecoder(OPENPOSE_18)
    near = decoder(maps, box_of(size), options=PafOptions(prefer_near_pairs=True))
    every = decoder(maps, box_of(size), options=PafOptions(prefer_near_pairs=False))
    assert len(near) == len(every) == 40
    np.testing.assert_allclose(np.sort(near.keypoints, axis=0), np.sort(every.keypoints, axis=0), atol=1e-3)


def test_limbs_are_read_at_every_cell_so_that_a_row_of_people_does_not_fool_them() -> None:
    # Ten samples across a regular row can all fall on somebody's limb; the published rule joins strangers here.
    people, size = row_of_people(31, height_px=160)
    maps, decoder = encode_maps(people, OPENPOSE_18, size), PafDecoder(OPENPOSE_18)
    assert len(decoder(maps, box_of(size), options=PafOptions(prefer_near_pairs=False, limb_every_cell=True))) == 31
    assert len(decoder(maps, box_of(size), options=PafOptions.published())) != 31
