"""The results of a shard: its files, written in an order that makes the last of them the commit.

``poses/GROUP/NUMBER.parquet`` (``coco/….json``, ``jsonl/….jsonl``) hold the people, ``units/GROUP/NUMBER.parquet`` one
row an input. The file under ``units`` is written last: a shard counts from then on. Names depend on the number of the
shard alone, so a second writer of the same shard replaces files by equal ones.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.cluster.storage import Store
from featherpose.errors import FeatherposeError
from featherpose.formats.coco import CocoWriter
from featherpose.formats.jsonl import JsonlWriter
from featherpose.formats.record import FrameRecord, PoseWriter, WriterOptions
from featherpose.formats.tables import table_columns
from featherpose.skeleton import Skeleton

__all__ = ["Counts", "Outcome", "ShardWriter", "committed", "poses_schema", "shard_name", "units_schema"]

COUNTS_KEY = b"featherpose.counts"
SKELETON_KEY = b"featherpose.skeleton"
_GROUP = 1000
_ROWS_PER_GROUP = 5000
_SUFFIXES = {"units": ".parquet", "poses": ".parquet", "coco": ".json", "jsonl": ".jsonl"}
_FOLDERS = {"parquet": "poses", "coco": "coco", "jsonl": "jsonl"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one input.

    Attributes:
        source: Its key.
        kind: ``image`` or ``video``.
        error: Why it has no result; empty if it has one.
        problems: What was wrong with an input that has a result all the same; empty for nothing.
        tries: How often it was tried.
        frames: Frames with a result: 1 for an image.
        people: Poses in all of them.
        size: (width, height) in pixels.
        bytes: Length of the input; 0 for a video.
        sha256: Digest of an image's bytes; empty for a video.
        records: The people of each frame.
    """

    source: str
    kind: str = "image"
    error: str = ""
    problems: str = ""
    tries: int = 1
    frames: int = 0
    people: int = 0
    size: tuple[int, int] = (0, 0)
    bytes: int = 0
    sha256: str = ""
    records: tuple[FrameRecord, ...] = ()


