"""A labeled photograph to train on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from astronaut_labels import ASTRONAUT_KEYPOINTS

from featherpose.data.coco import ImageFolder
from featherpose.skeleton import COCO_17


@pytest.fixture
def photograph(tmp_path: Path, astronaut: np.ndarray) -> ImageFolder:
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/1.png"), astronaut)
    keypoints = np.zeros((17, 3))
    for name, point in ASTRONAUT_KEYPOINTS.items():
        keypoints[COCO_17.keypoints.index(name)] = [*point, 2]
    data = {
        "images": [{"id": 1, "file_name": "1.png", "width": 512, "height": 512}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "iscrowd": 0,
             "num_keypoints": len(ASTRONAUT_KEYPOINTS), "area": 100000, "bbox": [60, 20, 350, 480]}
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(data))
    return ImageFolder(images=tmp_path / "photos", annotations=tmp_path / "a.json")


@pytest.fixture(scope="session")
def few(coco_train: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeled folder of the photographs of four people who show most of their joints."""
    folder = tmp_path_factory.mktemp("data") / "few"
    folder.mkdir()
    (folder / "images").symlink_to(coco_train / "images", target_is_directory=True)
    data = json.loads((coco_train / "annotations.json").read_text())
    ids = {image["id"] for image in data["images"] if image["id"] % 10}
    kept = [a for a in data["annotations"] if a["image_id"] in ids and a["num_keypoints"] > 12][:4]
    images = [image for image in data["images"] if image["id"] in {a["image_id"] for a in kept}]
    (folder / "annotations.json").write_text(json.dumps({**data, "images": images, "annotations": kept}))
    return folder
