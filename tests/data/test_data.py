"""Reading, checking and augmenting data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from featherpose.codecs.paf.encode import encode_maps
from featherpose.codecs.paf.maps import Maps
from featherpose.data.augment import AugmentOptions, View, change_light, sample_view
from featherpose.data.check import check_pictures, contact_sheet, swapped_sides
from featherpose.data.coco import hold_out, read_coco, read_folder
from featherpose.data.compose import compose_views
from featherpose.data.dataset import EpochSampler, PoseDataset, TargetOptions, collate
from featherpose.data.teacher_maps import (
    TeacherMaps,
    compute_teacher_maps,
    load_teacher_maps,
    mirror_maps,
    save_teacher_maps,
    warp_maps,
)
from featherpose.errors import ConfigError, DatasetError
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

# A person who fills the middle of a 200x300 picture.
_PERSON = np.array(
    [[100, 60], [96, 56], [104, 56], [90, 60], [110, 60], [80, 100], [120, 100], [70, 140], [130, 140], [66, 180],
     [134, 180], [88, 180], [112, 180], [86, 230], [114, 230], [85, 275], [115, 275]], np.float32,
)  # fmt: skip


def _write(folder: Path, image: np.ndarray, *, extra: list[dict[str, Any]] | None = None) -> Path:
    (folder / "images").mkdir(parents=True)
    height, width = image.shape[:2]
    images = []
    for number in range(4):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
    keypoints = np.column_stack([_PERSON, np.full(17, 2)]).ravel().tolist()
    annotations = [
        {"id": i + 1, "image_id": i, "keypoints": keypoints, "num_keypoints": 17, "bbox": [60, 50, 80, 230]}
        for i in range(4)
    ]
    annotations += extra or []
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


@pytest.fixture
def dataset(tmp_path: Path, astronaut: np.ndarray) -> Path:
    image = cv2.resize(astronaut, (200, 300))
    unlabelled = {"id": 9, "image_id": 0, "keypoints": [0] * 51, "num_keypoints": 0, "bbox": [0, 0, 40, 40]}
    return _write(tmp_path / "set", image, extra=[unlabelled])


def test_people_are_brought_to_the_skeleton(dataset: Path) -> None:
    pictures = read_coco(dataset, dataset.parent / "images", OPENPOSE_18)
    assert [len(p.keypoints) for p in pictures] == [1, 1, 1, 1]
    np.testing.assert_allclose(pictures[0].keypoints[0, 1], (_PERSON[5] + _PERSON[6]) / 2)  # the neck
    assert pictures[0].ignore_boxes.tolist() == [[0, 0, 40, 40]]
    train, validation = hold_out(pictures, 2)
    assert [p.image_id for p in train] == [1, 3]
    assert [p.image_id for p in validation] == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ("[]", "COCO format"),
        ('{"images": [{}], "annotations": []}', "file_name"),
        ('{"images": [], "annotations": [{"image_id": 3}], "categories": [{"keypoints": ["nose"]}]}', "not listed"),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "keypoints": [1, 2]}],'
            ' "categories": [{"keypoints": ["nose"]}]}',
            "2 keypoint numbers",
        ),
        ('{"images": [], "annotations": [], "categories": [{"keypoints": ["tail"]}]}', "some of skeleton"),
    ],
)
def test_wrong_annotation_files_are_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_coco(path, tmp_path, COCO_17)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read_coco(tmp_path / "a.json", tmp_path, COCO_17)
    with pytest.raises(DatasetError, match="not a folder"):
        read_folder(tmp_path / "none", COCO_17)
    with pytest.raises(DatasetError, match="no pictures"):
        read_folder(tmp_path, COCO_17)


def test_check_finds_what_is_wrong(dataset: Path) -> None:
    folder = dataset.parent
    (folder / "images/1.png").unlink()
    (folder / "images/2.png").write_bytes(b"no picture")
    data = json.loads(dataset.read_text())
    data["images"][3]["width"] = 999
    data["annotations"][3]["keypoints"][0] = 5000
    dataset.write_text(json.dumps(data))
    pictures = read_coco(dataset, folder / "images", COCO_17)
    report = check_pictures(pictures, COCO_17)
    kinds = {finding.kind for finding in report.findings}
    assert {"missing", "unreadable", "size", "outside"} <= kinds
    assert report.broken == 2
    assert report.readable == 2
    assert contact_sheet(pictures, COCO_17, columns=2, rows=1, cell_px=64).shape == (64, 128, 3)


def test_exchanged_sides_are_candidates() -> None:
    assert not swapped_sides(_PERSON, COCO_17)
    crossed = _PERSON.copy()
    crossed[[9, 10]] = crossed[[10, 9]]  # the wrists
    assert swapped_sides(crossed, COCO_17)


def test_view_carries_picture_and_points_alike(astronaut: np.ndarray) -> None:
    options = AugmentOptions(size_px=256, base_px=512, rotation_deg=40)
    picture = np.zeros_like(astronaut)
    cv2.circle(picture, (300, 200), 6, (255, 255, 255), -1)
    point = np.array([[[300.0, 200.0]]], np.float32)
    found = 0
    for seed in range(30):
        view = sample_view((512, 512), point, options, np.random.default_rng(seed))
        seen = view.picture(picture).astype(float).sum(axis=2)
        x, y = view.points(point)[0, 0]
        if 8 < x < 247 and 8 < y < 247:
            seen = np.where(seen > 450, seen, 0)
            ys, xs = np.mgrid[:256, :256]
            # The padding is grey, the disk white: its centre of mass is where the point went.
            assert abs((seen * xs).sum() / seen.sum() - x) < 0.35
            assert abs((seen * ys).sum() / seen.sum() - y) < 0.35
            found += 1
    assert found > 10


def test_mirrored_views_exchange_sides() -> None:
    view = View(np.diag([-1.0, 1.0]), np.array([199.0, 0.0]), (200, 300), True)
    people = view.people(_PERSON[None], COCO_17)
    np.testing.assert_allclose(people[0, 5], [199 - _PERSON[6, 0], _PERSON[6, 1]])


def test_light_is_changed_only_by_chance(astronaut: np.ndarray) -> None:
    still = AugmentOptions(light=0, blur=0, grey=0)
    assert change_light(astronaut, still, np.random.default_rng(0)) is astronaut
    grey = change_light(astronaut, AugmentOptions(light=0, blur=0, grey=1), np.random.default_rng(0))
    assert np.array_equal(grey[..., 0], grey[..., 1])


def test_composed_keypoints_lie_in_their_quarter(astronaut: np.ndarray) -> None:
    views = [cv2.resize(astronaut, (200, 300))] * 4
    scene, people, _ = compose_views(
        views, [_PERSON[None]] * 4, [np.empty((0, 4), np.float32)] * 4, np.random.default_rng(1)
    )
    assert scene.shape == (300, 200, 3)
    assert len(people) == 4
    assert np.isnan(people).any()  # parts were cut away
    assert np.nanmax(people[..., 0]) < 200


def _maps_of(people: np.ndarray, size: tuple[int, int]) -> Maps:
    return encode_maps(people, OPENPOSE_18, size, background=False)


def test_mirrored_maps_equal_maps_of_the_mirrored_people() -> None:
    people = np.full((1, 18, 2), np.nan, np.float32)
    for k, sources in enumerate(COCO_17.sources_of(OPENPOSE_18)):
        people[0, k] = _PERSON[list(sources)].mean(axis=0)
    width = 200
    view = View(np.diag([-1.0, 1.0]), np.array([width - 1.0, 0.0]), (width, 304), True)
    mirrored = _maps_of(view.people(people, OPENPOSE_18), (width, 304))
    back = mirror_maps(mirrored, OPENPOSE_18)
    straight = _maps_of(people, (width, 304))
    np.testing.assert_allclose(back.heatmaps, straight.heatmaps, atol=1e-5)
    np.testing.assert_allclose(back.pafs, straight.pafs, atol=1e-5)


@pytest.mark.parametrize("flipped", [False, True])
def test_warped_teacher_equals_encoding_in_the_view(flipped: bool) -> None:
    people = np.full((1, 18, 2), np.nan, np.float32)
    for k, sources in enumerate(COCO_17.sources_of(OPENPOSE_18)):
        people[0, k] = _PERSON[list(sources)].mean(axis=0)
    level = 1.5  # the teacher sees the picture this much larger

    def teacher(seen: np.ndarray) -> Maps:
        # An oracle that knows where the person is; the mirrored call is told by a marked corner.
        shown = people
        if seen[0, -1, 0] == 255:
            mirror = View(np.diag([-1.0, 1.0]), np.array([199.0, 0.0]), (200, 304), True)
            shown = mirror.people(people, OPENPOSE_18)
        scale = np.float32(level)
        return _maps_of(shown * scale + (scale - 1) / 2, (seen.shape[1], seen.shape[0]))

    picture = np.zeros((304, 200, 3), np.uint8)
    picture[:8, :8] = 255
    maps = compute_teacher_maps(picture, teacher, OPENPOSE_18, long_side_px=456)
    turn = np.deg2rad(15)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if flipped:
        linear = linear @ np.diag([-1.0, 1.0])
    centre = np.array([100.0, 150.0])
    view = View(linear, np.array([127.5, 127.5]) - linear @ centre, (256, 256), flipped)
    warped = warp_maps(maps, view, OPENPOSE_18, heatmap_stride=4, paf_stride=8)
    expected = encode_maps(
        view.people(people, OPENPOSE_18), OPENPOSE_18, (256, 256), heatmap_stride=4, paf_stride=8,
        sigma_px=7 / level, paf_half_width=1 / level, background=False,
    )  # fmt: skip
    for k in range(18):
        if expected.heatmaps[k].max() < 0.5:
            continue
        y, x = np.unravel_index(expected.heatmaps[k].argmax(), (64, 64))
        v, u = np.unravel_index(warped.heatmaps[k].argmax(), (64, 64))
        assert abs(int(x) - int(u)) <= 1
        assert abs(int(y) - int(v)) <= 1
    strong = np.abs(expected.pafs) > 0.5
    same_sign = np.sign(warped.pafs[strong]) == np.sign(expected.pafs[strong])
    present = np.abs(warped.pafs[strong]) > 0.1
    assert present.mean() > 0.8
    assert same_sign[present].mean() > 0.97


def test_teacher_maps_survive_the_disk_and_damage_is_told(tmp_path: Path) -> None:
    maps = TeacherMaps(np.full((2, 3, 4), 7, np.uint8), np.full((2, 3, 4), 128, np.uint8), 8, (32, 24))
    save_teacher_maps(tmp_path / "a.npz", [maps])
    (again,) = load_teacher_maps(tmp_path / "a.npz")
    assert again.picture_size == (32, 24)
    assert np.array_equal(again.heatmaps, maps.heatmaps)
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="no teacher maps"):
        load_teacher_maps(tmp_path / "a.npz")


def test_a_skeleton_without_mirrored_limbs_cannot_be_mirrored() -> None:
    one_armed = Skeleton.create("one_armed", ["left_hand", "right_hand", "nose"], [("nose", "left_hand")])
    with pytest.raises(DatasetError, match="no mirror"):
        mirror_maps(Maps(np.zeros((3, 2, 2), np.float32), np.zeros((2, 2, 2), np.float32)), one_armed)


def test_samples_depend_on_seed_epoch_and_index_alone(dataset: Path) -> None:
    pictures = read_coco(dataset, dataset.parent / "images", OPENPOSE_18)
    augment = AugmentOptions(size_px=128)

    def make() -> PoseDataset:
        return PoseDataset(pictures, OPENPOSE_18, augment=augment, targets=TargetOptions(), seed=3, compose=0.5)

    first = [make()[(2, i)] for i in range(4)]
    again = [make()[(2, i)] for i in (3, 2, 1, 0)][::-1]
    other = make()[(3, 0)]
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.picture, b.picture)
        assert np.array_equal(a.maps.pafs, b.maps.pafs)
    assert not np.array_equal(first[0].picture, other.picture)
    batch = collate(first)
    assert batch.pictures.dtype == torch.uint8
    assert tuple(batch.heatmaps.shape) == (4, 19, 16, 16)
    assert float(batch.heatmap_mask.min()) >= 0


def test_unlabelled_people_are_masked_and_labelled_ones_are_not(dataset: Path) -> None:
    pictures = read_coco(dataset, dataset.parent / "images", OPENPOSE_18)
    whole = AugmentOptions(
        size_px=304, base_px=300, min_scale=1, max_scale=1, rotation_deg=0, flip=0, person_centred=0, light=0, blur=0,
        grey=0,
    )  # fmt: skip
    samples = PoseDataset(pictures, OPENPOSE_18, augment=whole, targets=TargetOptions())
    sample = samples[0]
    assert sample.heatmap_mask.min() == 0
    peak = np.unravel_index(sample.maps.heatmaps[0].argmax(), sample.maps.heatmaps[0].shape)
    assert sample.heatmap_mask[peak] == 1


def test_pictures_without_labels_need_a_teacher(dataset: Path) -> None:
    pictures = read_folder(dataset.parent / "images", OPENPOSE_18)
    with pytest.raises(DatasetError, match="no labels"):
        PoseDataset(pictures, OPENPOSE_18, augment=AugmentOptions(), targets=TargetOptions())


def test_sampler_resumes_in_the_middle() -> None:
    whole = list(EpochSampler(7, batch=4, seed=5, stop=6))
    assert list(EpochSampler(7, batch=4, seed=5, start=3, stop=6)) == whole[12:]
    assert {i for e, i in whole if e == 1} == set(range(7))
    with pytest.raises(ConfigError):
        EpochSampler(7, batch=3, seed=0, world=2)
