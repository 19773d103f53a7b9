"""Poses that ``predict`` wrote, as annotations that people correct in another tool."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from featherpose.data.exchange.annotations import Annotations, LabeledImage, LabeledPerson
from featherpose.data.exchange.image_files import ImageFiles, image_size
from featherpose.errors import DatasetError
from featherpose.formats.jsonl import read_jsonl
from featherpose.poses import Person
from featherpose.skeleton import OPENPOSE_18

__all__ = ["annotations_of_poses"]


def annotations_of_poses(path: Path, images: Path | None, min_score: float) -> Annotations:
    """Read JSON Lines of images.

    Args:
        path: Written by ``featherpose predict``; without a header its keypoints are openpose_18.
        images: Folder of the images; where the file says they are unless given.
        min_score: Weakest keypoint that is taken, 0 to 1.

    Raises:
        DatasetError: If an image is missing, or the poses are a video's.
        SourceError: If the file is no JSON Lines of poses.
    """
    records = list(read_jsonl(path, None if _has_header(path) else OPENPOSE_18))
    if not records:
        raise DatasetError(f"{path} holds no poses", expected="JSON Lines that featherpose predict wrote")
    if clash := next((name for name, count in Counter(r.source for r in records).items() if count > 1), None):
        raise DatasetError(
            f"{path} holds several frames of {clash or 'one source'}",
            expected="poses of images",
            hint="annotation tools take images: save the frames of a video as images first",
        )
    files = ImageFiles(images) if images is not None else None
    labeled = []
    for record in records:
        if not record.source:
            raise DatasetError(f"{path} does not name its image", hint="predict a folder, or several images")
        file = files.find(record.source) if files is not None else Path(record.source)
        if file is None or not file.is_file():
            raise DatasetError(f"there is no image {record.source}", hint="say where the images are with --images")
        name = file.relative_to(images).as_posix() if images and file.is_relative_to(images) else file.name
        people = tuple(_labeled(person, min_score) for person in record.poses)
        labeled.append(LabeledImage(name, image_size(file), tuple(p for p in people if p.is_labeled), file))
    return Annotations(records[0].poses.skeleton, tuple(labeled)).checked(path)


def _has_header(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b'"featherpose"' in file.readline(4096)
    except OSError:
        return False  # the reader says why


def _labeled(person: Person, min_score: float) -> LabeledPerson:
    found = person.detected & (person.keypoint_scores >= min_score)
    rows = np.column_stack((person.keypoints.astype(np.float64), np.full(len(person), 2.0)))
    return LabeledPerson(np.where(found[:, None], rows, 0.0), score=person.score)
