"""Reading, checking and augmenting data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from featherpose.data.augment import AugmentOptions, View, change_photometry, sample_view
from featherpose.data.check import check_images, contact_sheet, swapped_sides
from featherpose.data.coco import hold_out, read_coco, read_folder
from featherpose.data.dataset import EpochSampler, PoseDataset, collate
from featherpose.data.labeled_pixels import read_sample
from featherpose.data.mosaic import make_mosaic
from featherpose.data.regions import person_regions
from featherpose.data.teacher_maps import (
    TeacherMaps,
    compute_teacher_maps,
    load_teacher_maps,
    save_teacher_maps,
    warp_maps,
)
from featherpose.errors import ConfigError, DatasetError
from featherpose.methods.heatmap import HEATMAP
from featherpose.methods.mirror import mirror_outputs
from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.method import PAF, with_background
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

# A person who fills the middle of a 200x300 image.
_PERSON = np.array(
    [[100, 60], [96, 56], [104, 56], [90, 60], [110, 60], [80, 100], [120, 100], [70, 140], [130, 140], [66, 180],
     [134, 180], [88, 180], [112, 180], [86, 230], [114, 230], [85, 275], [115, 275]], np.float32,
)  # fmt: skip


_WITH_BACKGROUND = with_background(PAF.outputs(OPENPOSE_18))


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
    unlabeled = {"id": 9, "image_id": 0, "keypoints": [0] * 51, "num_keypoints": 0, "bbox": [0, 0, 40, 40]}
    return _write(tmp_path / "set", image, extra=[unlabeled])


def test_people_are_brought_to_the_skeleton(dataset: Path) -> None:
    images = read_coco(dataset, dataset.parent / "images", OPENPOSE_18)
    assert [len(p.keypoints) for p in images] == [1, 1, 1, 1]
    np.testing.assert_allclose(images[0].keypoints[0, 1], (_PERSON[5] + _PERSON[6]) / 2)  # the neck
    assert images[0].ignore_boxes.tolist() == [[0, 0, 40, 40]]
    train, validation = hold_out(images, 2)
    assert [p.image_id for p in train] == [1, 3]
    assert [p.image_id for p in validation] == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ("[]", "is a list"),
        ("{}", "COCO format"),
        ('{"images": [{}], "annotations": []}', "file name None"),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 3, "keypoints": []}],'
            ' "categories": [{"keypoints": ["nose"]}]}',
            "not listed",
        ),
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
    with pytest.raises(DatasetError, match="no images"):
        read_folder(tmp_path, COCO_17)


def test_check_finds_what_is_wrong(dataset: Path) -> None:
    folder = dataset.parent
    (folder / "images/1.png").unlink()
    (folder / "images/2.png").write_bytes(b"no image")
    data = json.loads(dataset.read_text())
    data["images"][3]["width"] = 999
    data["annotations"][3]["keypoints"][0] = 5000
    dataset.write_text(json.dumps(data))
    images = read_coco(dataset, folder / "images", COCO_17)
    report = check_images(images, COCO_17)
    kinds = {finding.kind for finding in report.findings}
    assert {"missing", "unreadable", "size", "outside"} <= kinds
    assert report.broken == 2
    assert report.readable == 2
    assert contact_sheet(images, COCO_17, columns=2, rows=1, cell_px=64).shape == (64, 128, 3)


def test_exchanged_sides_are_candidates() -> None:
    assert not swapped_sides(_PERSON, COCO_17)
    crossed = _PERSON.copy()
    crossed[[9, 10]] = crossed[[10, 9]]  # the wrists
    assert swapped_sides(crossed, COCO_17)


def test_view_carries_image_and_points_alike(astronaut: np.ndarray) -> None:
    options = AugmentOptions(size_px=256, base_px=512, rotation_deg=40)
    image = np.zeros_like(astronaut)
    cv2.circle(image, (300, 200), 6, (255, 255, 255), -1)
    point = np.array([[[300.0, 200.0]]], np.float32)
    found = 0
    for seed in range(30):
        view = sample_view((512, 512), point, options, np.random.default_rng(seed))
        seen = view.warp(image).astype(float).sum(axis=2)
        x, y = view.points(point)[0, 0]
        if 8 < x < 247 and 8 < y < 247:
            seen = np.where(seen > 450, seen, 0)
            ys, xs = np.mgrid[:256, :256]
            # The padding is gray, the disk white: its center of mass is where the point went.
            assert abs((seen * xs).sum() / seen.sum() - x) < 0.35
            assert abs((seen * ys).sum() / seen.sum() - y) < 0.35
            found += 1
    assert found > 10


def test_mirrored_views_exchange_sides() -> None:
    view = View(np.diag([-1.0, 1.0]), np.array([199.0, 0.0]), (200, 300), True)
    people = view.people(_PERSON[None], COCO_17)
    np.testing.assert_allclose(people[0, 5], [199 - _PERSON[6, 0], _PERSON[6, 1]])


def test_photometry_is_changed_only_by_chance(astronaut: np.ndarray) -> None:
    still = AugmentOptions(photometric=0, blur=0, gray=0)
    assert change_photometry(astronaut, still, np.random.default_rng(0)) is astronaut
    gray = change_photometry(astronaut, AugmentOptions(photometric=0, blur=0, gray=1), np.random.default_rng(0))
    assert np.array_equal(gray[..., 0], gray[..., 1])


def test_keypoints_of_a_mosaic_lie_in_their_quarter(astronaut: np.ndarray) -> None:
    views = [cv2.resize(astronaut, (200, 300))] * 4
    scene, people, _ = make_mosaic(
        views, [_PERSON[None]] * 4, [np.empty((0, 4), np.float32)] * 4, np.random.default_rng(1)
    )
    assert scene.shape == (300, 200, 3)
    assert len(people) == 4
    assert np.isnan(people).any()  # parts were cut away
    assert np.nanmax(people[..., 0]) < 200


def _maps_of(people: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    maps = encode_maps(people, OPENPOSE_18, size, background=False)
    return {"heatmaps": maps.heatmaps, "pafs": maps.pafs}


@pytest.mark.slow
def test_mirrored_maps_equal_maps_of_the_mirrored_people() -> None:
    people = np.full((1, 18, 2), np.nan, np.float32)
    for k, sources in enumerate(COCO_17.mapping_to(OPENPOSE_18)):
        people[0, k] = _PERSON[list(sources)].mean(axis=0)
    width = 200
    view = View(np.diag([-1.0, 1.0]), np.array([width - 1.0, 0.0]), (width, 304), True)
    mirrored = _maps_of(view.people(people, OPENPOSE_18), (width, 304))
    back = mirror_outputs(mirrored, PAF.outputs(OPENPOSE_18))
    straight = _maps_of(people, (width, 304))
    np.testing.assert_allclose(back["heatmaps"], straight["heatmaps"], atol=1e-5)
    np.testing.assert_allclose(back["pafs"], straight["pafs"], atol=1e-5)


@pytest.mark.parametrize("flipped", [False, True])
def test_warped_teacher_equals_encoding_in_the_view(flipped: bool) -> None:
    people = np.full((1, 18, 2), np.nan, np.float32)
    for k, sources in enumerate(COCO_17.mapping_to(OPENPOSE_18)):
        people[0, k] = _PERSON[list(sources)].mean(axis=0)
    level = 1.5  # the teacher sees the image this much larger

    def teacher(seen: np.ndarray) -> dict[str, np.ndarray]:
        # An oracle that knows where the person is; the mirrored call is told by a marked corner.
        shown = people
        if seen[0, -1, 0] == 255:
            mirror = View(np.diag([-1.0, 1.0]), np.array([199.0, 0.0]), (200, 304), True)
            shown = mirror.people(people, OPENPOSE_18)
        scale = np.float32(level)
        return _maps_of(shown * scale + (scale - 1) / 2, (seen.shape[1], seen.shape[0]))

    image = np.zeros((304, 200, 3), np.uint8)
    image[:8, :8] = 255
    (maps,) = compute_teacher_maps(image, teacher, PAF.outputs(OPENPOSE_18), long_sides_px=[456])
    turn = np.deg2rad(15)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if flipped:
        linear = linear @ np.diag([-1.0, 1.0])
    center = np.array([100.0, 150.0])
    view = View(linear, np.array([127.5, 127.5]) - linear @ center, (256, 256), flipped)
    warped = warp_maps(maps, view, PAF.outputs(OPENPOSE_18, strides={"heatmaps": 4}))
    expected = encode_maps(
        view.people(people, OPENPOSE_18), OPENPOSE_18, (256, 256), heatmap_stride=4, paf_stride=8,
        sigma_px=7 / level, paf_half_width=1 / level, background=False,
    )  # fmt: skip
    for k in range(18):
        if expected.heatmaps[k].max() < 0.5:
            continue
        y, x = np.unravel_index(expected.heatmaps[k].argmax(), (64, 64))
        v, u = np.unravel_index(warped["heatmaps"][k].argmax(), (64, 64))
        assert abs(int(x) - int(u)) <= 1
        assert abs(int(y) - int(v)) <= 1
    strong = np.abs(expected.pafs) > 0.5
    same_sign = np.sign(warped["pafs"][strong]) == np.sign(expected.pafs[strong])
    present = np.abs(warped["pafs"][strong]) > 0.1
    assert present.mean() > 0.8
    assert same_sign[present].mean() > 0.97


def test_teacher_maps_survive_the_disk_and_damage_is_told(tmp_path: Path) -> None:
    values = {"heatmaps": np.full((2, 6, 8), 7, np.uint8), "pafs": np.full((2, 3, 4), 128, np.uint8)}
    maps = TeacherMaps(values, {"heatmaps": 4, "pafs": 8}, (32, 24))
    save_teacher_maps(tmp_path / "a.npz", [maps])
    (again,) = load_teacher_maps(tmp_path / "a.npz")
    assert (again.image_size, again.strides, again.scale) == ((32, 24), maps.strides, 1.0)
    for name, value in values.items():
        assert np.array_equal(again.values[name], value)
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="no teacher maps"):
        load_teacher_maps(tmp_path / "a.npz")


def test_a_skeleton_without_mirrored_limbs_cannot_be_mirrored() -> None:
    one_armed = Skeleton.create("one_armed", ["left_hand", "right_hand", "nose"], [("nose", "left_hand")])
    maps = {"heatmaps": np.zeros((3, 2, 2), np.float32), "pafs": np.zeros((2, 2, 2), np.float32)}
    with pytest.raises(DatasetError, match="no mirror"):
        mirror_outputs(maps, PAF.outputs(one_armed))


def test_samples_depend_on_seed_epoch_and_index_alone(dataset: Path) -> None:
    images = read_coco(dataset, dataset.parent / "images", OPENPOSE_18)
    augment = AugmentOptions(size_px=128)

    def make() -> PoseDataset:
        return PoseDataset(
            images, OPENPOSE_18, method=PAF, outputs=_WITH_BACKGROUND, augment=augment, seed=3, mosaic=0.5
        )

    first = [make()[(2, i)] for i in range(4)]
    again = [make()[(2, i)] for i in (3, 2, 1, 0)][::-1]
    other = make()[(3, 0)]
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.target.values["pafs"], b.target.values["pafs"])
    assert not np.array_equal(first[0].image, other.image)
    batch = collate(first)
    assert batch.images.dtype == torch.uint8
    assert tuple(batch.values["heatmaps"].shape) == (4, 19, 16, 16)
    assert tuple(batch.masks["pafs"].shape) == (4, 1, 16, 16)
    assert float(batch.masks["heatmaps"].min()) >= 0


def test_unlabeled_people_are_masked_and_labeled_ones_are_not(dataset: Path) -> None:
    images = read_coco(dataset, dataset.parent / "images", OPENPOSE_18)
    whole = AugmentOptions(
        size_px=304, base_px=300, min_scale=1, max_scale=1, rotation_deg=0, flip=0, person_centered=0, photometric=0,
        blur=0, gray=0,
    )  # fmt: skip
    target = PoseDataset(images, OPENPOSE_18, method=PAF, outputs=_WITH_BACKGROUND, augment=whole)[0].target
    assert target.masks["heatmaps"].min() == 0
    heatmap = target.values["heatmaps"][0]
    assert target.masks["heatmaps"][np.unravel_index(heatmap.argmax(), heatmap.shape)] == 1


def test_images_without_labels_need_a_teacher(dataset: Path) -> None:
    images = read_folder(dataset.parent / "images", OPENPOSE_18)
    with pytest.raises(DatasetError, match="no labels"):
        PoseDataset(images, OPENPOSE_18, method=PAF, outputs=_WITH_BACKGROUND, augment=AugmentOptions())


def test_sampler_resumes_in_the_middle() -> None:
    whole = list(EpochSampler(7, batch=4, seed=5, stop=6))
    assert list(EpochSampler(7, batch=4, seed=5, start=3, stop=6)) == whole[12:]
    assert {i for e, i in whole if e == 1} == set(range(7))
    with pytest.raises(ConfigError):
        EpochSampler(7, batch=3, seed=0, world=2)


def test_regions_are_of_one_person_who_comes_first(dataset: Path) -> None:
    data = json.loads(dataset.read_text())
    other = _PERSON + np.array([20, 0])
    keypoints = np.column_stack([other, np.full(17, 2)]).ravel().tolist()
    data["annotations"].append(
        {"id": 10, "image_id": 1, "keypoints": keypoints, "num_keypoints": 17, "bbox": [80, 50, 80, 230]}
    )
    dataset.write_text(json.dumps(data))
    images = read_coco(dataset, dataset.parent / "images", COCO_17)
    regions = person_regions(images, 1.5)
    assert len(regions) == 5
    whole = {image.image_id: image for image in images}
    for sample in regions:
        assert sample.region is not None
        left, top, right, bottom = sample.region
        assert read_sample(sample).shape[:2] == (bottom - top, right - left) == sample.size[::-1]
        first = sample.keypoints[0] + np.array([left, top], np.float32)
        assert any(np.allclose(first, person) for person in whole[sample.image_id].keypoints)
    assert [len(r.keypoints) for r in regions if r.image_id == 1] == [2, 2]
    alone = [r for r in person_regions(images, 1.5, alone=True) if r.image_id == 1]
    assert [(len(r.keypoints), len(r.ignore_boxes)) for r in alone] == [(1, 1), (1, 1)]


@pytest.mark.parametrize("width", [0, 96])
def test_views_of_regions_hold_their_person(dataset: Path, width: int) -> None:
    regions = person_regions(read_coco(dataset, dataset.parent / "images", COCO_17), 1.5)
    augment = AugmentOptions(
        size_px=128, width_px=width, base_px=128, min_scale=0.7, max_scale=0.8, rotation_deg=20, center_jitter=0.02
    )
    samples = PoseDataset(regions, COCO_17, method=HEATMAP, outputs=HEATMAP.outputs(COCO_17), augment=augment)
    for index in range(len(regions)):
        sample = samples[index]
        assert sample.image.shape == (128, width or 128, 3)
        assert sample.target.values["heatmaps"].shape == (17, 32, (width or 128) // 4)
        assert sample.target.values["heatmaps"].max(axis=(1, 2)).min() > 0.5


def test_views_of_regions_find_their_place_in_the_whole_image(dataset: Path) -> None:
    image = read_coco(dataset, dataset.parent / "images", COCO_17)[0]
    (region,) = person_regions([image], 1.3)
    assert region.region is not None
    teacher_outputs = HEATMAP.outputs(COCO_17, strides={"heatmaps": 8})
    nobody = np.empty((0, 4), np.float32)
    seen = HEATMAP.encode(image.keypoints, nobody, COCO_17, (200, 304), teacher_outputs, HEATMAP.Targets(sigma_px=12))
    stored = {"heatmaps": np.rint(seen.values["heatmaps"] * 255).astype(np.uint8)}
    maps = TeacherMaps(stored, {"heatmaps": 8}, (200, 304))
    options = AugmentOptions(size_px=256, base_px=256, min_scale=1, max_scale=1, flip=0.5, center_jitter=0)
    for seed in range(4):
        view = sample_view(region.size, region.keypoints, options, np.random.default_rng(seed), single=True)
        warped = warp_maps(maps, view.behind_region(*region.region[:2]), HEATMAP.outputs(COCO_17))["heatmaps"]
        people = view.people(region.keypoints, COCO_17)
        for k, (x, y) in enumerate(people[0]):
            if 8 < x < 248 and 8 < y < 248:
                v, u = np.unravel_index(warped[k].argmax(), warped[k].shape)
                assert np.hypot(4 * u + 1.5 - x, 4 * v + 1.5 - y) < 4
