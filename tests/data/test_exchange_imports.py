"""Exports of other tools as those tools write them, and the ways in which they go wrong."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.data.coco_file import CocoFile, read_coco_file
from featherpose.skeleton import COCO_17, Skeleton

ARM = Skeleton.create("arm", ["left_shoulder", "left_elbow", "left_wrist"], [])


def image(path: Path, width: int = 200, height: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, np.full((height, width, 3), 90, np.uint8))
    assert ok
    path.write_bytes(data.tobytes())


def converted(source: Path, *options: str) -> CocoFile:
    target = source.parent / "converted"
    assert run(["data", "convert", str(source), "-o", str(target), *options]) == 0
    return read_coco_file(target / "annotations.json", COCO_17)


def refusal(source: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    target = source.parent / "refused"
    assert run(["data", "convert", str(source), "-o", str(target), *options]) == 1
    assert not target.exists()
    message = capsys.readouterr().err
    assert "internal error" not in message
    assert message.count("\n") == 1
    return message


def people(file: CocoFile) -> list[dict[str, list[float]]]:
    return [
        {n: p for n, p in zip(file.skeleton.keypoints, person.keypoints.tolist(), strict=True) if p[2] > 0}
        for person in file.people
    ]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><labels>
    <label><name>car</name><type>rectangle</type><attributes></attributes></label>
    <label><name>person</name><type>skeleton</type><attributes></attributes></label>
    <label><name>left-shoulder</name><type>points</type><attributes></attributes><parent>person</parent></label>
    <label><name>left-elbow</name><type>points</type><attributes></attributes><parent>person</parent></label>
    <label><name>left-wrist</name><type>points</type><attributes></attributes><parent>person</parent></label>
  </labels></task><dumped>2024-05-01 10:00:00+00:00</dumped></meta>
  <image id="0" name="a.jpg" width="200" height="100">
    <box label="car" source="manual" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9" z_order="0"></box>
    <skeleton label="person" source="manual" z_order="0">
      <points label="left-wrist" source="manual" outside="0" occluded="1" points="30.50,40.25"></points>
      <points label="left-shoulder" source="manual" outside="0" occluded="0" points="10.00,20.00"></points>
      <points label="left-elbow" source="manual" outside="1" occluded="0" points="1.00,2.00"></points>
    </skeleton>
  </image>
  <image id="1" name="b.jpg" width="200" height="100"></image>
</annotations>
"""


def test_cvat_for_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT)
    file = converted(tmp_path / "annotations.xml")
    assert file.skeleton.keypoints == ("left_shoulder", "left_elbow", "left_wrist")
    assert people(file) == [{"left_shoulder": [10, 20, 2], "left_wrist": [30.5, 40.25, 1]}]
    assert "left out: 1 of label 'car'" in capsys.readouterr().err


def test_cvat_points_that_a_group_joins_and_rows_of_points(tmp_path: Path) -> None:
    body = """
    <points label="left_wrist" occluded="0" points="5,6" group_id="1"></points>
    <points label="left_elbow" occluded="0" points="7,8" group_id="1"></points>
    <box label="person" xtl="1" ytl="2" xbr="11" ybr="12" group_id="1"></box>
    <points label="left_wrist" occluded="0" points="50,60" group_id="2"></points>"""
    (tmp_path / "annotations.xml").write_text(
        f'<annotations><image id="0" name="a.jpg" width="200" height="100">{body}</image></annotations>'
    )
    file = converted(tmp_path / "annotations.xml")
    assert people(file) == [{"left_wrist": [5, 6, 2], "left_elbow": [7, 8, 2]}, {"left_wrist": [50, 60, 2]}]
    assert list(file.people[0].box) == [1, 2, 10, 10]
    (tmp_path / "rows").mkdir()
    row = '<points label="person" occluded="0" points="1,2;3,4;5,6"></points>'
    (tmp_path / "rows/annotations.xml").write_text(
        f'<annotations><image id="0" name="a.jpg" width="200" height="100">{row}</image></annotations>'
    )
    (tmp_path / "arm.json").write_text(json.dumps(ARM.to_dict()))
    (tmp_path / "converted").rename(tmp_path / "before")
    file = converted(tmp_path / "rows", "--skeleton", str(tmp_path / "arm.json"))
    assert people(file)[0]["left_wrist"] == [5, 6, 2]