@dataclass(slots=True)
class Counts:
    """What some shards hold.

    Attributes:
        units: Inputs with a row.
        failed: Those without a result.
        frames: Frames of the others.
        people: Poses in them.
        bytes: Bytes of the inputs read.
        failures: Source and error of some of the failed ones.
    """

    units: int = 0
    failed: int = 0
    frames: int = 0
    people: int = 0
    bytes: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    MOST_FAILURES = 1000

    def add(self, other: Counts) -> None:
        """Take in the counts of other shards."""
        for name in ("units", "failed", "frames", "people", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        room = self.MOST_FAILURES - len(self.failures)
        self.failures += other.failures[: max(0, room)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "units": self.units, "failed": self.failed, "frames": self.frames, "people": self.people,
            "bytes": self.bytes, "failures": [list(pair) for pair in self.failures],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Counts:
        """Take plain data back."""
        numbers = {name: int(data[name]) for name in ("units", "failed", "frames", "people", "bytes")}
        return cls(**numbers, failures=[(str(a), str(b)) for a, b in data["failures"]])


def shard_name(folder: str, number: int) -> str:
    """Return the name of a file of a shard; a thousand of them are in one folder.

    Example:
        >>> shard_name("units", 12345)
        'units/000012/00012345.parquet'
    """
    return f"{folder}/{number // _GROUP:06d}/{number:08d}{_SUFFIXES[folder]}"


def poses_schema(skeleton: Skeleton) -> Any:
    """Return the columns of ``poses``: those of ``predict --parquet``."""
    import pyarrow as pa

    kinds = {
        "source": pa.string(),
        "frame": pa.int64(),
        "timestamp_s": pa.float64(),
        "person": pa.int32(),
        "id": pa.int64(),
    }
    return pa.schema(
        [(name, kinds.get(name, pa.float32())) for name in table_columns(skeleton)],
        metadata={SKELETON_KEY: json.dumps(skeleton.to_dict()).encode()},
    )


def units_schema() -> Any:
    """Return the columns of ``units``."""
    import pyarrow as pa

    return pa.schema(
        [
            ("source", pa.string()), ("kind", pa.string()), ("status", pa.string()), ("error", pa.string()),
            ("problems", pa.string()), ("tries", pa.int32()), ("frames", pa.int64()), ("people", pa.int64()),
            ("width", pa.int32()), ("height", pa.int32()), ("bytes", pa.int64()), ("sha256", pa.string()),
        ]
    )  # fmt: skip


class ShardWriter:
    """Writes the files of one shard; nothing counts before `commit`.

    Args:
        store: The output.
        number: Of the shard.
        formats: ``parquet``, ``coco``, ``jsonl``.
        skeleton: What the keypoints are.
    """

    def __init__(self, store: Store, number: int, formats: Iterable[str], skeleton: Skeleton) -> None:
        import pyarrow.parquet as pq

        self._store, self._number, self._skeleton = store, number, skeleton
        self._folder = tempfile.TemporaryDirectory(prefix="featherpose-", ignore_cleanup_errors=True)
        self._files: dict[str, Path] = {}
        self._writers: list[PoseWriter] = []
        self._rows: list[FrameRecord] = []
        self._table: Any = None
        options = WriterOptions(several=True, header=True)
        for name in formats:
            folder = _FOLDERS[name]
            path = Path(self._folder.name) / f"{folder}{_SUFFIXES[folder]}"
            self._files[folder] = path
            if name == "parquet":
                self._table = pq.ParquetWriter(path, poses_schema(skeleton))
            else:
                self._writers.append((CocoWriter if name == "coco" else JsonlWriter)(path, skeleton, options))
        self._waiting = 0

    def add(self, record: FrameRecord) -> None:
        """Append the people of a frame."""
        for writer in self._writers:
            writer.write(record)
        if self._table is not None and len(record.poses):
            self._rows.append(record)
            self._waiting += len(record.poses)
            if self._waiting >= _ROWS_PER_GROUP:
                self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._table.write_table(_pose_table(self._rows, self._skeleton))
        self._rows, self._waiting = [], 0

    def commit(self, outcomes: list[Outcome]) -> Counts:
        """Write everything; the shard counts when this returns.

        Raises:
            OutputError, StoreError: If a file cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        for writer in self._writers:
            writer.close()
        if self._table is not None:
            self._flush()
            self._table.close()
        for folder, path in self._files.items():
            self._store.write_file(shard_name(folder, self._number), path)
        counts = _counts_of(outcomes)
        schema = units_schema().with_metadata({COUNTS_KEY: json.dumps(counts.to_dict()).encode()})
        columns = [
            [o.source for o in outcomes], [o.kind for o in outcomes],
            ["failed" if o.error else "done" for o in outcomes], [o.error or None for o in outcomes],
            [o.problems or None for o in outcomes], [o.tries for o in outcomes], [o.frames for o in outcomes],
            [o.people for o in outcomes], [o.size[0] for o in outcomes], [o.size[1] for o in outcomes],
            [o.bytes for o in outcomes], [o.sha256 or None for o in outcomes],
        ]  # fmt: skip
        arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
        out = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), out)
        self._store.write(shard_name("units", self._number), out.getvalue())
        return counts

    def close(self) -> None:
        """Remove the temporary files."""
        for writer in self._writers:
            with contextlib.suppress(FeatherposeError):
                writer.abandon()
        if self._table is not None:
            self._table.close()
        self._folder.cleanup()


def _counts_of(outcomes: list[Outcome]) -> Counts:
    failed = [(o.source, o.error) for o in outcomes if o.error]
    return Counts(
        len(outcomes), len(failed), sum(o.frames for o in outcomes), sum(o.people for o in outcomes),
        sum(o.bytes for o in outcomes), failed[: Counts.MOST_FAILURES],
    )  # fmt: skip


def _pose_table(records: list[FrameRecord], skeleton: Skeleton) -> Any:
    """Rows of some frames, rounded as the other formats round."""
    import pyarrow as pa

    schema = poses_schema(skeleton)
    counts = [len(r.poses) for r in records]
    points = np.round(np.concatenate([r.poses.keypoints for r in records]).astype(np.float64), 2).astype(np.float32)
    scores = np.round(np.concatenate([r.poses.keypoint_scores for r in records]).astype(np.float64), 4)
    missing = np.isnan(points[..., 0])
    ids = np.concatenate(
        [np.full(len(r.poses), -1, np.int64) if r.poses.track_ids is None else r.poses.track_ids for r in records]
    )
    columns: list[Any] = [
        pa.array(np.repeat(np.array([r.source for r in records], object), counts), pa.string()),
        pa.array(np.repeat([r.frame for r in records], counts), pa.int64()),
        pa.array(np.repeat([round(r.timestamp_s, 6) for r in records], counts), pa.float64()),
        pa.array(np.concatenate([np.arange(n) for n in counts]), pa.int32()),
        pa.array(ids, pa.int64(), mask=ids < 0),
        pa.array(np.round(np.concatenate([r.poses.scores for r in records]).astype(np.float64), 4), pa.float32()),
    ]
    for k in range(skeleton.num_keypoints):
        hidden = missing[:, k]
        columns += [
            pa.array(np.where(hidden, 0, values).astype(np.float32), pa.float32(), mask=hidden)
            for values in (points[:, k, 0], points[:, k, 1], scores[:, k])
        ]
    return pa.Table.from_arrays(columns, schema=schema)


def committed(store: Store, name: str) -> Counts | None:
    """Return what a committed shard holds; None for a file that was cut off, as by a store that lost its power."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(name) as file:
            metadata = pq.ParquetFile(file).schema_arrow.metadata or {}
        return Counts.from_dict(json.loads(metadata[COUNTS_KEY]))
    except (FileNotFoundError, pa.ArrowInvalid, KeyError, ValueError):
        return None


def committed_shards(store: Store) -> Iterator[tuple[int, Counts]]:
    """Yield the shards that count, in no order.

    Raises:
        StoreError: If the store fails.
    """
    from concurrent.futures import ThreadPoolExecutor

    names = list(store.names("units", ".parquet"))
    with ThreadPoolExecutor(8) as pool:
        for name, counts in zip(names, pool.map(lambda n: committed(store, n), names), strict=True):
            if counts is not None:
                yield int(name.rpartition("/")[2].partition(".")[0]), counts
