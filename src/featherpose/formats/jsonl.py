"""JSON Lines: one line a frame, the format to script against.

    {"frame": 0, "timestamp_s": 0.0, "people": [{"id": null, "score": 0.9, "keypoints": [[x, y, score], null, …]}]}

Keypoints stand in the order of the skeleton, a missing one is null. With several sources in one file each line also
says its ``source``. If asked for, the first line names the skeleton: ``{"featherpose": 1, "skeleton": {…}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np

from featherpose.errors import SourceError
from featherpose.formats.record import FrameRecord, coordinate_rows, person_ids
from featherpose.formats.textfile import TextOutput
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["JsonlWriter", "frame_to_dict", "people_to_dicts", "read_jsonl"]

_VERSION = 1


def people_to_dicts(poses: Poses) -> list[dict[str, Any]]:
    """Everyone as plain data: id, score, and K keypoints ``[x, y, score]``, None for a missing one.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> people_to_dicts(Poses.empty(COCO_17, (640, 480)))
        []
    """
    rows = coordinate_rows(poses)
    ids = person_ids(poses)
    scores = np.round(poses.scores.astype(np.float64), 4).tolist()
    found = poses.visible.tolist()
    return [
        {
            "id": ids[p],
            "score": scores[p],
            "keypoints": [row if there else None for row, there in zip(rows[p], found[p], strict=True)],
        }
        for p in range(len(poses))
    ]


def frame_to_dict(record: FrameRecord, *, with_source: bool = False) -> dict[str, Any]:
    """One frame as plain data, the same that a line of the file holds."""
    people = people_to_dicts(record.poses)
    line: dict[str, Any] = {"frame": record.frame, "timestamp_s": round(record.timestamp_s, 6), "people": people}
    if with_source:
        line["source"] = record.source
    return line


class JsonlWriter:
    """Writes JSON Lines; every line is on the disk when `write` returns.

    Args:
        target: Path of a file, or an open text stream such as ``sys.stdout``.
        header: Write a first line that names this skeleton.
        with_source: Name the source in each line.

    Raises:
        OutputError: If the file cannot be written.

    Example:
        >>> import sys
        >>> from featherpose.skeleton import COCO_17
        >>> JsonlWriter(sys.stdout).write(FrameRecord(0, 0.0, Poses.empty(COCO_17, (640, 480))))
        {"frame":0,"timestamp_s":0.0,"people":[]}
    """

    def __init__(self, target: Path | TextIO, *, header: Skeleton | None = None, with_source: bool = False) -> None:
        self._out = TextOutput(target)
        self._with_source = with_source
        if header is not None:
            self._line({"featherpose": _VERSION, "skeleton": header.to_dict()})

    def write(self, record: FrameRecord) -> None:
        """Append one frame."""
        self._line(frame_to_dict(record, with_source=self._with_source))

    def _line(self, data: dict[str, Any]) -> None:
        self._out.write(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_jsonl(
    path: str | Path, skeleton: Skeleton | None = None, *, image_size: tuple[int, int] = (0, 0)
) -> Iterator[FrameRecord]:
    """Read poses back, one frame at a time.

    Args:
        path: A file that `JsonlWriter` wrote; a last line that was cut off by a crash is left out.
        skeleton: What the keypoints are; needed unless the file has a header.
        image_size: (width, height) that the poses shall carry; the file does not hold it.

    Raises:
        SourceError: If the file cannot be read, a line is not a frame, or the skeleton is unknown.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    data = json.loads(line)
                except ValueError as error:
                    if not line.endswith("\n"):
                        return
                    raise SourceError(
                        f"{path} line {number} is not JSON ({error})", expected="one frame a line"
                    ) from error
                if isinstance(data, dict) and "featherpose" in data:
                    skeleton = skeleton or Skeleton.from_dict(data.get("skeleton") or {})
                    continue
                if skeleton is None:
                    raise SourceError(
                        f"{path} does not say which skeleton it holds", hint="name it, or write the file with a header"
                    )
                yield _frame_from_dict(data, skeleton, image_size, f"{path} line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _frame_from_dict(data: Any, skeleton: Skeleton, image_size: tuple[int, int], where: str) -> FrameRecord:
    k = skeleton.num_keypoints
    try:
        people = data["people"]
        rows = [[point or (np.nan, np.nan, 0.0) for point in person["keypoints"]] for person in people]
        values = np.asarray(rows, np.float32).reshape(len(people), k, 3)
        scores = np.asarray([person["score"] for person in people], np.float32)
        ids = [person["id"] for person in people]
        tracked = any(i is not None for i in ids)
        track_ids = np.asarray([-1 if i is None else i for i in ids], np.int64) if tracked else None
        poses = Poses(
            np.ascontiguousarray(values[..., :2]),
            np.ascontiguousarray(values[..., 2]),
            scores,
            skeleton,
            image_size,
            track_ids,
        )
        return FrameRecord(int(data["frame"]), float(data["timestamp_s"]), poses, str(data.get("source", "")))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise SourceError(
            f"{where} is not a frame of {k} keypoints ({type(error).__name__}: {error})",
            expected="frame, timestamp_s and people with id, score and keypoints",
        ) from error
