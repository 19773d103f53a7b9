"""COCO keypoints as an exchange format."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from featherpose.data.coco_file import CocoPerson, read_coco_file
from featherpose.data.exchange.annotations import (
    Annotations,
    LabeledImage,
    LabeledPerson,
    limbs_between,
    named_skeleton,
)
from featherpose.data.exchange.image_files import ImageFiles, image_size
from featherpose.errors import DatasetError
from featherpose.skeleton import Skeleton

__all__ = ["coco_annotations", "find_coco", "read_coco_annotations"]

# COCO's mean ratio of segments to boxes: OKS takes the area of the person, not of the box.
_SEGMENT_PART = 0.53


def find_coco(source: Path) -> Path | None:
    """Return the COCO file of an export: its usual name in the folder, or the only one below ``annotations``."""
    if source.is_file():
        return source if source.suffix.lower() in (".json", ".gz") else None
    for name in ("annotations.json", "annotations.json.gz", "result.json", "_annotations.coco.json"):
        if (source / name).is_file():
            return source / name
    found = sorted((source / "annotations").glob("person_keypoints*.json")) or sorted(source.glob("annotations/*.json"))
    if len(found) > 1:
        raise DatasetError(
            f"{source} holds several annotation files: {', '.join(path.name for path in found[:4])}",
            hint="name one of them, and its images by --images",
        )
    return found[0] if found else None


def read_coco_annotations(path: Path, images: ImageFiles, wanted: Skeleton) -> Annotations:
    """Read a COCO file by the rules of `featherpose.data.coco_file`.

    Raises:
        DatasetError: If it is refused, or an image of unstated size is missing.
    """
    file = read_coco_file(path, wanted)
    people: dict[int, list[CocoPerson]] = defaultdict(list)
    for person in file.people:
        people[person.image_id].append(person)
    labeled = []
    for image in file.images:
        found, size = images.find(image.file_name), image.size
        if size == (0, 0):
            if found is None:
                raise DatasetError(f"{path} does not say how large {image.file_name} is, and the image is not here")
            size = image_size(found)
        here = tuple(LabeledPerson(_whole_visibilities(p.keypoints), p.box, p.is_crowd) for p in people[image.image_id])
        labeled.append(LabeledImage(image.file_name, size, here, found))
    skeleton = named_skeleton(file.skeleton.keypoints)
    return Annotations(skeleton, tuple(labeled), tuple(finding.detail for finding in file.findings))


def _whole_visibilities(keypoints: np.ndarray) -> np.ndarray:
    """Convert visibilities to 0, 1 or 2; some writers put scores there: values over 0 count as 2 unless 1."""
    visibility = keypoints[:, 2]
    whole = np.where(visibility <= 0, 0, np.where(visibility == 1, 1, 2))
    return np.column_stack((np.where(whole[:, None] > 0, keypoints[:, :2], 0), whole))


def coco_annotations(annotations: Annotations) -> str:
    """Return ``annotations.json``; an image that is called by a number has that id, as COCO's have."""
    stems = [PurePosixPath(image.file_name).stem for image in annotations.images]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) < 15]
    by_name = len(numbers) == len(set(numbers)) == len(stems)
    ids = numbers if by_name else list(range(1, len(stems) + 1))
    records: list[dict[str, Any]] = []
    for image_id, image in zip(ids, annotations.images, strict=True):
        for person in image.people:
            box = [round(value, 2) for value in person.outline]
            record: dict[str, Any] = {
                "id": len(records) + 1, "image_id": image_id, "category_id": 1, "bbox": box,
                "area": round(_SEGMENT_PART * box[2] * box[3], 2), "iscrowd": int(person.is_crowd),
                "num_keypoints": int((person.keypoints[:, 2] > 0).sum()),
                "keypoints": [
                    number
                    for x, y, visibility in person.keypoints.tolist()
                    for number in (round(x, 2), round(y, 2), int(visibility))
                ],
            }  # fmt: skip
            if person.score is not None:
                record["score"] = round(person.score, 4)
            records.append(record)
    skeleton = annotations.skeleton
    category = {
        "id": 1, "name": "person", "supercategory": "person", "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in limbs_between(skeleton)],
    }  # fmt: skip
    images = [
        {"id": image_id, "file_name": image.file_name, "width": image.size[0], "height": image.size[1]}
        for image_id, image in zip(ids, annotations.images, strict=True)
    ]
    whole = {"images": images, "annotations": records, "categories": [category]}
    return json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n"
