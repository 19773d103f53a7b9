"""JSON Lines: one line a frame, the format to script against.

    {"frame": 0, "timestamp_s": 0.0, "people": [{"id": null, "score": 0.9, "keypoints": [[x, y, score], null, …]}]}

Keypoints are in the order of the skeleton; a missing one is null. With several sources in one file each line also has
its ``source``. If asked for, the first line names the skeleton: ``{"featherpose": 1, "skeleton": {…}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from featherpose.errors import OutputError, SkeletonError, SourceError
from featherpose.files import output_error
from featherpose.formats.record import (
    FrameRecord,
    PoseWriter,
    Progress,
    WriterOptions,
    coordinate_rows,
    person_ids,
)
from featherpose.formats.textfile import TextOutput
from featherpose.parsing import ParseError, is_finite, is_integer, parse_json, read_lines, shown
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["JsonlWriter", "count_keypoints", "frame_to_dict", "people_to_dicts", "read_jsonl"]

_VERSION = 1
# Some 30,000 people of 133 keypoints.
_MAX_LINE = 2**26
_MAX_VALUE = 1e9


def people_to_dicts(poses: Poses) -> list[dict[str, Any]]:
    """Return all people as plain data: id, score, and K keypoints ``[x, y, score]``, None for a missing one.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> people_to_dicts(Poses.empty(COCO_17, (640, 480)))
        []
    """
    rows = coordinate_rows(poses)
    ids = person_ids(poses)
    scores = np.round(poses.scores.astype(np.float64), 4).tolist()
    found = poses.detected.tolist()
    return [
        {
            "id": ids[p],
            "score": scores[p],
            "keypoints": [row if there else None for row, there in zip(rows[p], found[p], strict=True)],
        }
        for p in range(len(poses))
    ]


def frame_to_dict(record: FrameRecord, *, with_source: bool = False) -> dict[str, Any]:
    """Return one frame as plain data, the same that a line of the file holds."""
    people = people_to_dicts(record.poses)
    line: dict[str, Any] = {"frame": record.frame, "timestamp_s": round(record.timestamp_s, 6), "people": people}
    if with_source:
        line["source"] = record.source
    return line


class JsonlWriter(PoseWriter):
    """Writes JSON Lines; every line is handed to the system when `write` returns.

    Example:
        >>> import sys
        >>> from featherpose.skeleton import COCO_17
        >>> JsonlWriter(sys.stdout, COCO_17).write(FrameRecord(0, 0.0, Poses.empty(COCO_17, (640, 480))))
        {"frame":0,"timestamp_s":0.0,"people":[]}
    """

    OPTION = "jsonl"
    HELP = "JSON Lines, one line a frame"
    SUFFIXES = (".jsonl",)

    def __init__(self, target: Path | TextIO, skeleton: Skeleton, options: WriterOptions = WriterOptions()) -> None:  # noqa: B008 - frozen
        self._with_source = options.several
        self._progress: Progress | None = None
        keep = 0
        if options.resume and isinstance(target, Path):
            self._progress = Progress(target, options.order)
            keep = _note_frames(target, self._progress)
        run = {"run": dict(options.facts)} if options.facts else {}
        header = {"featherpose": _VERSION, "skeleton": skeleton.to_dict(), **run}
        self._out = TextOutput(target, keep=keep, head=_line(header) if options.header and not keep else "")

    def write(self, record: FrameRecord) -> None:
        """Append one frame."""
        self._out.write(_line(frame_to_dict(record, with_source=self._with_source)))

    def abandon(self) -> None:
        """Close after a failure."""
        self._out.abandon()

    def holds(self, record: FrameRecord) -> bool:
        """Return True if the file that is resumed has this frame."""
        return self._progress is not None and self._progress.holds(record)

    def close(self) -> None:
        """Close the file."""
        self._out.close()


def _line(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _note_frames(path: Path, progress: Progress) -> int:
    """Read the frames of an earlier run.

    Returns:
        The bytes up to the end of the last whole line.

    Raises:
        OutputError: If the file holds something else.
    """
    whole = 0
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                data = json.loads(line)
                if "featherpose" not in data:
                    progress.note(str(data.get("source", "")), int(data["frame"]))
                whole += len(line)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise output_error(path, error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(f"{path} cannot be resumed: it holds something else than poses") from error
    return whole


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
        for number, line, is_whole in read_lines(path, _MAX_LINE):
            where = f"{path} line {number}"
            if not line.strip():
                continue
            try:
                data = parse_json(line)
            except ParseError as error:
                if not is_whole:
                    return
                raise SourceError(f"{where} {error}", expected="one frame a line") from error
            if isinstance(data, dict) and "featherpose" in data:
                skeleton = skeleton or _skeleton_of(data, where)
                continue
            if skeleton is None:
                raise SourceError(
                    f"{path} does not say which skeleton it holds", hint="name it, or write the file with a header"
                )
            yield _frame_from_dict(data, skeleton, image_size, where)
    except ParseError as error:
        raise SourceError(f"{path} {error}") from error


def count_keypoints(path: str | Path) -> int | None:
    """Return how many keypoints the first person of a file has.

    Args:
        path: A file that `JsonlWriter` wrote.

    Returns:
        Their number; None if there is nobody, or a line that `read_jsonl` will refuse before.

    Raises:
        SourceError: If the file cannot be read.
    """
    try:
        for _, line, _ in read_lines(Path(path), _MAX_LINE):
            data = parse_json(line) if line.strip() else {}
            people = data.get("people") if isinstance(data, dict) else None
            if people:
                first = people[0] if isinstance(people, list) else None
                points = first.get("keypoints") if isinstance(first, dict) else None
                return len(points) if isinstance(points, list) else None
    except ParseError:
        return None
    return None


def _skeleton_of(header: Mapping[str, Any], where: str) -> Skeleton:
    try:
        return Skeleton.from_dict(header.get("skeleton") or {})
    except SkeletonError as error:
        raise SourceError(f"{where} names a skeleton that is none ({error})") from error


def _float32(values: list[Any]) -> np.ndarray:
    wide = np.asarray(values, np.float64)
    if (np.abs(wide) > _MAX_VALUE).any():
        raise ValueError(f"a number over {_MAX_VALUE:.0e}")
    return wide.astype(np.float32)


def _frame_from_dict(data: Any, skeleton: Skeleton, image_size: tuple[int, int], where: str) -> FrameRecord:
    k = skeleton.num_keypoints
    try:
        people = data["people"]
        rows = [[point or (np.nan, np.nan, 0.0) for point in person["keypoints"]] for person in people]
        values = _float32(rows).reshape(len(people), k, 3)
        scores = _float32([person["score"] for person in people])
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
        frame, time, source = data["frame"], data["timestamp_s"], data.get("source", "")
        if not is_integer(frame) or not is_finite(time, 1e15) or not isinstance(source, str):
            raise ValueError(f"frame {shown(frame)}, timestamp_s {shown(time)}, source {shown(source)}")
        return FrameRecord(frame, float(time), poses, source)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{where} is not a frame of {k} keypoints ({type(error).__name__}: {reason})",
            expected="frame, timestamp_s and people with id, score and keypoints",
        ) from error
