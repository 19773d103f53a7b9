"""Annotated pictures to measure on: COCO person keypoints, read and checked before anything is computed.

The file goes on to pycocotools, which trusts it blindly; whatever it would stumble over is found here and named.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from featherpose.errors import DatasetError
from featherpose.skeleton import COCO_17

__all__ = ["CocoDataset", "CocoPicture", "read_coco_dataset"]

_K = COCO_17.num_keypoints
_MAX_JSON_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class CocoPicture:
    """One picture: COCO's id and the file on disk."""

    image_id: int
    path: Path


@dataclass(frozen=True, slots=True)
class CocoDataset:
    """Pictures and what is annotated on them.

    Attributes:
        name: Name of the folder or file.
        pictures: In the order of the file.
        annotations: The file's content, as pycocotools takes it.
    """

    name: str
    pictures: tuple[CocoPicture, ...]
    annotations: dict[str, Any]

    @property
    def people(self) -> int:
        """Annotated people that count: with keypoints, no crowds, on the chosen pictures."""
        chosen = {picture.image_id for picture in self.pictures}
        return sum(
            a["image_id"] in chosen and a["num_keypoints"] > 0 and not a["iscrowd"]
            for a in self.annotations["annotations"]
        )

    def first(self, count: int) -> CocoDataset:
        """The first pictures only."""
        return CocoDataset(self.name, self.pictures[:count], self.annotations)


def read_coco_dataset(dataset: Path, images: Path | None = None) -> CocoDataset:
    """Read annotations and find the pictures.

    Args:
        dataset: A folder with ``annotations.json`` and ``images/``, or a COCO person keypoint file (``.json``,
            ``.json.gz``).
        images: Folder of the pictures; needed with a file, unless ``images`` is beside it.

    Raises:
        DatasetError: If something is missing, damaged, of another kind, or contradicts itself.
    """
    if dataset.is_dir():
        file, folder = dataset / "annotations.json", images or dataset / "images"
        if not file.is_file():
            raise DatasetError(
                f"folder {dataset} has no annotations.json",
                expected="a folder with annotations.json and images/, or a COCO keypoint file with --images",
            )
    elif dataset.is_file():
        file, folder = dataset, images or dataset.parent / "images"
    else:
        raise DatasetError(
            f"there is no {dataset}", expected="a folder with annotations.json and images/, or a COCO keypoint file"
        )
    if not folder.is_dir():
        raise DatasetError(
            f"there is no folder of pictures {folder}", hint="say where the pictures are with --images FOLDER"
        )
    data = _load(file)
    records = _checked(file, data)
    root = folder.resolve()
    pictures = []
    for image_id, name in records:
        relative = PurePosixPath(name)
        # A file from elsewhere must not make us read what lies outside the folder.
        if relative.is_absolute() or ".." in relative.parts or "\0" in name or "\\" in name:
            raise DatasetError(
                f"{file}: picture {image_id} has file name {name!r}", expected="a name inside the folder"
            )
        pictures.append(CocoPicture(image_id, root / relative))
    chosen = CocoDataset((dataset if dataset.is_dir() else file).resolve().name, tuple(pictures), data)
    if not chosen.people:
        raise DatasetError(
            f"{file} annotates nobody's keypoints", expected="people with num_keypoints over 0, such as "
            "person_keypoints_val2017.json",
        )  # fmt: skip
    return chosen