def test_cvat_for_video_takes_the_frames_that_were_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skeleton = """<skeleton frame="{0}" keyframe="1" z_order="0">
      <points label="left_wrist" keyframe="1" outside="{1}" occluded="0" points="{0}.00,20.00"></points></skeleton>"""
    track = f'<track id="0" label="person" source="manual">{skeleton.format(3, 0)}{skeleton.format(4, 1)}</track>'
    meta = "<meta><task><original_size><width>200</width><height>100</height></original_size></task></meta>"
    source = tmp_path / "video"
    source.mkdir()
    (source / "annotations.xml").write_text(f"<annotations>{meta}{track}</annotations>")
    assert "frame 3 is no image here" in refusal(source, capsys)
    image(source / "images/frame_000003.PNG")
    assert people(converted(source)) == [{"left_wrist": [3, 20, 2]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CVAT[:900], "is no XML, cut off or damaged"),
        (CVAT.replace('width="200"', 'width="wide"'), "width of a.jpg is 'wide'"),
        (CVAT.replace("30.50,40.25", "30.50"), "expected x,y;x,y"),
        (CVAT.replace("30.50,40.25", "nan,1"), "x of a point in a.jpg is 'nan'"),
        (CVAT.replace('name="b.jpg"', 'name="a.jpg"'), "lists the image a.jpg twice"),
        (CVAT.replace("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'), "declares a document type"),
        ("<annotations>" + "<a>" * 50, "nested more than"),
        ("<annotations></annotations>", "lists no images"),
        (CVAT.replace('label="left-elbow" source="manual" outside="1"', 'label="left-wrist" outside="0"'), "occurs"),
    ],
)
def test_cvat_refusals(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    assert message in refusal(tmp_path / "annotations.xml", capsys)


def region(kind: str, key: str, label: str, x: object, y: object, **more: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"x": x, "y": y, "width": more.pop("width", 0.5), kind: [label]}
    if kind == "rectanglelabels":
        value |= {"height": more.pop("height"), "rotation": 0}
    return {
        "id": key, "type": kind, "value": value, "original_width": 200, "original_height": 100, "image_rotation": 0,
        "from_name": "a", "to_name": "b", **more,
    }  # fmt: skip


def task(results: list[dict[str, Any]], name: str = "/data/upload/1/0a1b2c3d-a.jpg", **more: Any) -> dict[str, Any]:
    annotations = [{"id": 1, "result": results, "was_cancelled": False}]
    return {"id": 5, "data": {"img": name}, "annotations": annotations, "predictions": [], **more}


def test_label_studio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        region("rectanglelabels", "box1", "Person", 0, 0, width=50, height=100),
        region("rectanglelabels", "box2", "Person", 50, 0, width=50, height=100),
        region("rectanglelabels", "box3", "car", 10, 10, width=5, height=5),
        region("keypointlabels", "k1", "Left Wrist", 25, 50, parentID="box1"),
        region("keypointlabels", "k2", "Left Wrist", 75, 50),  # in one box alone
        region("keypointlabels", "k3", "Left Elbow", 40, 10),
        {"type": "relation", "from_id": "k3", "to_id": "box2", "direction": "right"},
        {"type": "choices", "value": {"choices": ["good"]}, "from_name": "c", "to_name": "b"},
    ]
    skipped = {**task([]), "annotations": [{"id": 2, "result": [], "was_cancelled": True}]}
    (tmp_path / "export.json").write_text(json.dumps([task(results), skipped]))
    image(tmp_path / "pictures/0a1b2c3d-a.jpg")
    file = converted(tmp_path / "export.json", "--images", str(tmp_path / "pictures"))
    assert people(file) == [{"left_wrist": [50, 50, 2]}, {"left_wrist": [150, 50, 2], "left_elbow": [80, 10, 2]}]
    assert list(file.people[1].box) == [100, 0, 100, 100]
    assert [i.file_name for i in file.images] == ["data/upload/1/a.jpg"]
    told = capsys.readouterr().err
    assert "1 tasks that nobody labeled" in told
    assert "1 boxes of label 'car'" in told


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task([region("keypointlabels", k, "nose", 5, 5) for k in "ab"])], "lies in 0 boxes"),
        ([task([region("keypointlabels", "a", "nose", 5, 5, image_rotation=90)])], "rotated image"),
        ([task([region("keypointlabels", "a", "nose", 5, "x")])], "y of nose is 'x'"),
        ([task([], name="notes.txt")], "names no image"),
        ([{"id": 1, "data": 3, "annotations": []}], "is a list, but not of Label Studio's tasks"),
        ([task([region("keypointlabels", "a", "nose", 5, 5, original_width=None)])], "width is None"),
        ([task([])], "does not say how large"),
        ([{**task([]), "annotations": "many"}], "has annotations 'many'"),
    ],
)
def test_label_studio_refusals(
    tasks: list[Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert message in refusal(tmp_path / "export.json", capsys)


def labelme(name: str, shapes: list[dict[str, Any]], **more: Any) -> str:
    return json.dumps({
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None, "imageHeight": 100,
        "imageWidth": 200, **more,
    })  # fmt: skip


def point(label: str, x: float, y: float, group: int | None = None, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": [[x, y]], "group_id": group, "shape_type": "point", "flags": {}, **more}


def rectangle(label: str, corners: list[list[float]], group: int | None = None) -> dict[str, Any]:
    return {"label": label, "points": corners, "group_id": group, "shape_type": "rectangle", "flags": {}}


def test_labelme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "labeled"
    image(folder / "a.jpg")
    image(folder / "night/a.jpg")
    shapes = [
        point("l_wrist", 5, 6, 1), point("l_elbow", 7, 8, 1, difficult=True), point("l_wrist", 50, 60, 2),
        rectangle("person", [[100, 90], [40, 50]], 2), rectangle("person", [[1, 2], [3, 4]]),
        rectangle("car", [[1, 2], [3, 4]]), {"label": "sky", "points": [[0, 0]] * 3, "shape_type": "polygon"},
    ]  # fmt: skip
    (folder / "a.json").write_text(labelme("a.jpg", shapes))
    (folder / "night/a.json").write_text(labelme("a.jpg", [point("LElbow", 9, 9)]))
    file = converted(folder)
    assert [i.file_name for i in file.images] == ["a.jpg", "night/a.jpg"]
    assert people(file) == [
        {"left_wrist": [5, 6, 2], "left_elbow": [7, 8, 1]}, {"left_wrist": [50, 60, 2]}, {}, {"left_elbow": [9, 9, 2]},
    ]  # fmt: skip
    assert list(file.people[1].box) == [40, 50, 60, 40]
    told = capsys.readouterr().err
    assert "'polygon'" in told
    assert "rectangle, car" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (labelme("a.jpg", [point("nose", 1, 2), point("nose", 3, 4)]), "two points 'nose' without a group"),
        (labelme("a.jpg", [point("nose", 1, 2)], imageWidth=None), "imageWidth is None"),
        (labelme("", [point("nose", 1, 2)]), "has imagePath ''"),
        (labelme("a.jpg", [{**point("nose", 1, 2), "points": [[1]]}]), "expected [[x, y], …]"),
        (labelme("a.jpg", [{**point("nose", 1, 2), "label": 7}]), "label 7"),
        (labelme("a.jpg", [rectangle("person", [[1, 2], [3, 4]])]), "has no points"),
        (labelme("a.jpg", [point("nose", 1, 2)])[:-30], "cut off or damaged"),
    ],
)
def test_labelme_refusals(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(text)
    assert message in refusal(tmp_path / "a.json", capsys)


def yolo(folder: Path, data: str, lines: str, part: str = "train") -> Path:
    image(folder / f"images/{part}/a.jpg")
    image(folder / f"images/{part}/nobody.jpg")
    (folder / f"labels/{part}").mkdir(parents=True)
    (folder / "data.yaml").write_text(data)
    (folder / f"labels/{part}/a.txt").write_text(lines)
    return folder


DATA = """path: /home/somebody/datasets/arms
train: images/train
val:
names: {0: dog, 1: person}
kpt_shape: [3, 3]
kpt_names: {1: [left-shoulder, left-elbow, left-wrist]}
"""
LINE = "1 0.5 0.5 0.5 1.0 0.25 0.5 2 0.5 0.5 1 0 0 0\n"


def test_brackets_in_brackets_are_refused_before_they_are_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yaml.load", lambda *_: pytest.fail("this takes half a minute"))
    deep = "x: " + ("{" * 300 + "}" * 300 + ",") * 400
    assert "data.yaml is nested too deep" in refusal(yolo(tmp_path / "set", DATA + deep, LINE), capsys)


def test_yolo_pose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dog = "0 0.5 0.5 0.5 1.0" + " 0.1 0.1 2" * 3 + "\n"
    file = converted(yolo(tmp_path / "set", DATA, LINE + dog + "\n1 0.5 0.5 0.1 0.1\n"))
    assert people(file) == [{"left_shoulder": [50, 50, 2], "left_elbow": [100, 50, 1]}, {}]
    assert list(file.people[0].box) == [50, 0, 100, 100]
    assert [i.file_name for i in file.images] == ["train/a.jpg"]
    told = capsys.readouterr().err
    assert "left out: 1 of class dog" in told
    assert "1 images have no label file" in told


def test_yolo_pose_of_two_numbers_without_names_in_a_zip_file(tmp_path: Path) -> None:
    data = "train: ../train/images\nnames: ['person']\nkpt_shape: [17, 2]\nnc: 1\n"
    line = "0 0.5 0.5 1 1" + " 0.5 0.5" * 16 + " 0 0\n"
    folder = yolo(tmp_path / "set", data, line)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, f"inner/{path.relative_to(folder).as_posix()}")
    file = converted(tmp_path / "set.zip")
    assert file.skeleton.keypoints == COCO_17.keypoints
    assert sorted(people(file)[0]) == sorted(COCO_17.keypoints[:-1])


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (DATA, LINE.replace("0.25", "125"), "line 1 has coordinates outside 0 to 1"),
        (DATA, LINE.replace("0.25", "nan"), "line 1 has coordinates outside 0 to 1"),
        (DATA, LINE.replace(" 0 0 0", ""), "line 1 has 11 numbers; expected 14"),
        (DATA, LINE.replace("0.25", "left"), "expected numbers"),
        (DATA.replace("kpt_shape: [3, 3]", ""), LINE, "has no kpt_shape"),
        (DATA.replace("[3, 3]", "[3, 4]"), LINE, "expected [keypoints, 2 or 3]"),
        (DATA.replace("kpt_names", "other"), LINE, "3 keypoints without names"),
        (DATA.replace("images/train", "images/gone"), LINE, "there is no folder of images"),
        (DATA.replace("person", "cat"), LINE, "expected one called person"),
        ("a: &a [1]\nb: *a\n" + DATA, LINE, "is no YAML: it has references"),
        ("a: !!python/object:os.system {}\n" + DATA, LINE, "is no YAML"),
        ("[" * 5000, LINE, "is nested too deep"),
    ],
)
def test_yolo_pose_refusals(
    data: str, line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(yolo(tmp_path / "set", data, line), capsys)


def test_zip_files_that_attack_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", b" " * 100_000_000)
    assert "far more than its size explains" in refusal(bomb, capsys)
    outside = tmp_path / "outside.zip"
    with zipfile.ZipFile(outside, "w") as archive:
        archive.writestr("../escaped.xml", CVAT)
    assert "a file outside itself" in refusal(outside, capsys)
    cut = tmp_path / "cut.zip"
    with zipfile.ZipFile(cut, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", CVAT * 50)
    data = cut.read_bytes()
    cut.write_bytes(data[:60] + bytes(200) + data[260:])
    assert "cannot be unpacked" in refusal(cut, capsys)
    assert not (tmp_path / "escaped.xml").exists()


def test_what_is_no_annotation_and_targets_that_hold_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no annotations that are known here" in refusal(tmp_path / "empty", capsys)
    assert "there is no" in refusal(tmp_path / "nothing", capsys)
    (tmp_path / "annotations.xml").write_text(CVAT)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious.txt").write_text("mine")
    assert run(["data", "convert", str(tmp_path / "annotations.xml"), "-o", str(tmp_path / "full")]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]
