"""The one set of rules for COCO files: training, evaluation and ``data check`` take and refuse the same."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.data.coco import read_coco
from featherpose.data.coco_file import read_coco_file
from featherpose.errors import DatasetError
from featherpose.evaluation.keypoints.coco_ap import average_precision
from featherpose.evaluation.keypoints.dataset import dataset_of, read_coco_dataset
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton


def person(number: int, image_id: int, **changes: Any) -> dict[str, Any]:
    keypoints = [v for k in range(17) for v in (40.0 + 3 * k + number, 20.0 + 5 * k, 2)]
    return {
        "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": 3000.0, "num_keypoints": 17,
        "bbox": [38, 18, 60, 90], "keypoints": keypoints, **changes,
    }  # fmt: skip


def content() -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 160, "height": 120} for i in (4, 7)],
        "annotations": [person(1, 4), person(2, 4), person(3, 7)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in (4, 7):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), np.full((120, 160, 3), 90, np.uint8))
    return tmp_path


def write(folder: Path, data: object) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps(data))
    return path


def truth(path: Path) -> list[list[float]]:
    return [person.keypoints.ravel().tolist() for person in read_coco_file(path, COCO_17).people]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_and_gzip(folder: Path, encoding: str, packed: bool) -> None:
    expected = truth(write(folder, content()))
    raw = json.dumps(content()).encode(encoding)
    path = folder / "other.json"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert truth(path) == expected
    assert read_coco_dataset(path).people == len(read_coco(path, folder / "images", COCO_17)[0].keypoints) + 1


def test_gzip_of_several_members(folder: Path) -> None:
    expected = truth(write(folder, content()))
    raw = json.dumps(content()).encode()
    (folder / "annotations.json").write_bytes(gzip.compress(raw[:50]) + gzip.compress(raw[50:]))
    assert truth(folder / "annotations.json") == expected


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(folder: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(b" " * 2**20) for _ in range(64)) + packer.flush()
    (folder / "annotations.json").write_bytes(bomb)
    with pytest.raises(DatasetError, match="unpacks to more than 16 MB"):
        read_coco_dataset(folder)


def spelled(spelling: Callable[[str], str]) -> dict[str, Any]:
    data = content()
    data["categories"][0]["keypoints"] = [spelling(name) for name in COCO_17.keypoints]
    return data


@pytest.mark.parametrize(
    "spelling",
    [
        lambda n: n.replace("_", "-"),
        lambda n: n.replace("_", " ").title(),
        lambda n: n.split("_")[0] + "".join(part.title() for part in n.split("_")[1:]),
        lambda n: n[0].upper() + n.split("_")[1].title() if "_" in n else n.title(),
        lambda n: f"{n.split('_')[1]}_{n.split('_')[0]}" if "_" in n else n,
    ],
)
def test_keypoint_names_match_in_any_spelling(folder: Path, spelling: Callable[[str], str]) -> None:
    data = spelled(spelling)
    file = read_coco_file(write(folder, data), OPENPOSE_18)
    assert file.skeleton.keypoints == COCO_17.keypoints


def test_keypoints_in_another_order_are_the_same_people(folder: Path) -> None:
    expected = read_coco_dataset(write(folder, content()).parent).annotations
    order = np.random.default_rng(0).permutation(17)
    data = content()
    data["categories"][0]["keypoints"] = [COCO_17.keypoints[k] for k in order]
    for record in data["annotations"]:
        record["keypoints"] = np.reshape(record["keypoints"], (17, 3))[order].ravel().tolist()
    write(folder, data)
    assert read_coco_dataset(folder).annotations == expected
    assert np.array_equal(
        read_coco(folder / "annotations.json", folder / "images", COCO_17)[1].keypoints[0, :, 0],
        np.array(expected["annotations"][2]["keypoints"], np.float32)[::3],
    )


@pytest.mark.parametrize("category_id", [0, 2, 90])
def test_the_category_is_found_by_name(folder: Path, category_id: int) -> None:
    expected = read_coco_dataset(write(folder, content()).parent).annotations
    data = content()
    data["categories"] = [{"id": 1, "name": "car"}, {**data["categories"][0], "id": category_id}]
    data["annotations"] = [{**record, "category_id": category_id} for record in data["annotations"]]
    data["annotations"].append({"id": 9, "image_id": 4, "category_id": 1, "bbox": [0, 0, 160, 120]})
    path = write(folder, data)
    assert read_coco_dataset(folder).annotations == expected
    assert len(read_coco(path, folder / "images", COCO_17)[0].ignore_boxes) == 0, "a car hides nobody"
    file = read_coco_file(path, COCO_17)
    assert (file.category_id, file.summary()) == (category_id, "1 category")


def test_an_own_skeleton_chooses_its_category(folder: Path) -> None:
    data = content()
    dog = {"id": 5, "name": "dog", "keypoints": ["snout", "tail"]}
    data["categories"].insert(0, dog)
    data["annotations"].append(
        {"id": 9, "image_id": 7, "category_id": 5, "keypoints": [50, 60, 2, 90, 60, 2], "bbox": [50, 50, 40, 20]}
    )
    path = write(folder, data)
    own = Skeleton.create("dog", ["snout", "tail"], [("snout", "tail")])
    assert [len(p.keypoints) for p in read_coco(path, folder / "images", own)] == [0, 1]
    assert [len(p.keypoints) for p in read_coco(path, folder / "images", COCO_17)] == [2, 1]


def test_missing_keypoints_may_be_null_or_nan(folder: Path) -> None:
    data = content()
    data["annotations"][0]["keypoints"][:3] = [None, None, 0]
    data["annotations"][1]["keypoints"][:3] = [float("nan"), float("nan"), 0]
    data["annotations"][2]["keypoints"][:3] = [None, None, None]
    for record in data["annotations"]:
        record["num_keypoints"] = 16
    file = read_coco_file(write(folder, data), COCO_17)
    assert [person.keypoints[0].tolist() for person in file.people] == [[0, 0, 0]] * 3
    assert not file.findings


def changed(place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        target: Any = data
        for parent in parents:
            target = target[parent]
        target[last] = value

    return apply


FAULTS = [
    (changed("images.1.id", 4), "two images have the id 4"),
    (changed("images.0.id", "4"), "image 0 has id '4'"),
    (changed("images.0.file_name", "../x.png"), "expected a name inside the folder"),
    (changed("images.0.file_name", "a" * 300), "expected a name inside the folder"),
    (changed("images.0.file_name", "\ud800.png"), "expected a name inside the folder"),
    (changed("images.0.width", "160"), "has width '160'"),
    (changed("images.0.height", [1]), r"has height \[1\]"),
    (changed("images.0.height", -1), "has height -1"),
    (changed("annotations", []), "annotates nobody's keypoints"),
    (changed("annotations.0.image_id", 99), "belongs to image 99, which is not listed"),
    (changed("annotations.0.image_id", {}), "belongs to image {}, which is not listed"),
    (changed("annotations.0.keypoints", [[1, 2, 2]] * 17), "has 17 keypoint numbers; expected 51"),
    (changed("annotations.0.keypoints", "x"), "has keypoints 'x'"),
    (changed("annotations.0.keypoints.0", "40.0"), "has '40.0' among its keypoints; expected 51 numbers"),
    (changed("annotations.0.keypoints.0", 10**30), r"has nose at \(an integer of 100 bits, 20.0\)"),
    (changed("annotations.0.keypoints.0", 10**400), "has a keypoint beyond all images"),
    (changed("annotations.0.keypoints.0", None), r"has nose at \(None, 20.0\) with visibility 2"),
    (changed("annotations.0.keypoints.2", None), "with visibility None"),
    (changed("annotations.0.keypoints", [0.5, 0.25, 2] * 17), "has keypoints between 0 and 1; expected pixels"),
    (changed("annotations.0.bbox", [1, 2, -3, 4]), r"has bbox \[1, 2, -3, 4\]"),
    (changed("annotations.0.iscrowd", []), r"has iscrowd \[\]"),
    (changed("annotations.0.area", "x"), "has area 'x'"),
]
REFUSED = [
    (changed("annotations.0.category_id", []), r"has category_id \[\]"),
    (changed("annotations.0.category_id", 8), "category 8, which is not listed"),
    (changed("categories.0.keypoints", 1), "has keypoints 1"),
    (changed("categories.0.keypoints", ["nose"] * 17), "nose twice"),
    (changed("categories.0.keypoints.0", [[[[[[[[]]]]]]]]), r"has keypoints \[\[\[\["),
    (changed("categories.0.id", None), "category 0 has id None"),
    (changed("categories.0.name", 5), "has name 5"),
    (changed("categories", 3), "'categories' is 3"),
]


@pytest.mark.parametrize(("edit", "message"), FAULTS + REFUSED)
def test_all_refuse_what_has_no_right_value(
    folder: Path, edit: Callable[[dict[str, Any]], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = content()
    edit(data)
    path = write(folder, data)
    with pytest.raises(DatasetError, match=message) as trained:
        read_coco(path, folder / "images", COCO_17)
    with pytest.raises(DatasetError, match=message) as measured:
        read_coco_dataset(folder)
    assert str(trained.value) == str(measured.value)
    assert "\n" not in str(trained.value)
    assert run(["data", "check", str(folder), "--show", "50"]) == 1
    said = capsys.readouterr()
    assert trained.value.given.removeprefix(f"{path}: ").split(" (and")[0] in said.out + said.err
    assert "internal error" not in said.err


FINDINGS = [
    (changed("annotations.1.id", 1), "1 ids"),
    (changed("annotations.1.id", None), "1 ids"),
    (changed("annotations.1.id", "2"), "1 ids"),
    (changed("annotations.0.num_keypoints", 3), "1 num_keypoints"),
    (changed("annotations.0.num_keypoints", []), "1 num_keypoints"),
    (changed("annotations.0.bbox", [120, 90, 20, 20]), "1 box"),
    (changed("annotations.0.keypoints.1", 0), ""),
]


@pytest.mark.parametrize(("edit", "summary"), FINDINGS)
def test_all_put_right_what_the_file_itself_says(
    folder: Path, edit: Callable[[dict[str, Any]], None], summary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = content()
    edit(data)
    path = write(folder, data)
    assert read_coco_file(path, COCO_17).summary() == summary
    measured = read_coco_dataset(folder).annotations["annotations"]
    assert [record["id"] for record in measured] == [1, 2, 3]
    assert [record["num_keypoints"] for record in measured] == [17, 17, 17]
    assert [len(p.keypoints) for p in read_coco(path, folder / "images", COCO_17)] == [2, 1]
    assert run(["data", "check", str(folder)]) == 0
    assert (summary or "nothing looks wrong") in capsys.readouterr().out


def test_every_fault_is_listed(folder: Path) -> None:
    data = content()
    for record in data["annotations"]:
        record["area"] = -1
    path = write(folder, data)
    assert len(read_coco_file(path, COCO_17, keep_faults=True).faults) == 3
    with pytest.raises(DatasetError, match=r"\(and 2 more faults\); featherpose data check lists them all"):
        read_coco_file(path, COCO_17)


def test_people_without_the_skeletons_keypoints_are_ignored(folder: Path) -> None:
    data = content()
    wrist = Skeleton.create("wrist", ["left_wrist"], [])
    k = COCO_17.index("left_wrist")
    data["annotations"][0]["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
    images = read_coco(write(folder, data), folder / "images", wrist)
    assert (len(images[0].keypoints), len(images[0].ignore_boxes)) == (1, 1)


def test_results_are_written_in_the_terms_of_the_file(folder: Path) -> None:
    data = content()
    names = [*COCO_17.keypoints[1:], "nose"]
    data["categories"] = [{"id": 7, "name": "person", "keypoints": names}]
    data["annotations"] = [{**record, "category_id": 7} for record in data["annotations"]]
    write(folder, data)
    result = {"image_id": 4, "category_id": 1, "keypoints": [float(v) for v in range(51)], "score": 1.0}
    (converted,) = read_coco_dataset(folder).results_for_file([result])
    assert converted == {**result, "category_id": 7, "keypoints": [*map(float, range(3, 51)), 0.0, 1.0, 2.0]}


@pytest.mark.slow
def test_both_views_give_the_same_ap(coco_train: Path) -> None:
    pytest.importorskip("pycocotools")
    measured = read_coco_dataset(coco_train).first(80)
    by_id = {p.image_id: p for p in read_coco(coco_train / "annotations.json", coco_train / "images", COCO_17)}
    images = [by_id[p.image_id] for p in measured.images]
    rng = np.random.default_rng(0)
    results, again = [], []
    for number, image in enumerate(images):
        for points in image.keypoints:
            noisy = np.nan_to_num(points + rng.normal(0, 4, points.shape))
            values = np.column_stack([noisy, np.ones(17)]).ravel().tolist()
            record = {"category_id": 1, "keypoints": values, "score": float(rng.random())}
            results.append({**record, "image_id": image.image_id})
            again.append({**record, "image_id": number})
    one = average_precision(measured, results).as_dict()
    assert one == average_precision(dataset_of(images, COCO_17), again).as_dict()
    assert 0.2 < one["AP"] < 0.99
