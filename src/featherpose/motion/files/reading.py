"""From results to a `PoseSequence`: the formats of ``featherpose predict``, whoever wrote them.

JSON Lines, CSV and Parquet hold times and ids. COCO results and OpenPose JSON hold numbers of frames, so that the rate
is asked for, and seldom ids: people without any are followed by the tracker, which ``PoseSequence.steps`` states.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.errors import MissingExtraError, OptionError, SourceError
from featherpose.formats.coco_reading import read_coco_people
from featherpose.formats.frame_numbers import skeleton_by_size
from featherpose.formats.jsonl import count_keypoints, read_jsonl
from featherpose.formats.openpose_reading import openpose_files, read_openpose_folder
from featherpose.formats.record import FrameRecord
from featherpose.motion.sequence import PoseSequence, Step
from featherpose.parsing import is_folder, reason_of
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton, builtin_skeletons
from featherpose.tracking import PoseTracker

__all__ = ["RESULT_SUFFIXES", "holds_poses", "read_poses"]

_TIMED = (".jsonl", ".ndjson", ".csv", ".parquet")
RESULT_SUFFIXES = (*_TIMED, ".json")
"""Suffixes of files that `read_poses` reads; it also reads folders of OpenPose JSON."""

_FIXED = ("source", "frame", "timestamp_s", "person", "id", "score")


def holds_poses(source: str | Path) -> bool:
    """Return whether `read_poses` is who reads a source: a file by its suffix, a folder if it holds JSON.

    Raises:
        SourceError: If a folder cannot be listed.
    """
    path = Path(source)
    return path.suffix.lower() in RESULT_SUFFIXES or (is_folder(path) and bool(openpose_files(path)))


def read_poses(
    path: str | Path,
    *,
    skeleton: Skeleton | None = None,
    image_size: tuple[int, int] = (0, 0),
    source: str | None = None,
    fps: float | None = None,
) -> PoseSequence:
    r"""Read the poses of one video from results.

    Args:
        path: ``.jsonl`` (or ``.ndjson``), ``.csv`` or ``.parquet`` by ``featherpose predict``; ``.json`` with COCO
            keypoint results, or a folder of OpenPose JSON, one file a frame, by it or other tools.
        skeleton: What the keypoints are. Where the file does not say, the built-in skeleton of that number of
            keypoints (17 is coco_17, 18 is openpose_18, 25 body_25, 26 halpe_26), which ``steps`` says; tables name
            their keypoints.
        image_size: (width, height) of the video in pixels, which these files do not hold.
        source: Which of several sources in the file; the only one unless given.
        fps: Frames a second, for COCO results and OpenPose JSON, which hold no times.

    Returns:
        Everyone over time, in pixels. If nobody has an id, the tracker gives them, and ``steps`` says so.

    Raises:
        SourceError: If the file cannot be read, holds no people, has a number of keypoints that fits no built-in
            skeleton or several, or holds several sources and none is named.
        OptionError: If ``fps`` is missing, impossible, or given for a file that holds times.
        MissingExtraError: For Parquet without the ``parquet`` extra.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "poses.csv"
        ...     _ = path.write_text(
        ...         "source,frame,timestamp_s,person,id,score,tip_x,tip_y,tip_score\n,0,0.0,0,4,1,3,5,1\n"
        ...     )
        ...     read_poses(path, skeleton=Skeleton.create("dot", ["tip"], []))
        PoseSequence(1 frames, 1 person, dot, 0.000 s, px)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _TIMED and fps is not None:
        raise OptionError(f"{path} holds times, and {fps:g} frames a second are given as well", expected="no --fps")
    records: Sequence[FrameRecord] | Iterator[FrameRecord]
    by_number = skeleton is None and suffix not in (".csv", ".parquet")
    if suffix in (".jsonl", ".ndjson"):
        by_number = by_number and not _has_header(path)
        records = read_jsonl(path, _by_number(path) if by_number else skeleton, image_size=image_size)
    elif suffix == ".csv":
        records = _table_records(path, *_read_csv(path), skeleton, image_size)
    elif suffix == ".parquet":
        records = _table_records(path, *_read_parquet(path), skeleton, image_size)
    elif suffix == ".json":
        records = read_coco_people(path, fps=fps, skeleton=skeleton, image_size=image_size)
    elif is_folder(path):
        records = read_openpose_folder(path, fps=fps, skeleton=skeleton, image_size=image_size)
    else:
        raise SourceError(
            f"{path} is not a file of poses",
            expected=f"a name with {', '.join(RESULT_SUFFIXES)}, or a folder of OpenPose JSON",
        )
    kept = list(records)
    names = list(dict.fromkeys(record.source for record in kept))
    if source is not None and source not in names:
        raise SourceError(f"{path} has no source {source!r}", expected=f"one of {', '.join(names) or 'none'}")
    if source is None and len(names) > 1:
        raise SourceError(f"{path} holds {len(names)} sources", expected=f"--source with one: {', '.join(names[:10])}")
    kept, steps = _followed([record for record in kept if source is None or record.source == source])
    sequence = PoseSequence.from_records(kept)
    settings: dict[str, Any] = {}
    left_open = []
    if fps is not None:
        settings["fps"] = fps
        left_open.append(f"the file holds no times: frame numbers at {fps:g} frames a second")
    if by_number:
        taken = sequence.skeleton
        settings["skeleton"] = taken.name
        left_open.append(f"the file names no keypoints: {taken.num_keypoints} are those of {taken.name}")
    if left_open:
        steps = [Step("read", settings, 0, "; ".join(left_open)), *steps]
    return replace(sequence, steps=(*steps, *sequence.steps))


