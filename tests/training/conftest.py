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