def check_pictures(dataset: CocoDataset) -> None:
    """Raise if a picture is not there.

    Raises:
        DatasetError: With their number and the first of them.
    """
    missing = [picture.path for picture in dataset.pictures if not picture.path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(dataset.pictures)} pictures are missing, the first is {missing[0]}",
            hint="check --images, or measure a part with --limit",
        )


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise DatasetError(f"{file} is larger than 4 GB", expected="a COCO keypoint file")
        raw = file.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        data = json.loads(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{file} is a damaged gzip file: {error}", hint="get the file again") from error
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        reason = "cut off or damaged" if raw.strip() else "empty"
        raise DatasetError(f"{file} is no JSON, {reason}: {error}", expected="a COCO keypoint file") from error
    if isinstance(data, list):
        raise DatasetError(f"{file} is a list, as COCO results are", expected="COCO annotations, with the ground truth")
    if not isinstance(data, dict):
        raise DatasetError(f"{file} holds a {type(data).__name__}", expected="COCO annotations, an object")
    return data


def _checked(file: Path, data: dict[str, Any]) -> list[tuple[int, str]]:
    """(id, file name) of every picture; fills in what COCO lets writers leave out."""
    for key in ("images", "annotations"):
        if not isinstance(data.get(key), list) or not all(isinstance(item, dict) for item in data[key]):
            raise DatasetError(
                f"{file} has no list {key!r}", expected="COCO annotations: images, annotations, categories"
            )
    records: dict[int, str] = {}
    for number, image in enumerate(data["images"]):
        image_id, name = image.get("id"), image.get("file_name")
        if not _is_int(image_id) or not isinstance(name, str) or not name:
            raise DatasetError(f"{file}: picture {number} has id {image_id!r} and file name {name!r}")
        if image_id in records:
            raise DatasetError(f"{file}: two pictures have the id {image_id}")
        records[image_id] = name
    if not records:
        raise DatasetError(f"{file} lists no pictures")
    if data["annotations"] and not any("keypoints" in a for a in data["annotations"]):
        kinds = sorted({key for a in data["annotations"][:100] for key in a} & {"caption", "segmentation", "bbox"})
        raise DatasetError(
            f"{file} has no keypoints (but {', '.join(kinds) or 'nothing known'})",
            expected="person keypoint annotations, such as person_keypoints_val2017.json",
        )
    seen: set[int] = set()
    for number, annotation in enumerate(data["annotations"]):
        _check_annotation(file, number, annotation, records)
        if annotation["id"] in seen:
            raise DatasetError(f"{file}: two annotations have the id {annotation['id']}")
        seen.add(annotation["id"])
    categories = data.get("categories")
    if not isinstance(categories, list) or not any(isinstance(c, dict) and c.get("id") == 1 for c in categories):
        data["categories"] = [{"id": 1, "name": "person"}]
    return list(records.items())


def _check_annotation(file: Path, number: int, annotation: dict[str, Any], records: dict[int, str]) -> None:
    where = f"{file}: annotation {number}"
    if not _is_int(annotation.get("id")):
        raise DatasetError(f"{where} has id {annotation.get('id')!r}", expected="a whole number")
    if not _is_int(annotation.get("image_id")) or annotation["image_id"] not in records:
        raise DatasetError(f"{where} belongs to picture {annotation.get('image_id')!r}, which is not listed")
    annotation.setdefault("category_id", 1)
    annotation.setdefault("iscrowd", 0)
    keypoints = annotation.setdefault("keypoints", [0] * (3 * _K))
    if not isinstance(keypoints, list) or len(keypoints) != 3 * _K or not all(_is_finite(v) for v in keypoints):
        shown = len(keypoints) if isinstance(keypoints, list) else type(keypoints).__name__
        raise DatasetError(f"{where} has {shown} keypoint numbers", expected=f"{3 * _K} finite ones: x, y, v of {_K}")
    counted = sum(v > 0 for v in keypoints[2::3])
    if annotation.setdefault("num_keypoints", counted) != counted:
        raise DatasetError(
            f"{where} says num_keypoints {annotation['num_keypoints']!r}", expected=f"{counted}, as its keypoints show"
        )
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(v) for v in box):
        raise DatasetError(f"{where} has bbox {box!r}", expected="[x, y, width, height]")
    # OKS scales by the segment's area; without one, by COCO's mean ratio of segments to boxes.
    if not _is_finite(annotation.setdefault("area", 0.53 * box[2] * box[3])) or annotation["area"] < 0:
        raise DatasetError(f"{where} has area {annotation['area']!r}", expected="square pixels")
    if annotation["iscrowd"] not in (0, 1):
        raise DatasetError(f"{where} has iscrowd {annotation['iscrowd']!r}", expected="0 or 1")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)
