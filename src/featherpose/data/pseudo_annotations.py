"""Pseudo annotations: what a model found in a folder of images, as a COCO keypoint file to train on or to correct.

Each image is a line of a journal beside the file until all are done, so a killed run goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from featherpose.errors import OptionError, OutputError
from featherpose.files import output_error, write_bytes
from featherpose.parsing import ParseError, parse_json
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["AnnotationJournal", "annotated_people", "coco_file"]


def annotated_people(poses: Poses, *, min_score: float, min_person_score: float) -> list[dict[str, Any]]:
    """Return the people of one image as COCO annotations without ids.

    A keypoint is labeled (visibility 2) where its score reaches ``min_score``; all scores stand in
    ``keypoint_scores``. People under ``min_person_score``, and those without a labeled keypoint, are a box with
    ``num_keypoints`` 0, which training leaves out as unknown.

    Args:
        poses: In the skeleton of the file.
        min_score: Of a keypoint, 0 to 1.
        min_person_score: Mean score of all keypoints, found or not.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 9, (1, 17, 2)).astype(np.float32)
        >>> scores = np.full((1, 17), 0.9, np.float32)
        >>> (person,) = annotated_people(
        ...     Poses(points, scores, np.ones(1, np.float32), COCO_17, (9, 9)), min_score=0.3, min_person_score=0.2
        ... )
        >>> person["num_keypoints"], len(person["keypoints"]), len(person["keypoint_scores"])
        (17, 51, 17)
    """
    people = []
    for points, scores, rank, box in zip(
        poses.keypoints, poses.keypoint_scores, poses.scores, poses.boxes(), strict=True
    ):
        if not np.isfinite(box).all():
            continue
        labeled = np.isfinite(points[:, 0]) & (scores >= min_score)
        if scores.mean() < min_person_score:
            labeled[:] = False
        rows = np.where(labeled[:, None], np.column_stack([points, np.full(len(points), 2.0)]), 0.0)
        left, top, right, bottom = (round(float(v), 2) for v in box)
        width, height = round(right - left, 2), round(bottom - top, 2)
        people.append(
            {
                "category_id": 1,
                "keypoints": [round(float(v), 2) for v in rows.ravel()],
                "num_keypoints": int(labeled.sum()),
                "keypoint_scores": [round(float(v), 4) for v in scores],
                "score": round(float(rank), 4),
                "bbox": [left, top, width, height],
                "area": round(0.53 * width * height, 2),  # COCO's mean ratio of segments to boxes around keypoints
                "iscrowd": 0,
            }
        )
    return people


def coco_file(skeleton: Skeleton, images: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Put images, each with its ``people``, together as a COCO keypoint file; people are numbered from 1.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> image = {"id": 7, "file_name": "a.jpg", "width": 9, "height": 9, "people": [{"num_keypoints": 0}]}
        >>> coco_file(COCO_17, [image], {})["annotations"]
        [{'id': 1, 'image_id': 7, 'num_keypoints': 0}]
    """
    people = [(image["id"], person) for image in images for person in image["people"]]
    return {
        "info": dict(facts),
        "images": [{key: value for key, value in image.items() if key != "people"} for image in images],
        "annotations": [
            {"id": number, "image_id": image, **person} for number, (image, person) in enumerate(people, start=1)
        ],
        "categories": [
            {
                "id": 1, "name": "person", "supercategory": "person", "keypoints": list(skeleton.keypoints),
                "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
            }
        ],
    }  # fmt: skip


class AnnotationJournal:
    """The images that are done, in a file beside the final one: one JSON object a line, behind a line of facts.

    Args:
        target: The final file.
        facts: What must be the same when a run is continued.

    Raises:
        OptionError: If an unfinished run of other facts lies there.
        OutputError: If the file cannot be written.
    """

    def __init__(self, target: Path, facts: Mapping[str, Any]) -> None:
        self._target = target
        self.path = target.with_name(f".{target.name}.unfinished.jsonl")
        self.images: dict[str, dict[str, Any]] = {}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file: BufferedRandom = self.path.open("a+b")
            self._continue(dict(facts))
        except OSError as error:
            raise output_error(self.path, error) from error

    def _continue(self, facts: dict[str, Any]) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]  # a killed run may have left part of a line
        if len(whole) < len(data):
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        try:
            records = [parse_json(line) for line in lines]
        except ParseError as error:
            raise OutputError(f"{self.path} is damaged ({error})", hint="delete it to start again") from error
        if not records:
            self._append(facts)
            return
        if records[0] != json.loads(json.dumps(facts)):
            self._file.close()
            raise OptionError(
                f"{self.path} is of a run with other options", expected="the same command",
                hint="delete it to start again, or choose another --output",
            )  # fmt: skip
        for record in records[1:]:
            self.images[record["file_name"]] = record

    def _append(self, record: Mapping[str, Any]) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def add(self, image: dict[str, Any]) -> None:
        """Record one image; it is on disk when this returns.

        Raises:
            OutputError: If it cannot be written.
        """
        try:
            self._append(image)
        except OSError as error:
            raise output_error(self.path, error) from error
        self.images[image["file_name"]] = image

    def finish(self, content: Mapping[str, Any]) -> None:
        """Write the final file and remove the journal."""
        write_bytes(self._target, json.dumps(content).encode() + b"\n")
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the journal; it stays for the next run."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
