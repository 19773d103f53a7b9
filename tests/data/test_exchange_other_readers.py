"""What `data convert` writes, read by Datumaro and by Label Studio's own library.

Neither is a dependency. ``FEATHERPOSE_EXCHANGE_PYTHON`` names a Python in whose environment ``pip install datumaro
label-studio-sdk`` was done; without it the running one is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_people import write_coco

from featherpose.cli.main import run
from featherpose.data.coco_file import CocoFile, read_coco_file
from featherpose.skeleton import COCO_17

PYTHON = os.environ.get("FEATHERPOSE_EXCHANGE_PYTHON", sys.executable)

READ_BY_DATUMARO = """
import json, sys
from datumaro import Dataset
items = Dataset.import_from(sys.argv[1], sys.argv[2])
labels = items.categories().get(next(kind for kind in items.categories() if kind.name == "label"))
def points(a):
    return [round(float(v), 2) for v in a.points]
print(json.dumps([
    {"id": item.id, "labels": [label.name for label in labels.items],
     "shapes": [{"kind": a.type.name, "label": labels[a.label].name, "points": points(a),
                 "seen": [int(v) for v in getattr(a, "visibility", [])]} for a in item.annotations]}
    for item in items
]))
"""

READ_BY_LABEL_STUDIO = """
import json, sys
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
config, tasks = open(sys.argv[1]).read(), json.load(open(sys.argv[2]))
interface = LabelInterface(config)
interface.validate()
predictions = [p for task in tasks for p in task["predictions"]]
errors = [e for p in predictions for e in interface.validate_prediction(p, return_errors=True)]
for number, task in enumerate(tasks):  # as if somebody had accepted each prediction
    task["id"], task["annotations"] = number, [{"id": number, "result": task.pop("predictions")[0]["result"]}]
json.dump(tasks, open(sys.argv[3] + ".json", "w"))
Converter(config, None, download_resources=False).convert_to_coco(sys.argv[3] + ".json", sys.argv[3], is_dir=False)
print(json.dumps({"errors": errors, "coco": json.load(open(sys.argv[3] + "/result.json"))}))
"""


def ask(package: str, script: str, *given: object) -> Any:
    found = subprocess.run([PYTHON, "-c", f"import {package}"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"{package} is not installed (FEATHERPOSE_EXCHANGE_PYTHON names a Python that has it)")
    done = subprocess.run(
        [PYTHON, "-c", script, *map(str, given)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def first(tmp_path: Path) -> CocoFile:
    folder = write_coco(tmp_path / "first", COCO_17.keypoints)
    return read_coco_file(folder / "annotations.json", COCO_17)


def converted(tmp_path: Path, kind: str) -> Path:
    assert run(["data", "convert", str(tmp_path / "first"), "-o", str(tmp_path / kind), "--to", kind]) == 0
    return tmp_path / kind


def seen_points(first: CocoFile) -> list[list[tuple[float, float]]]:
    """Of each image, every point that is seen, in order."""
    return [
        sorted(
            (round(x, 2), round(y, 2))
            for person in first.people
            if person.image_id == image.image_id
            for x, y, v in person.keypoints.tolist()
            if v > 0
        )
        for image in first.images
    ]


def test_datumaro_reads_the_file_for_cvat(first: CocoFile, tmp_path: Path) -> None:
    folder = converted(tmp_path, "cvat")
    (folder / "images").symlink_to(tmp_path / "first/images")
    items = ask("datumaro", READ_BY_DATUMARO, folder, "cvat")
    names = [Path(image.file_name).with_suffix("").as_posix() for image in first.images]
    assert [item["id"] for item in items] == names
    assert {"person", "person_box", *COCO_17.keypoints} <= set(items[0]["labels"])
    for item, wanted in zip(items, seen_points(first), strict=True):
        given = {tuple(shape["points"]) for shape in item["shapes"] if shape["kind"] == "points"}
        assert set(wanted) <= given
        assert {shape["label"] for shape in item["shapes"] if shape["kind"] == "points"} == set(COCO_17.keypoints)
    boxes = [shape for item in items for shape in item["shapes"] if shape["kind"] == "bbox"]
    assert [shape["label"] for shape in boxes] == ["person_box"]


def test_label_studio_takes_the_predictions_and_exports_them(first: CocoFile, tmp_path: Path) -> None:
    folder = converted(tmp_path, "label-studio")
    config, tasks = folder / "labeling_config.xml", folder / "tasks.json"
    answer = ask("label_studio_sdk", READ_BY_LABEL_STUDIO, config, tasks, tmp_path / "exported")
    assert answer["errors"] == []
    coco = answer["coco"]
    assert len(coco["images"]) == len(first.images)
    # Its converter makes one annotation of an image's keypoints: of two people the later one's.
    for number, (image, wanted) in enumerate(zip(first.images, seen_points(first), strict=True)):
        (rows,) = (a["keypoints"] for a in coco["annotations"] if a["image_id"] == number and "keypoints" in a)
        found = np.reshape(rows, (17, 3))
        people = np.array([p.keypoints[:, 2] for p in first.people if p.image_id == image.image_id])
        assert ((found[:, 2] > 0) == (people > 0).any(0)).all()
        for x, y, seen in found.tolist():  # in whole pixels
            assert not seen or min(max(abs(x - a), abs(y - b)) for a, b in wanted) <= 0.51
