"""COCO keypoint results: one JSON array of people, ready for pycocotools and every tool that reads its results."""

from __future__ import annotations

import contextlib
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from featherpose.errors import OutputError
from featherpose.files import PartFile, keep_interrupted, output_error, unfinished_parts
from featherpose.formats.record import FrameRecord, PoseWriter, Progress, WriterOptions, coordinate_rows, person_ids
from featherpose.formats.textfile import TextOutput
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["CocoWriter", "coco_results", "stable_image_id"]

_PERSON = 1
_TAIL = "\n]\n"
_WHOLE_IMAGE = 1 << 62  # after all frame numbers: no image file has this number
_FRAME_BITS = 28  # a year of video at 8 frames a second


def coco_results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """Return the people of one image as COCO results.

    Keypoints are COCO's 17, in its order, as x, y, score; a missing one is 0, 0, 0 as the format demands. COCO's
    evaluation reads x and y only; other tools use the score.

    Example:
        >>> points = np.full((1, 17, 2), np.nan, np.float32)
        >>> points[0, 0] = 3, 4
        >>> scores = np.zeros((1, 17), np.float32)
        >>> scores[0, 0] = 0.5
        >>> result = coco_results(Poses(points, scores, np.ones(1, np.float32), COCO_17, (8, 8)), 42)[0]
        >>> result["image_id"], result["keypoints"][:6], len(result["keypoints"])
        (42, [3.0, 4.0, 0.5, 0.0, 0.0, 0.0], 51)
    """
    poses = poses.to_skeleton(COCO_17)
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


def stable_image_id(source: str, frame: int | None = None) -> int:
    """Return a number for an image or a frame that depends only on its own name and number.

    Args:
        source: Name of the image or video.
        frame: Number of the frame in a video; None for an image.

    Returns:
        A number below 2**52, which every JSON reader keeps exactly: for a frame, 24 bits of the name's SHA-256 and 28
        bits of frame number; for an image, 51 bits of the digest with the highest bit set.

    Example:
        >>> stable_image_id("logo.jpg"), stable_image_id("clip.mp4", 7) - stable_image_id("clip.mp4", 0)
        (3209533158259018, 7)
    """
    digest = int.from_bytes(sha256(source.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    if frame is None:
        return 1 << 51 | digest >> 13
    return digest >> 41 << _FRAME_BITS | frame % (1 << _FRAME_BITS)


class CocoWriter(PoseWriter):
    """Writes COCO results, person by person; the array is closed after every frame and the file named at the end.

    Each person carries its ``file_name``, in videos its ``frame``, and with a tracker its ``track_id`` as in PoseTrack.
    Images without an ``image_id`` are numbered by `stable_image_id`.
    """

    OPTION = "coco"
    HELP = "COCO keypoint results (JSON)"
    SUFFIXES = (".json",)
    MISSING = "`0, 0, 0`"

    def __init__(self, target: Path | TextIO, skeleton: Skeleton, options: WriterOptions = WriterOptions()) -> None:  # noqa: B008 - frozen
        self._part: PartFile | None = None
        self._progress: Progress | None = None
        keep = 0
        if isinstance(target, Path):
            if options.resume:
                self._progress = Progress(target, options.order)
                self._part, keep = _resume(target, self._progress)
            else:
                self._part = PartFile(target, visible=True)
        self._out = TextOutput(target, part=self._part, head="" if keep else "[", tail=_TAIL, keep=keep)
        self._people = keep > 1

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame."""
        image_id = record.image_id
        if image_id is None:
            image_id = stable_image_id(record.source, None if record.is_image else record.frame)
        elif image_id < 0:
            return
        lines = []
        for person, number in zip(coco_results(record.poses, image_id), person_ids(record.poses), strict=True):
            if number is not None:
                person["track_id"] = number
            if record.source:
                person["file_name"] = record.source
            if not record.is_image:
                person["frame"] = record.frame
            lines.append((",\n" if self._people else "\n") + json.dumps(person, ensure_ascii=False))
            self._people = True
        if lines or not self._out.begun:
            self._out.write("".join(lines))

    def abandon(self) -> None:
        """Close after a failure."""
        self._out.abandon()
        self._discard()

    @property
    def unfinished(self) -> Path | None:
        """The temporary name."""
        return None if self._part is None or self._part.special else self._part.shown

    def holds(self, record: FrameRecord) -> bool:
        """Return True if the file that is resumed is past this frame."""
        return self._progress is not None and self._progress.holds(record)

    def close(self) -> None:
        """Give the file its name."""
        try:
            self._out.close()
        finally:
            self._discard()

    def _discard(self) -> None:
        if self._part is not None and not self._part.file.closed:
            self._part.discard()

    @classmethod
    def recover(cls, path: Path) -> list[Path]:
        """Close the arrays of killed runs and give the files visible names."""
        found = []
        for part in unfinished_parts(path):
            with contextlib.suppress(OSError, OutputError, ValueError):
                people, whole = _read_people(part)
                if not people:
                    part.unlink()
                    continue
                with part.open("r+b") as file:
                    file.truncate(whole)
                    file.seek(whole)
                    file.write(_TAIL.encode())
                found.append(keep_interrupted(part, path))
        return found


def _read_people(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the people of a file, whose last record may be torn, and the bytes up to the last whole one."""
    people: list[dict[str, Any]] = []
    whole = 1
    with path.open("rb") as file:
        first = file.readline()
        if not first:
            return [], 0  # killed before anything was written
        if first not in (b"[\n", b"["):
            raise ValueError("no array")
        position = 2
        for line in file:
            position += len(line)
            text = line.rstrip(b"\n")
            if text in (b"]", b""):
                break
            try:
                people.append(json.loads(text.removesuffix(b",")))
            except (ValueError, RecursionError):
                break
            whole = position - (len(line) - len(text.removesuffix(b",")))
    return people, whole


def _resume(path: Path, progress: Progress) -> tuple[PartFile, int]:
    """Continue the temporary file of a killed run, or a copy of the file that an interrupted one closed."""
    parts = unfinished_parts(path)
    try:
        if parts:
            people, whole = _read_people(parts[-1])
        elif path.exists():
            people, whole = _read_people(path)
        else:
            return PartFile(path, visible=True), 0
        for person in people:
            progress.note(str(person.get("file_name", "")), int(person.get("frame", _WHOLE_IMAGE)))
        if parts:
            return PartFile(path, visible=True, adopt=parts[-1]), whole
        part = PartFile(path, visible=True)
        with path.open("rb") as before:
            os.write(part.file.fileno(), before.read(whole))
    except OSError as error:
        raise output_error(path, error) from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise OutputError(f"{path} cannot be resumed: it holds something else than COCO results") from error
    return part, whole
