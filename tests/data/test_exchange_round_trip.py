"""What is converted to another tool's format and back is the same people."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_people import write_coco

from featherpose.cli.main import run
from featherpose.data.coco_file import CocoFile, read_coco_file
from featherpose.skeleton import COCO_17, Skeleton

NAMES = ("left_elbow", "left_wrist", "tail")


def table(file: CocoFile) -> dict[str, list[tuple[list[float], list[float]]]]:
    """Keypoints and boxes of everyone, by image."""
    names = {image.image_id: image.file_name for image in file.images}
    people: dict[str, list[tuple[list[float], list[float]]]] = {name: [] for name in names.values()}
    for person in file.people:
        people[names[person.image_id]].append((person.keypoints.ravel().tolist(), list(person.box)))
    return people


@pytest.mark.parametrize("keypoints", [COCO_17.keypoints, NAMES], ids=["coco_17", "own"])
@pytest.mark.parametrize("kind", ["yolo-pose", "cvat", "label-studio", "coco"])
def test_there_and_back(kind: str, keypoints: tuple[str, ...], tmp_path: Path) -> None:
    first = write_coco(tmp_path / "first", keypoints)
    assert run(["data", "convert", str(first), "-o", str(tmp_path / "there"), "--to", kind]) == 0
    back = ["data", "convert", str(tmp_path / "there"), "-o", str(tmp_path / "back"), "--images", str(first / "images")]
    assert run(back) == 0
    wanted = Skeleton.create("wanted", keypoints, [])
    before, after = (read_coco_file(tmp_path / name / "annotations.json", wanted) for name in ("first", "back"))
    assert after.skeleton.keypoints == before.skeleton.keypoints
    assert {i.file_name: i.size for i in after.images} == {i.file_name: i.size for i in before.images}
    for name, people in table(before).items():
        others = table(after)[name]
        assert len(others) == len(people)
        for (points, box), (points_after, box_after) in zip(people, others, strict=True):
            assert points_after == pytest.approx(points, abs=0.011)
            if kind != "cvat" or not any(points):  # CVAT's skeletons have no boxes
                assert box_after == pytest.approx(box, abs=0.03)
        assert (tmp_path / "back/images" / name).read_bytes() == (first / "images" / name).read_bytes()


def test_another_skeleton_is_matched_by_name(tmp_path: Path) -> None:
    first = write_coco(tmp_path / "first", COCO_17.keypoints)
    command = ["data", "convert", str(first), "-o", str(tmp_path / "b"), "--skeleton", "openpose_18"]
    assert run([*command, "--to", "yolo-pose"]) == 0
    assert "kpt_shape: [18, 3]" in (tmp_path / "b/data.yaml").read_text()


def test_a_zip_file_is_read_as_it_was_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_coco(tmp_path / "first", COCO_17.keypoints)
    assert run(["data", "convert", str(first), "-o", str(tmp_path / "there"), "--to", "cvat"]) == 0
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(tmp_path / "there/annotations.xml", "annotations.xml")
        for path in (first / "images").rglob("*.*"):
            archive.write(path, f"images/{path.relative_to(first / 'images').as_posix()}")
    assert run(["data", "convert", str(tmp_path / "task.zip"), "-o", str(tmp_path / "back")]) == 0
    assert "cvat to coco: 3 images, 5 people with keypoints" in capsys.readouterr().out
    assert len(list((tmp_path / "back/images").rglob("*.*"))) == 3
    # CVAT's export "COCO Keypoints" lays its file elsewhere.
    with zipfile.ZipFile(tmp_path / "coco.zip", "w") as archive:
        archive.write(first / "annotations.json", "annotations/person_keypoints_default.json")
    assert run(["data", "convert", str(tmp_path / "coco.zip"), "-o", str(tmp_path / "c"), "--no-copy-images"]) == 0


@pytest.mark.slow
def test_poses_become_pre_annotations(tmp_path: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(f"photos/{name}", astronaut)
    assert run(["predict", "photos", "--jsonl", "poses.jsonl", "-q"]) == 0
    for kind in ("label-studio", "cvat", "yolo-pose", "coco"):
        assert run(["data", "convert", "poses.jsonl", "-o", kind, "--to", kind]) == 0
    tasks = json.loads((tmp_path / "label-studio/tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == ["/data/local-files/?d=a.jpg", "/data/local-files/?d=b.jpg"]
    assert tasks[0]["predictions"][0]["score"] > 0.3
    file = read_coco_file(tmp_path / "coco/annotations.json", COCO_17)
    nose = next(person for person in file.people if person.image_id == 1).keypoints[0]
    assert nose[:2] == pytest.approx([225, 120], abs=15)
    assert run(["data", "check", "coco"]) == 0


def test_a_video_s_poses_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"frame": i, "timestamp_s": i / 25, "people": [], "source": "a.mp4"} for i in range(2)]
    (tmp_path / "poses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(["data", "convert", str(tmp_path / "poses.jsonl"), "-o", str(tmp_path / "o")]) == 1
    assert "several frames of a.mp4" in capsys.readouterr().err


@pytest.mark.slow
def test_every_person_of_coco_survives(coco_val: Path, tmp_path: Path) -> None:
    for kind in ("yolo-pose", "cvat", "label-studio"):
        there, back = tmp_path / kind, tmp_path / f"{kind}-back"
        assert run(["data", "convert", str(coco_val), "-o", str(there), "--to", kind, "--no-copy-images"]) == 0
        if kind == "yolo-pose":
            (there / "images").symlink_to(coco_val / "images")
        images = [] if kind == "yolo-pose" else ["--images", str(coco_val / "images")]
        assert run(["data", "convert", str(there), "-o", str(back), "--no-copy-images", *images]) == 0
        before = read_coco_file(coco_val / "annotations.json", COCO_17)
        after = read_coco_file(back / "annotations.json", COCO_17)
        assert sum(p.is_labeled for p in after.people) == sum(p.is_labeled for p in before.people) == 624
        points = [
            {tuple(np.round(p.keypoints.ravel()).tolist()) for p in f.people if p.is_labeled} for f in (before, after)
        ]
        assert len(points[0] & points[1]) >= 0.97 * len(
            points[0]
        )  # those at the border are brought inside by YOLO-pose
