"""Thousands of mutated annotation files: each is read, or refused with a clear error; nothing else may happen."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.errors import DatasetError, SourceError
from featherpose.evaluation.coco import read_coco_dataset
from featherpose.formats.jsonl import read_jsonl
from featherpose.media.images import write_image
from featherpose.skeleton import COCO_17

ROUNDS = 700
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e400, float("nan"), 10**40, "", "x", [], {}, [[]], [None], "../../etc/passwd", "a\0b", 0.5,
)  # fmt: skip


def small_dataset() -> dict[str, Any]:
    """Two pictures, three people: the smallest file with all that the format has."""
    rng = np.random.default_rng(0)

    def person(number: int, image: int) -> dict[str, Any]:
        keypoints = np.concatenate((rng.integers(0, 60, (17, 2)), rng.integers(0, 3, (17, 1))), 1)
        return {
            "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 900.0, "bbox": [1, 2, 30, 30],
            "num_keypoints": int((keypoints[:, 2] > 0).sum()), "keypoints": keypoints.ravel().tolist(),
        }  # fmt: skip

    return {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in (1, 2)],
        "annotations": [person(1, 1), person(2, 1), person(3, 2)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": []}],
    }


def mutate(value: Any, rng: np.random.Generator) -> Any:
    """Somewhere inside, one thing is replaced, removed or doubled."""
    value = copy.deepcopy(value)
    node = value
    while isinstance(node, dict | list) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[int(rng.integers(len(keys)))]
        child = node[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.15:
            what = rng.integers(0, 3)
            if what == 0:
                node[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
            elif what == 1:
                del node[key]
            elif isinstance(node, list):
                node.append(child)
            else:
                node[str(key) + "x"] = node.pop(key)
            break
        node = child
    return value


def mutate_text(text: str, rng: np.random.Generator) -> bytes:
    """Bytes changed or cut, as a bad disk or a broken download does."""
    data = bytearray(text.encode())
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(data)))
        if rng.random() < 0.7:
            data[at] = int(rng.integers(0, 256))
        else:
            del data[at : at + int(rng.integers(1, 200))]
    return bytes(data)


@pytest.mark.parametrize("kind", ["structure", "bytes"])
def test_mutated_annotation_files(tmp_path: Path, kind: str, astronaut: np.ndarray) -> None:
    (tmp_path / "images").mkdir()
    for i in (1, 2):
        write_image(tmp_path / "images" / f"{i}.png", astronaut[:64, :64])
    path = tmp_path / "annotations.json"
    original = small_dataset()
    path.write_text(json.dumps(original))
    assert len(read_coco_dataset(tmp_path).pictures) == 2
    rng = np.random.default_rng(1)
    messages: set[str] = set()
    for _ in range(ROUNDS):
        if kind == "structure":
            path.write_text(json.dumps(mutate(original, rng)))
        else:
            path.write_bytes(mutate_text(json.dumps(original), rng))
        try:
            read_coco_dataset(tmp_path)
        except DatasetError as error:
            messages.add(str(error))
    assert len(messages) > 10
    assert not [m for m in messages if "Traceback" in m or "\n" in m]


def test_mutated_json_lines(tmp_path: Path) -> None:
    line = json.dumps({
        "frame": 0, "timestamp_s": 0.0,
        "people": [{"id": None, "score": 0.5, "keypoints": [[1.0, 2.0, 0.5]] * 16 + [None]}],
    })  # fmt: skip
    path = tmp_path / "poses.jsonl"
    rng = np.random.default_rng(2)
    refused = 0
    for i in range(ROUNDS):
        if i % 2:
            path.write_text(json.dumps(mutate(json.loads(line), rng)) + "\n")
        else:
            path.write_bytes(mutate_text(line, rng) + b"\n")
        try:
            list(read_jsonl(path, COCO_17))
        except SourceError:
            refused += 1
    assert 0 < refused < ROUNDS
