"""Pseudo annotations of real photographs, in one go and after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.data.coco import read_coco
from featherpose.media.images import write_image
from featherpose.skeleton import COCO_17, OPENPOSE_18

FAST = ["--quality", "fast", "--height", "128", "--min-score", "0.2"]


@pytest.fixture
def photos(tmp_path: Path, astronaut: np.ndarray) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    write_image(folder / "000000000012.png", astronaut)
    write_image(folder / "000000000007.png", np.ascontiguousarray(astronaut[:, ::-1]))
    write_image(folder / "more" / "000000000003.png", np.full((96, 128, 3), 128, np.uint8))
    return folder


def test_annotations_are_coco_with_scores_and_ids(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.json"
    assert run(["annotate", str(photos), "-o", str(target), *FAST]) == 0
    data = json.loads(target.read_text())
    assert [(i["id"], i["file_name"]) for i in data["images"]] == [
        (7, "000000000007.png"), (12, "000000000012.png"), (3, "more/000000000003.png"),
    ]  # fmt: skip
    assert data["categories"][0]["keypoints"] == list(COCO_17.keypoints)
    assert [a["id"] for a in data["annotations"]] == list(range(1, len(data["annotations"]) + 1))
    labeled = [a for a in data["annotations"] if a["num_keypoints"]]
    assert {a["image_id"] for a in labeled} == {7, 12}
    for person in labeled:
        assert len(person["keypoint_scores"]) == 17
        shown = [v for v in person["keypoints"][2::3] if v]
        assert len(shown) == person["num_keypoints"] == sum(s >= 0.2 for s in person["keypoint_scores"])
    # What trains on COCO reads it.
    read = {image.image_id: image for image in read_coco(target, photos, OPENPOSE_18)}
    assert len(read[12].keypoints) >= 1
    assert not len(read[3].keypoints)
    assert not list(tmp_path.glob(".*"))


def test_killed_run_goes_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, target = tmp_path / "whole.json", tmp_path / "labels.json"
    assert run(["annotate", str(photos), "-o", str(whole), *FAST]) == 0
    from featherpose.data.pseudo_annotations import AnnotationJournal

    add = AnnotationJournal.add
    added: list[dict[str, object]] = []

    def add_one(self: AnnotationJournal, image: dict[str, object]) -> None:
        if added:
            raise KeyboardInterrupt
        added.append(image)
        add(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(AnnotationJournal, "add", add_one)
        assert run(["annotate", str(photos), "-o", str(target), *FAST]) != 0
    (journal,) = tmp_path.glob(".labels.json.*")
    assert len(journal.read_bytes().splitlines()) == 2
    with journal.open("ab") as file:
        file.write(b'{"file_name": "0000')  # killed while writing
    assert not target.exists()
    assert run(["annotate", str(photos), "-o", str(target), *FAST, "--min-person-score", "0.5"]) == 2
    assert "other options" in capsys.readouterr().err
    assert run(["annotate", str(photos), "-o", str(target), *FAST]) == 0
    assert json.loads(target.read_text()) == json.loads(whole.read_text())
    assert not journal.exists()


def test_unsure_people_are_boxes(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.json"
    assert run(["annotate", str(photos), "-o", str(target), *FAST, "--min-person-score", "1"]) == 0
    people = json.loads(target.read_text())["annotations"]
    assert people
    assert all(person["num_keypoints"] == 0 and person["bbox"][2] > 0 for person in people)
    assert all(max(person["keypoint_scores"]) > 0.2 for person in people[:1])


def test_bad_input_is_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["annotate", str(tmp_path / "nowhere")]) == 1
    (tmp_path / "empty").mkdir()
    assert run(["annotate", str(tmp_path / "empty")]) == 1
    assert "holds no images" in capsys.readouterr().err
    assert run(["annotate", str(photos), "--min-score", "7"]) == 2
    (photos / "broken.jpg").write_bytes(b"no image")
    shutil.rmtree(photos / "more")
    target = tmp_path / "labels.json"
    assert run(["annotate", str(photos), "-o", str(target), *FAST]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert len(json.loads(target.read_text())["images"]) == 2
