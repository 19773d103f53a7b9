"""The post-processing profile: all methods decode the same maps of real people, and the stages add up."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.errors import DatasetError, OptionError
from featherpose.evaluation.performance.mosaics import compose_crowd, find_cutouts, fit_crowd
from featherpose.evaluation.performance.postprocessing import METHODS, CrowdMaps, crowd_maps, profile_decoding
from featherpose.geometry import Letterbox
from featherpose.methods.paf.encode import encode_maps
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import COCO_17, OPENPOSE_18
from featherpose.zoo.resolve import resolve_model


@pytest.fixture
def people_folder(tmp_path: Path, grace_hopper: Path) -> Path:
    """A COCO folder of one real photograph: an upper body whose keypoints were read off the image."""
    image = cv2.imread(str(grace_hopper))
    assert image is not None
    height, width = image.shape[:2]
    folder = tmp_path / "people"
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "1.jpg"), image)
    points = np.linspace([0.3, 0.1], [0.6, 0.95], 17) * [width, height]
    keypoints = np.concatenate([points, np.full((17, 1), 2)], axis=1).round().astype(int)
    annotations = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": width, "height": height}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, "area": 1.0,
             "bbox": [0, 0, width, height], "keypoints": keypoints.ravel().tolist()}
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(annotations))
    return folder


def test_crowd_of_one_photograph_fills_its_tiles(people_folder: Path) -> None:
    cutouts = find_cutouts(people_folder)
    assert len(cutouts) == 1
    image = compose_crowd(cutouts, 7, (640, 360))
    assert image.shape == (360, 640, 3)
    width = 640 // 4  # seven standing people fit best in two rows of four
    first, second = image[:180, :width], image[:180, width : 2 * width]
    assert np.array_equal(first, second)
    assert first.std() > 20
    assert image[180:, 3 * width :].std() == 0  # the last tile stays gray


def test_crowd_is_fitted_to_the_people_that_are_found(people_folder: Path) -> None:
    cutouts = find_cutouts(people_folder)
    tried: list[int] = []

    def count(image: np.ndarray) -> int:
        # A network that finds two people in each tile: tiles are told apart by the gray of those that stay empty.
        tiles = fits[len(tried)] if len(tried) < len(fits) else 5
        tried.append(tiles)
        return 2 * tiles

    fits = [10, 5]
    _, found = fit_crowd(cutouts, 10, count, (640, 360))
    assert found == 10
    assert tried == [10, 5]


def test_folder_without_people_is_told(tmp_path: Path, people_folder: Path) -> None:
    data = json.loads((people_folder / "annotations.json").read_text())
    data["annotations"][0]["keypoints"] = [0] * 51
    data["annotations"][0]["num_keypoints"] = 0
    (people_folder / "annotations.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="annotates nobody's keypoints"):
        find_cutouts(people_folder)


def test_methods_find_the_same_people_in_encoded_maps() -> None:
    body = np.full((18, 2), np.nan, np.float32)
    body[[0, 1, 2, 3, 4, 5, 6, 7]] = [[50, 20], [50, 40], [40, 40], [34, 56], [30, 72], [60, 40], [66, 56], [70, 72]]
    people = np.stack([body, body + np.array([90, 10], np.float32)])
    maps = encode_maps(people, OPENPOSE_18, (192, 128))
    crowd = CrowdMaps(2, 2, maps, Letterbox.fit((192, 128), height=128, multiple=8))
    profiles = profile_decoding(crowd, OPENPOSE_18, repeats=2)
    assert [profile.method for profile in profiles] == list(METHODS)
    assert [profile.found for profile in profiles] == [2, 2, 2, 2]
    for profile in profiles:
        assert (profile.resize is None) == profile.method.startswith("ours")
        parts = [t.best_ms for t in (profile.resize, profile.extract, profile.group) if t is not None]
        assert profile.total.median_ms >= max(parts)


def test_no_repeats_is_refused() -> None:
    maps = encode_maps(np.full((1, 18, 2), 30, np.float32), OPENPOSE_18, (64, 64))
    with pytest.raises(OptionError, match="repeats"):
        profile_decoding(CrowdMaps(1, 1, maps, Letterbox.fit((64, 64), height=64, multiple=8)), OPENPOSE_18, repeats=0)


def test_real_crowds_on_the_released_network(released_int8: Path, coco_val: Path) -> None:
    model = resolve_model(released_int8)
    backend = open_backend(model.path, model.spec, EngineOptions(threads=1))
    try:
        crowds = crowd_maps(backend, coco_val, (1, 12), height=256)
    finally:
        backend.close()
    assert crowds[0].people == 1
    assert 10 <= crowds[1].people <= 14
    found = {profile.method: profile.found for profile in profile_decoding(crowds[1], OPENPOSE_18, repeats=1)}
    assert found["ours"] == crowds[1].people
    # The full resize, the small one and none at all see the same crowd.
    assert max(found.values()) - min(found.values()) <= 2


def test_command_writes_figures(released_int8: Path, coco_val: Path, tmp_path: Path) -> None:
    command = ["analyze", "postprocessing", str(coco_val), "--model", str(released_int8), "--height", "128"]
    more = ["--people", "1", "--repeats", "1", "--threads", "1", "--json", str(tmp_path / "a.json")]
    assert run([*command, *more, "--plot", str(tmp_path / "a")]) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert [p["method"] for p in report["profiles"]] == list(METHODS)
    assert report["published_fps"]["total"] == 1.54
    assert report["machine"]["cores"] >= 1
    assert cv2.imread(str(tmp_path / "a.png")) is not None
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_command_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "postprocessing", str(tmp_path), "--height", "2"]) == 2
    assert "--height 2" in capsys.readouterr().err
