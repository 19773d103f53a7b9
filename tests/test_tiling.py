"""Tiles: plans cover the image, blending is exact, borders split nobody, and small people are found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherpose.errors import OptionError
from featherpose.estimator import PoseEstimator
from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.method import PAF
from featherpose.oks import oks_matrix
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, OPENPOSE_18
from featherpose.tiling import TileOptions, TilePlan, merge_scales, stitch


@given(
    st.integers(20, 5000),
    st.integers(20, 5000),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([0, 16, 64, 200]),
)
@settings(max_examples=200, deadline=None)
def test_plans_cover_the_image(width: int, rows: int, tile_rows: int, columns: int, overlap: int) -> None:
    options = TileOptions(rows=tile_rows, columns=columns, overlap_px=overlap)
    plan = TilePlan.fit((width, rows), height=128, size_multiple=8, options=options)
    total_width, total_rows = plan.letterbox.network_size
    covered = np.zeros((total_rows // 8, total_width // 8), int)
    for x, y in plan.origins:
        assert x % 8 == y % 8 == 0
        assert 0 <= x <= total_width - plan.tile_size[0]
        assert 0 <= y <= total_rows - plan.tile_size[1]
        covered[y // 8 : (y + plan.tile_size[1]) // 8, x // 8 : (x + plan.tile_size[0]) // 8] += 1
    assert covered.min() >= 1
    assert len(set(plan.origins)) == len(plan.origins)
    assert plan.tile_size[1] <= 128


def person(x: float, y: float, size: float) -> np.ndarray:
    body = np.array(
        [[0, -9], [0, -6], [-2, -6], [-3, -3], [-3, 0], [2, -6], [3, -3], [3, 0], [-1, 0], [-1, 4], [-1, 8],
         [1, 0], [1, 4], [1, 8], [-0.5, -9.5], [0.5, -9.5], [-1, -9], [1, -9]],
        np.float32,
    )  # fmt: skip
    return body * np.float32(size / 18) + np.array([x, y], np.float32)


def test_stitched_tiles_are_the_whole() -> None:
    """Split from the maps of the whole, the tiles give them back, and a crowd on the borders stays whole."""
    plan = TilePlan.fit((1280, 720), height=256, size_multiple=8, options=TileOptions())
    width, rows = plan.letterbox.network_size
    people = np.stack([person(x, y, 120) for x in range(60, width - 40, 80) for y in (90, 224, 350)])
    whole = encode_maps(people, OPENPOSE_18, (width, rows))
    tiles = []
    for x, y in plan.origins:
        window = np.s_[:, y // 8 : (y + plan.tile_size[1]) // 8, x // 8 : (x + plan.tile_size[0]) // 8]
        tiles.append({"heatmaps": whole.heatmaps[window], "pafs": whole.pafs[window]})
    outputs = PAF.outputs(OPENPOSE_18)
    stitched = stitch(tiles, plan, outputs)
    np.testing.assert_allclose(stitched["heatmaps"], whole.heatmaps, atol=1e-5)
    np.testing.assert_allclose(stitched["pafs"], whole.pafs, atol=1e-5)
    poses = PAF.decoder(OPENPOSE_18, outputs)(stitched, plan.letterbox)
    assert len(poses) == len(people)


def as_poses(keypoints: np.ndarray, scores: list[float]) -> Poses:
    found = (~np.isnan(keypoints[..., 0])).astype(np.float32)
    return Poses(keypoints.astype(np.float32), found, np.array(scores, np.float32), OPENPOSE_18, (1000, 1000))


def test_people_of_both_scales_are_merged_once() -> None:
    left, right = person(200, 300, 200), person(600, 300, 220)
    cut = left.copy()
    cut[8:14] = np.nan  # the legs are missing in one view
    fine = as_poses(np.stack([cut + 2, right]), [2.0, 3.0])
    headless = right.copy()
    headless[14:] = np.nan
    coarse = as_poses(np.stack([headless + 3, left]), [1.0, 1.5])
    merged = merge_scales(fine, coarse)
    assert len(merged) == 2
    assert merged.detected.all()
    np.testing.assert_allclose(merged.scores, [3.0, 2.0])
    np.testing.assert_allclose(merged.keypoints[1, :8], cut[:8] + 2)  # the better view keeps what it has
    np.testing.assert_allclose(merged.keypoints[1, 8:14], left[8:14])  # and takes over what it lacks


def test_people_who_stand_close_stay_two() -> None:
    fine = as_poses(np.stack([person(200, 300, 200)]), [2.0])
    coarse = as_poses(np.stack([person(260, 300, 200)]), [2.0])
    assert len(merge_scales(fine, coarse)) == 2


def test_fragments_of_somebody_are_dropped() -> None:
    """The tiles see a large person in two pieces; the whole image sees the person."""
    whole = person(500, 500, 800)
    top, bottom = whole.copy(), whole.copy()
    top[8:14] = np.nan
    bottom[:8] = bottom[14:] = np.nan
    merged = merge_scales(as_poses(np.stack([top, bottom]), [1.0, 0.9]), as_poses(whole[None], [2.0]))
    assert len(merged) == 1


def test_nobody_in_one_of_the_scales() -> None:
    somebody = as_poses(person(500, 500, 800)[None], [1.0])
    nobody = Poses.empty(OPENPOSE_18, (1000, 1000))
    assert merge_scales(somebody, nobody) is somebody
    assert merge_scales(nobody, somebody) is somebody
    assert len(merge_scales(nobody, nobody)) == 0


@pytest.mark.parametrize(
    "values", [{"rows": 0}, {"columns": 33}, {"overlap_px": -1}, {"same_person_oks": 0.0}, {"same_person_oks": 1.1}]
)
def test_options_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        TileOptions(**values)  # type: ignore[arg-type]


# With the released network, on real photographs.


@pytest.fixture(scope="module")
def mosaic(coco_val: Path) -> tuple[np.ndarray, Poses]:
    """Sixteen photographs in their own pixels as one image of 2560x1920, and everyone in it."""
    annotations = json.loads((coco_val / "annotations.json").read_text())
    people: dict[int, list[list[float]]] = {}
    for entry in annotations["annotations"]:
        if entry["num_keypoints"] >= 8:
            people.setdefault(entry["image_id"], []).append(entry["keypoints"])
    fitting = [e for e in annotations["images"] if (e["width"], e["height"]) == (640, 480) and people.get(e["id"])]
    scene = np.zeros((1920, 2560, 3), np.uint8)
    keypoints = []
    for slot, entry in enumerate(fitting[:16]):
        row, column = divmod(slot, 4)
        image = cv2.imread(str(coco_val / "images" / entry["file_name"]))
        assert image is not None
        scene[row * 480 : row * 480 + 480, column * 640 : column * 640 + 640] = image
        for flat in people[entry["id"]]:
            points = np.array(flat, np.float32).reshape(17, 3)
            placed = points[:, :2] + (column * 640, row * 480)
            placed[points[:, 2] == 0] = np.nan
            keypoints.append(placed)
    truth = np.array(keypoints, np.float32)
    seen = (~np.isnan(truth[..., 0])).astype(np.float32)
    return scene, Poses(truth, seen, np.ones(len(truth), np.float32), COCO_17, (2560, 1920))


@pytest.fixture(scope="module")
def plain(released_int8: Path) -> Iterator[PoseEstimator]:
    with PoseEstimator(released_int8, quality="fast", precision="int8", threads=2) as opened:
        yield opened


def recall(found: Poses, truth: Poses) -> float:
    """Share of the people who are found with OKS 0.5 or more."""
    return float((oks_matrix(truth, found.to_skeleton(COCO_17)).max(axis=1, initial=0) >= 0.5).mean())


@pytest.mark.slow
def test_tiles_find_small_people(plain: PoseEstimator, released_int8: Path, mosaic: tuple[np.ndarray, Poses]) -> None:
    scene, truth = mosaic
    assert len(truth) > 25
    with PoseEstimator(
        released_int8, quality="fast", precision="int8", threads=2, tiles=TileOptions(rows=4, columns=4)
    ) as tiled:
        found = tiled(scene)
        single = plain(scene)
        assert recall(found, truth) > recall(single, truth) + 0.3
        # Nobody is counted twice: of two people found, no pair is one person.
        similarity = oks_matrix(found, found)
        np.fill_diagonal(similarity, 0)
        assert (similarity.max(axis=1) > 0.7).mean() < 0.05
        assert len(tiled.submit(scene).result()) == len(found)
        assert [len(poses) for poses in tiled([scene, scene])] == [len(found)] * 2


@pytest.mark.slow
def test_borders_cut_nobody(plain: PoseEstimator, released_int8: Path, astronaut: np.ndarray) -> None:
    """One real person moved over the borders of the tiles stays one person, nearly where the large view sees her."""
    options = TileOptions(rows=2, columns=2, whole=False, overlap_px=96)
    small = cv2.resize(astronaut, (240, 240), interpolation=cv2.INTER_AREA)
    with PoseEstimator(released_int8, quality="fast", precision="int8", threads=2, tiles=options) as tiled:
        for x, y in ((0, 0), (200, 120), (232, 130), (264, 140), (296, 150), (400, 240)):
            scene = np.full((480, 640, 3), 128, np.uint8)
            scene[y : y + 240, x : x + 240] = small
            poses = tiled(scene)
            assert len(poses) == 1, (x, y, poses)
            nose = poses.keypoints[0, 0] - (x, y)
            assert np.hypot(*(nose - np.array([224, 125]) * 240 / 512)) < 4
