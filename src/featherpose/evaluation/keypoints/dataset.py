"""Annotated images to measure on: COCO person keypoints in the form that pycocotools takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.data.coco import AnnotatedImage, map_keypoints
from featherpose.data.coco_file import CocoFile, CocoPerson, locate_coco, read_coco_file
from featherpose.errors import DatasetError
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["CocoDataset", "CocoImage", "check_images", "dataset_of", "read_coco_dataset"]

_PERSON = 1


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image: COCO's id and the file on disk."""

    image_id: int
    path: Path


@dataclass(frozen=True, slots=True)
class CocoDataset:
    """Images and their annotations.

    Attributes:
        name: Name of the folder or file.
        images: In the order of the file.
        annotations: The content as pycocotools takes it: people of category 1 with the keypoints of ``skeleton``, ids
            counted from 1.
        skeleton: K keypoints of the annotations, in this order.
        file_skeleton: The keypoints of the file, in its order; None if there is no file.
        file_category: The category id of people in the file.
    """

    name: str
    images: tuple[CocoImage, ...]
    annotations: dict[str, Any]
    skeleton: Skeleton = COCO_17
    file_skeleton: Skeleton | None = None
    file_category: int = _PERSON

    @property
    def people(self) -> int:
        """Return the number of annotated people that count: with keypoints, no crowds, on the chosen images."""
        chosen = {sample.image_id for sample in self.images}
        return sum(
            a["image_id"] in chosen and a["num_keypoints"] > 0 and not a["iscrowd"]
            for a in self.annotations["annotations"]
        )

    def first(self, count: int) -> CocoDataset:
        """Return the first images only."""
        return replace(self, images=self.images[:count])

    def only(self, names: Iterable[str]) -> CocoDataset:
        """Return the images that are named, in the order of the file.

        Args:
            names: Ids or file names.

        Raises:
            DatasetError: If one of them is none of the images.
        """
        wanted = set(names)
        known = {image.image_id: {str(image.image_id), image.path.name, image.path.stem} for image in self.images}
        missing = sorted(wanted.difference(*known.values()))
        if missing:
            raise DatasetError(
                f"{self.name} lacks {len(missing)} of {len(wanted)} images, such as {missing[0]}",
                expected="ids or file names of its images",
            )
        return replace(self, images=tuple(i for i in self.images if known[i.image_id] & wanted))

    def results_for_file(self, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Convert results to the category id and keypoint order of the file, for other programs that read both.

        Args:
            results: COCO keypoint results with the keypoints of ``skeleton``.
        """
        sources = self.skeleton.mapping_to(self.file_skeleton or self.skeleton)
        converted = []
        for result in results:
            values = result["keypoints"]
            rows = [values[3 * s[0] : 3 * s[0] + 3] if len(s) == 1 else [0.0, 0.0, 0.0] for s in sources]
            flat = [value for row in rows for value in row]
            converted.append({**result, "category_id": self.file_category, "keypoints": flat})
        return converted


def read_coco_dataset(dataset: Path, images: Path | None = None, *, skeleton: Skeleton = COCO_17) -> CocoDataset:
    """Read annotations by the rules of `featherpose.data.coco_file` and find the images.

    Args:
        dataset: A folder with ``annotations.json`` and ``images/``, or a COCO person keypoint file (``.json``,
            ``.json.gz``).
        images: Folder of the images; needed with a file, unless ``images`` is beside it.
        skeleton: Keypoints of the result; those of the file are matched by name.

    Raises:
        DatasetError: If something is missing, damaged, of another kind, or contradicts itself.
    """
    path, folder = locate_coco(dataset, images)
    file = read_coco_file(path, skeleton)
    root = folder.resolve()
    name = (dataset if dataset.is_dir() else path).resolve().name
    found = CocoDataset(
        name,
        tuple(CocoImage(image.image_id, root / image.file_name) for image in file.images),
        _as_annotations(file, skeleton),
        skeleton,
        file.skeleton,
        file.category_id,
    )
    if not found.people:
        raise DatasetError(f"{path} annotates nobody's keypoints", expected=f"people with keypoints of {skeleton.name}")
    return found


def _as_annotations(file: CocoFile, skeleton: Skeleton) -> dict[str, Any]:
    sources = file.skeleton.mapping_to(skeleton)
    images = [
        {"id": i.image_id, "file_name": i.file_name, "width": i.size[0] or None, "height": i.size[1] or None}
        for i in file.images
    ]
    people = [_record(number, person, sources) for number, person in enumerate(file.people, 1)]
    return {"images": images, "annotations": people, "categories": [_category(skeleton)]}


def _record(number: int, person: CocoPerson, sources: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    keypoints = map_keypoints(person.keypoints, sources)
    return {
        "id": number,
        "image_id": person.image_id,
        "category_id": _PERSON,
        "iscrowd": int(person.is_crowd),
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "bbox": list(person.box),
        "area": person.area,
    }


def _category(skeleton: Skeleton) -> dict[str, Any]:
    return {"id": _PERSON, "name": "person", "keypoints": list(skeleton.keypoints)}


def dataset_of(samples: Sequence[AnnotatedImage], skeleton: Skeleton) -> CocoDataset:
    """Return the annotations of images in memory, numbered from 0 in their order, as a data set to measure on.

    Args:
        samples: With people in ``skeleton``.
        skeleton: K keypoints.
    """
    people: list[CocoPerson] = []
    for image_id, sample in enumerate(samples):
        for i, points in enumerate(sample.keypoints):
            seen = np.isfinite(points[:, 0])
            corner, extent = points[seen].min(axis=0), np.maximum(np.ptp(points[seen], axis=0), 1)
            # Without a segment: the part of a box around the keypoints that a person fills.
            area = 0.6 * float(extent.prod()) if sample.areas is None else float(sample.areas[i])
            labels = np.nan_to_num(np.column_stack([points, 2 * seen])).astype(np.float64)
            box = (float(corner[0]), float(corner[1]), float(extent[0]), float(extent[1]))
            people.append(CocoPerson(image_id, labels, box, area, False))
        for i, (left, top, right, bottom) in enumerate(sample.ignore_boxes.astype(np.float64).tolist()):
            crowd = sample.crowds is not None and bool(sample.crowds[i])
            nothing = np.zeros((skeleton.num_keypoints, 3))
            box = (left, top, right - left, bottom - top)
            people.append(CocoPerson(image_id, nothing, box, box[2] * box[3], crowd))
    same = skeleton.mapping_to(skeleton)
    annotations = {
        "images": [{"id": image_id} for image_id in range(len(samples))],
        "annotations": [_record(number, person, same) for number, person in enumerate(people, 1)],
        "categories": [_category(skeleton)],
    }
    chosen = tuple(CocoImage(image_id, sample.path) for image_id, sample in enumerate(samples))
    return CocoDataset("images in memory", chosen, annotations, skeleton)


def check_images(dataset: CocoDataset) -> None:
    """Raise if an image is missing.

    Raises:
        DatasetError: With their number and the first of them.
    """
    missing = [sample.path for sample in dataset.images if not sample.path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(dataset.images)} images are missing, the first is {missing[0]}",
            hint="check --images, or measure a part with --limit or --only",
        )