def _followed(records: list[FrameRecord]) -> tuple[list[FrameRecord], list[Step]]:
    """Give ids to people if nobody has one."""
    if not any(len(record.poses) for record in records) or any(r.poses.track_ids is not None for r in records):
        return records, []
    if all(len(record.poses) <= 1 for record in records):
        text = "nobody has an id in the file: one person a frame at most, taken for the same one"
        return records, [Step("follow_people", {}, 0, text)]
    tracker = PoseTracker()
    out: list[FrameRecord] = []
    last_s = -np.inf
    for record in records:
        # Time that stands still or goes back is left out and counted later.
        if record.timestamp_s > last_s:
            last_s = record.timestamp_s
            record = replace(record, poses=tracker.update(record.poses, last_s))
        out.append(record)
    text = f"nobody has an id in the file: the tracker followed {tracker.count} people by their places"
    return out, [Step("follow_people", {}, sum(len(record.poses) for record in records), text)]


def _has_header(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return '"featherpose"' in file.readline()[:200]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {reason_of(error)}") from error


def _by_number(path: Path) -> Skeleton | None:
    """Return the built-in skeleton that has as many keypoints as the first person of the file; None without people."""
    count = count_keypoints(path)
    return None if count is None else skeleton_by_size(count, path)


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows: list[dict[str, Any]] = list(reader)
            return list(reader.fieldnames or []), rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read: {reason_of(error)}") from error


def _read_parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("Reading Parquet", "parquet") from error
    try:
        table = pq.read_table(path)
        return list(table.column_names), table.to_pylist()
    except (OSError, ValueError, TypeError, OverflowError, RecursionError, NotImplementedError) as error:
        raise SourceError(f"{path} cannot be read: {reason_of(error)}") from error


def _table_records(
    path: Path,
    columns: list[str],
    rows: list[dict[str, Any]],
    skeleton: Skeleton | None,
    image_size: tuple[int, int],
) -> Iterator[FrameRecord]:
    names = [column[:-2] for column in columns if column.endswith("_x")]
    expected = [*_FIXED, *(f"{name}_{part}" for name in names for part in ("x", "y", "score"))]
    if columns != expected or not names:
        raise SourceError(f"{path} is not a table of poses", expected=f"the columns {', '.join(_FIXED)}, nose_x ...")
    if skeleton is None:
        known = {s.keypoints: s for s in builtin_skeletons().values()}
        skeleton = known.get(tuple(names)) or Skeleton.create("own", names, [])
    if list(skeleton.keypoints) != names:
        raise SourceError(f"{path} holds other keypoints", expected=f"those of skeleton {skeleton.name}")
    frames: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        try:
            frames.setdefault((row["source"] or "", int(row["frame"])), []).append(row)
        except (TypeError, ValueError) as error:
            raise SourceError(f"{path} has a row without a frame number ({reason_of(error)})") from error
    for (source, frame), people in frames.items():
        try:
            values = np.array([[_number(row[column]) for column in columns[6:]] for row in people], np.float64)
            ids = [-1 if row["id"] in ("", None) else int(row["id"]) for row in people]
            scores = np.array([_number(row["score"]) for row in people], np.float32)
            time_s = float(people[0]["timestamp_s"])
        except (TypeError, ValueError) as error:
            raise SourceError(f"{path} frame {frame} cannot be read ({reason_of(error)})") from error
        cells = values.reshape(len(people), len(names), 3).astype(np.float32)
        tracked = np.asarray(ids, np.int64) if any(i >= 0 for i in ids) else None
        poses = Poses(
            np.ascontiguousarray(cells[..., :2]),
            np.nan_to_num(np.ascontiguousarray(cells[..., 2])),
            scores,
            skeleton,
            image_size,
            tracked,
        )
        yield FrameRecord(frame, time_s, poses, source)


def _number(value: Any) -> float:
    return float("nan") if value in ("", None) else float(value)
