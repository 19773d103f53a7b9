"""Reading keypoint annotations in COCO format, for any skeleton."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import DatasetError
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LabelledPicture", "PictureSource", "hold_out", "read_coco", "read_folder"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPicture:
    """One picture on disk and what is known about the people in it.

    Attributes:
        path: The picture file.
        image_id: COCO's id, or the position in the folder.
        size: (width, height) in pixels as annotated; (0, 0) where unknown.
        keypoints: float32[P, K, 2] (x, y) in pixels, NaN where missing: people with keypoints.
        ignore_boxes: float32[R, 4] (left, top, right, bottom): people without keypoints and crowds.
        labelled: False if nothing is known about the picture, so that only a teacher can say something.
    """

    path: Path
    image_id: int
    size: tuple[int, int]
    keypoints: Float32[np.ndarray, "P K 2"]
    ignore_boxes: Float32[np.ndarray, "R 4"]
    labelled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """A folder of pictures and how to use it.

    Attributes:
        images: Folder of pictures.
        annotations: COCO keypoint file; None for pictures without labels.
        hold_out_every: Pictures whose id is a multiple of this are kept for validation; 0 keeps none.
    """

    images: Path
    annotations: Path | None = None
    hold_out_every: int = 0


def hold_out(pictures: Sequence[LabelledPicture], every: int) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Split into (train, validation) by id: multiples of ``every`` are held out; 0 holds none out.

    Example:
        >>> empty = np.empty((0, 17, 2), np.float32), np.empty((0, 4), np.float32)
        >>> pictures = [LabelledPicture(Path(f"{i}.jpg"), i, (1, 1), *empty) for i in (9, 10, 11)]
        >>> [p.image_id for p in hold_out(pictures, 10)[1]]
        [10]
    """
    if every <= 0:
        return list(pictures), []
    train = [p for p in pictures if p.image_id % every != 0]
    return train, [p for p in pictures if p.image_id % every == 0]


def read_folder(images: Path, skeleton: Skeleton) -> list[LabelledPicture]:
    """Every picture of a folder, without labels.

    Raises:
        DatasetError: If the folder is missing or holds no picture.
    """
    if not images.is_dir():
        raise DatasetError(f"{images} is not a folder", expected="a folder of pictures")
    kinds = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
    paths = sorted(p for p in images.iterdir() if p.suffix.lower() in kinds)
    if not paths:
        raise DatasetError(f"{images} holds no pictures", expected="JPEG, PNG, BMP, WebP or TIFF files")
    nobody = np.empty((0, skeleton.num_keypoints, 2), np.float32), np.empty((0, 4), np.float32)
    return [
        LabelledPicture(p, int(p.stem) if p.stem.isdigit() else i, (0, 0), *nobody, labelled=False)
        for i, p in enumerate(paths)
    ]


def read_coco(annotations: Path, images: Path, skeleton: Skeleton) -> list[LabelledPicture]:
    """Read a COCO keypoint file and bring its people to a skeleton.

    Keypoints are matched by name; a keypoint between two others (a neck) is their midpoint if both are labelled.

    Args:
        annotations: The JSON file.
        images: Folder of the pictures that it names.
        skeleton: K keypoints wanted.

    Raises:
        DatasetError: If the file is not COCO keypoints, contradicts itself, or shares no keypoint with the skeleton.
    """
    data = _load(annotations)
    source = _source_skeleton(annotations, data, skeleton)
    sources = source.sources_of(skeleton)
    if not any(sources):
        raise DatasetError(
            f"{annotations} has keypoints {', '.join(source.keypoints[:4])}, …",
            expected=f"some of skeleton {skeleton.name!r}: {', '.join(skeleton.keypoints[:4])}, …",
        )
    people: dict[int, list[np.ndarray]] = {}
    ignored: dict[int, list[list[float]]] = {}
    pictures = {_integer(annotations, i, "id"): i for i in data["images"]}
    for number, annotation in enumerate(data["annotations"]):
        image_id = _integer(annotations, annotation, "image_id")
        if image_id not in pictures:
            raise DatasetError(f"{annotations}: annotation {number} belongs to picture {image_id}, which is not listed")
        keypoints = _keypoints(annotations, number, annotation, source.num_keypoints)
        if keypoints is None or annotation.get("iscrowd"):
            x, y, w, h = _box(annotations, number, annotation)
            ignored.setdefault(image_id, []).append([x, y, x + w, y + h])
        else:
            people.setdefault(image_id, []).append(_remap(keypoints, sources))
    result = []
    for image_id, picture in sorted(pictures.items()):
        persons = np.array(people.get(image_id, []), np.float32).reshape(-1, skeleton.num_keypoints, 2)
        boxes = np.array(ignored.get(image_id, []), np.float32).reshape(-1, 4)
        size = (int(picture.get("width", 0)), int(picture.get("height", 0)))
        result.append(LabelledPicture(images / str(picture["file_name"]), image_id, size, persons, boxes))
    return result


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist", expected="a COCO keypoint file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as JSON ({error})", expected="a COCO keypoint file") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in ("images", "annotations")):
        raise DatasetError(f"{path} is not in COCO format", expected="lists 'images' and 'annotations'")
    if not all(isinstance(i, dict) and "id" in i and "file_name" in i for i in data["images"]):
        raise DatasetError(f"{path} lists a picture without 'id' or 'file_name'")
    if not all(isinstance(a, dict) for a in data["annotations"]):
        raise DatasetError(f"{path} has an annotation that is not an object")
    return data


def _source_skeleton(path: Path, data: Mapping[str, Any], wanted: Skeleton) -> Skeleton:
    categories = data.get("categories") or []
    if not isinstance(categories, list):
        raise DatasetError(f"{path}: 'categories' is not a list")
    for category in categories:
        if isinstance(category, dict) and category.get("keypoints"):
            return Skeleton.create(str(category.get("name", "file")), [str(k) for k in category["keypoints"]], [])
    counts = {len(a["keypoints"]) for a in data["annotations"] if isinstance(a.get("keypoints"), list)}
    for skeleton in (wanted, COCO_17):
        if counts == {3 * skeleton.num_keypoints}:
            return skeleton
    raise DatasetError(f"{path} does not name its keypoints", expected="'keypoints' in its category")


def _integer(path: Path, record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    if not isinstance(value, int):
        raise DatasetError(f"{path}: {key} is {value!r}", expected="a whole number")
    return value


def _keypoints(path: Path, number: int, annotation: Mapping[str, Any], count: int) -> np.ndarray | None:
    values = annotation.get("keypoints")
    if not values:
        return None
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}: annotation {number} has keypoints that are not numbers") from error
    if array.shape != (3 * count,) or not np.isfinite(array).all():
        raise DatasetError(f"{path}: annotation {number} has {array.size} keypoint numbers", expected=f"{3 * count}")
    array = array.reshape(count, 3)
    return array if (array[:, 2] > 0).any() else None


def _box(path: Path, number: int, annotation: Mapping[str, Any]) -> list[float]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise DatasetError(f"{path}: annotation {number} has neither keypoints nor a box", expected="[x, y, w, h]")
    return [float(v) for v in box]


def _remap(keypoints: np.ndarray, sources: Sequence[tuple[int, ...]]) -> np.ndarray:
    out = np.full((len(sources), 2), np.nan, np.float32)
    for k, indices in enumerate(sources):
        if indices and (keypoints[list(indices), 2] > 0).all():
            out[k] = keypoints[list(indices), :2].mean(axis=0)
    return out
