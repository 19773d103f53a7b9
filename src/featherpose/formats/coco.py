"""COCO keypoint results: one JSON array of people, ready for pycocotools and every tool that reads its results."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from featherpose.formats.record import FrameRecord, coordinate_rows
from featherpose.formats.textfile import TextOutput
from featherpose.media.atomic import output_error, part_path
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17

__all__ = ["CocoWriter", "coco_results"]

_PERSON = 1


def coco_results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """The people of one picture as COCO results.

    Keypoints are COCO's 17, in its order, as x, y, score; a missing one is 0, 0, 0 as the format demands. COCO's
    evaluation reads x and y only; the third number is kept for everybody else.

    Example:
        >>> points = np.full((1, 17, 2), np.nan, np.float32)
        >>> points[0, 0] = 3, 4
        >>> scores = np.zeros((1, 17), np.float32)
        >>> scores[0, 0] = 0.5
        >>> result = coco_results(Poses(points, scores, np.ones(1, np.float32), COCO_17, (8, 8)), 42)[0]
        >>> result["image_id"], result["keypoints"][:6], len(result["keypoints"])
        (42, [3.0, 4.0, 0.5, 0.0, 0.0, 0.0], 51)
    """
    poses = poses.to(COCO_17)
    scores = np.round(poses.scores.astype(np.float64), 5).tolist()
    return [
        {
            "image_id": image_id,
            "category_id": _PERSON,
            "keypoints": [0.0 if value != value else value for point in person for value in point],
            "score": score,
        }
        for person, score in zip(coordinate_rows(poses), scores, strict=True)
    ]


class CocoWriter:
    """Writes COCO results, person by person, to a temporary file that gets its name when the array is closed.

    Frames without an ``image_id`` are numbered from 0 in the order they come; ``file_name`` and, for videos,
    ``frame`` then say what each number stands for.

    Raises:
        OutputError: If the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = part_path(path)
        if path.is_dir():
            raise output_error(path, IsADirectoryError())
        self._out = TextOutput(self._part, shown=path)
        self._count = 0
        self._people = 0
        self._closed = False
        self._out.write("[")

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame."""
        image_id = self._count if record.image_id is None else record.image_id
        self._count += 1
        lines = []
        for person in coco_results(record.poses, image_id):
            if record.image_id is None:
                person["file_name"] = record.source
                person["frame"] = record.frame
            lines.append(("\n" if self._people == 0 else ",\n") + json.dumps(person, ensure_ascii=False))
            self._people += 1
        if lines:
            self._out.write("".join(lines))

    def close(self) -> None:
        """Close the array and give the file its name."""
        if self._closed:
            return
        self._closed = True
        try:
            self._out.close()
            # Also after a full disk: the file was cut back to the last whole frame, which left room for the bracket.
            with self._part.open("ab") as file:
                file.write(b"\n]\n")
            self._part.replace(self.path)
        except OSError as error:
            if not self._out.failed:  # otherwise the reason has been told
                raise output_error(self.path, error) from error
        finally:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
