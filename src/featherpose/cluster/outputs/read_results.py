"""Reading what a batch run wrote, while it runs and afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featherpose.cluster.outputs.identity import MANIFEST, RUN
from featherpose.cluster.outputs.shards import Counts, committed_shards, poses_schema, shard_name, units_schema
from featherpose.cluster.storage import Store
from featherpose.errors import MissingExtraError, SourceError
from featherpose.formats.record import FrameRecord
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    import pandas

__all__ = ["BatchResults", "read_results"]


def read_results(uri: str) -> BatchResults:
    """Open the results of ``featherpose batch``.

    Only shards that are committed count, so that this may be called while a run goes on.

    Args:
        uri: The folder or address that was its ``--out``.

    Raises:
        SourceError: If it is no output of a batch run.
        StoreError: If its store does not answer.
        MissingExtraError: If pyarrow is not installed.

    Example:
        >>> import featherpose
        >>> def most_people(uri: str) -> str:
        ...     records = featherpose.read_results(uri)
        ...     return max(records, key=lambda record: len(record.poses)).source
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reading results", "parquet") from error
    store = Store(str(uri), patience_s=10.0)
    data = store.read(RUN)
    if data is None:
        raise SourceError(f"{store.shown} is no output of a batch run", expected="what was given as --out")
    try:
        run = json.loads(data)
        skeleton = Skeleton.from_dict(run["skeleton"])
        formats = list(run["options"]["formats"])
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{store.shown} belongs to a run that this version cannot read") from error
    shards = dict(sorted(committed_shards(store)))
    return BatchResults(store, skeleton, "parquet" in formats, shards)


@dataclass(frozen=True, slots=True)
class BatchResults:
    """The results of a batch run; iterate over it for the people of each image and frame.

    Frames of videos in which nobody was found are left out, as in every table; images are not.

    Attributes:
        skeleton: What the keypoints are.
    """

    _store: Store
    skeleton: Skeleton
    _has_poses: bool
    _shards: dict[int, Counts]

    def __repr__(self) -> str:
        counts = self.counts
        return f"BatchResults({self._store.shown!r}, {counts.units} units, {counts.people} poses)"

    @property
    def counts(self) -> Counts:
        """How many inputs, failures, frames and poses."""
        total = Counts()
        for counts in self._shards.values():
            total.add(counts)
        return total

    @property
    def manifest(self) -> dict[str, Any] | None:
        """What the run wrote at its end: options, model, versions, counts; None while it has not ended."""
        data = self._store.read(MANIFEST)
        return None if data is None else dict(json.loads(data))

    def dataset(self) -> Any:
        """Return the poses as a ``pyarrow.dataset.Dataset``, one row a person.

        Raises:
            SourceError: If the run wrote no Parquet.
        """
        self._check_poses()
        return self._dataset("poses", poses_schema(self.skeleton))

    def units(self) -> Any:
        """Return the inputs as a ``pyarrow.dataset.Dataset``, one row an image or video."""
        return self._dataset("units", units_schema())

    def to_pandas(self) -> pandas.DataFrame:
        """Return the poses as one table in memory, one row a person.

        Raises:
            SourceError: If the run wrote no Parquet.
            MissingExtraError: If pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("to_pandas", "pandas") from error
        table: pandas.DataFrame = self.dataset().to_table().to_pandas()
        return table

    def __iter__(self) -> Iterator[FrameRecord]:
        """Yield the people of each image and frame, shard after shard.

        Raises:
            SourceError: If the run wrote no Parquet.
        """
        import pyarrow.parquet as pq

        self._check_poses()
        for number in self._shards:
            with self._store.open(shard_name("units", number)) as file:
                units = pq.read_table(file).to_pylist()
            with self._store.open(shard_name("poses", number)) as file:
                frames = _frames_of(pq.read_table(file), self.skeleton, {u["source"]: u for u in units})
            for unit in units:
                source = unit["source"]
                if unit["kind"] == "image" and unit["status"] == "done" and source not in frames:
                    empty = Poses.empty(self.skeleton, (unit["width"], unit["height"]))
                    yield FrameRecord(0, 0.0, empty, source, is_image=True)
                yield from frames.get(source, ())

    def _check_poses(self) -> None:
        if not self._has_poses:
            raise SourceError(
                f"{self._store.shown} was written without Parquet",
                hint="read its coco or jsonl folder, or run it with it",
            )

    def _dataset(self, folder: str, schema: Any) -> Any:
        import pyarrow.dataset
        import pyarrow.fs

        paths = [self._store.path(shard_name(folder, number)) for number in self._shards]
        fs = self._store.location.fs or pyarrow.fs.LocalFileSystem()
        if not paths:
            return pyarrow.dataset.dataset(schema.empty_table())
        return pyarrow.dataset.dataset(paths, schema=schema, filesystem=fs, format="parquet")


def _frames_of(table: Any, skeleton: Skeleton, units: dict[str, dict[str, Any]]) -> dict[str, list[FrameRecord]]:
    """Return the records of a table of poses, by source, in the order of the rows."""
    found: dict[str, list[FrameRecord]] = {}
    if not table.num_rows:
        return found
    sources, frames = table["source"].to_pylist(), table["frame"].to_pylist()
    times = table["timestamp_s"].to_pylist()
    values = np.stack([table.column(i).to_numpy() for i in range(6, table.num_columns)], axis=1)
    values = np.asarray(values, np.float32).reshape(table.num_rows, skeleton.num_keypoints, 3)
    people = np.asarray(table["score"].to_numpy(), np.float32)
    has_ids = table["id"].null_count < table.num_rows
    ids = np.asarray(table["id"].fill_null(-1).to_numpy(), np.int64)
    start = 0
    for row in range(1, table.num_rows + 1):
        if row < table.num_rows and sources[row] == sources[start] and frames[row] == frames[start]:
            continue
        source, unit = sources[start], units[sources[start]]
        scores = np.nan_to_num(values[start:row, :, 2])
        is_image = unit["kind"] == "image"
        poses = Poses(
            np.ascontiguousarray(values[start:row, :, :2]), scores, people[start:row], skeleton,
            (unit["width"], unit["height"]), ids[start:row] if has_ids and not is_image else None,
        )  # fmt: skip
        found.setdefault(source, []).append(FrameRecord(frames[start], times[start], poses, source, is_image=is_image))
        start = row
    return found
