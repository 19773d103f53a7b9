"""Annotation files: what is read, and what is refused in one line before pycocotools stumbles over it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.errors import DatasetError
from featherpose.evaluation.keypoints.dataset import check_images, read_coco_dataset


def ground_truth() -> dict[str, Any]:
    keypoints = [v for k in range(17) for v in (10.0 + k, 20.0 + k, 2)]
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}, {"id": 9, "file_name": "b/c.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "keypoints": keypoints, "num_keypoints": 17,
             "bbox": [10, 20, 17, 17], "area": 200.0, "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 1, "bbox": [1, 1, 5, 5]},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set/images/b").mkdir(parents=True)
    (tmp_path / "set/annotations.json").write_text(json.dumps(ground_truth()))
    for name in ("a.jpg", "b/c.jpg"):
        (tmp_path / "set/images" / name).write_bytes(b"x")
    return tmp_path / "set"


def test_folder_file_and_gzip_are_the_same(folder: Path, tmp_path: Path) -> None:
    dataset = read_coco_dataset(folder)
    assert [(p.image_id, p.path.name) for p in dataset.images] == [(7, "a.jpg"), (9, "c.jpg")]
    assert dataset.people == 1
    assert dataset.name == "set"
    file = folder / "annotations.json"
    assert read_coco_dataset(file).images == dataset.images
    zipped = tmp_path / "kp.json.gz"
    zipped.write_bytes(gzip.compress(file.read_bytes()))
    assert read_coco_dataset(zipped, folder / "images").images == dataset.images
    check_images(dataset)


def test_what_may_be_left_out_is_filled_in(folder: Path) -> None:
    second = read_coco_dataset(folder).annotations["annotations"][1]
    assert second["num_keypoints"] == 0
    assert second["iscrowd"] == 0
    assert second["area"] == pytest.approx(0.53 * 25)
    assert len(second["keypoints"]) == 51


def test_first_counts_its_own_people(folder: Path) -> None:
    dataset = read_coco_dataset(folder)
    assert (len(dataset.first(1).images), dataset.first(1).people) == (1, 1)


def test_missing_images_are_counted(folder: Path) -> None:
    (folder / "images/a.jpg").unlink()
    dataset = read_coco_dataset(folder)
    with pytest.raises(DatasetError, match=r"1 of 2 images are missing, the first is .*a\.jpg"):
        check_images(dataset)


def change(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def apply(data: dict[str, Any]) -> dict[str, Any]:
        *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
        target: Any = data
        for parent in parents:
            target = target[parent]
        target[last] = value
        return data

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: [], "is a list, as COCO results are"),
        (lambda data: 3, "holds a int"),
        (lambda data: {}, "no list 'images'"),
        (change("images", []), "lists no images"),
        (change("annotations", {}), "no list 'annotations'"),
        (change("images.1.id", 7), "two images have the id 7"),
        (change("images.1.id", "9"), "image 1 has id '9'"),
        (change("images.1.file_name", "../../etc/passwd"), "expected a name inside the folder"),
        (change("images.1.file_name", "/etc/passwd"), "expected a name inside the folder"),
        (change("annotations.1.image_id", 3), "belongs to image 3, which is not listed"),
        (change("annotations.0.keypoints", [1, 2, 3]), "does not name its keypoints, and has 3 keypoint numbers"),
        (change("annotations.0.keypoints.4", float("nan")), r"left_eye at \(11.0, nan\) with visibility 2; expected"),
        (change("annotations.0.keypoints.4", "x"), "has 'x' among its keypoints; expected 51 numbers"),
        (change("annotations.0.bbox", [1, 2, 3]), r"has bbox \[1, 2, 3\]"),
        (change("annotations.1.bbox", None), "has bbox None"),
        (change("annotations.0.area", -1), "has area -1"),
        (change("annotations.0.iscrowd", 2), "has iscrowd 2"),
        (change("annotations", []), "annotates nobody's keypoints"),
        (change("annotations", [{"image_id": 7, "id": 1, "caption": "a dog"}]), r"has no keypoints \(but caption\)"),
    ],
)
def test_wrong_content(folder: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    (folder / "annotations.json").write_text(json.dumps(edit(ground_truth())))
    with pytest.raises(DatasetError, match=message) as caught:
        read_coco_dataset(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is no JSON, empty"),
        (b'{"images": [', "is no JSON, cut off or damaged"),
        (b"\xff\xfe\x00", "is not text"),
        (b"[" * 100_000, "is nested too deep"),
        (b"\x1f\x8b garbage", "damaged gzip"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:-9], "damaged gzip"),
    ],
)
def test_damaged_files(folder: Path, raw: bytes, message: str) -> None:
    (folder / "annotations.json").write_bytes(raw)
    with pytest.raises(DatasetError, match=message):
        read_coco_dataset(folder)


def test_wrong_places(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no"):
        read_coco_dataset(tmp_path / "nothing")
    with pytest.raises(DatasetError, match=r"has no annotations\.json"):
        read_coco_dataset(folder / "images")
    with pytest.raises(DatasetError, match="say where the images are with --images"):
        read_coco_dataset(folder / "annotations.json", tmp_path / "elsewhere")


@pytest.mark.slow
def test_mutated_files_never_escape_the_error_tree(folder: Path) -> None:
    file = folder / "annotations.json"
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    understood = 0
    for _ in range(1500):
        broken = whole.copy()
        places = rng.integers(0, len(broken), rng.integers(1, 4))
        broken[places] = rng.integers(32, 127, len(places))
        file.write_bytes(
            broken.tobytes()[: rng.integers(1, len(broken) + 1)] if rng.random() < 0.2 else broken.tobytes()
        )
        try:
            read_coco_dataset(folder)
            understood += 1
        except DatasetError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
    assert 0 < understood < 1500


def test_the_evaluation_folder(coco_val: Path) -> None:
    dataset = read_coco_dataset(coco_val)
    assert len(dataset.images) == 272
    assert dataset.people == 624
