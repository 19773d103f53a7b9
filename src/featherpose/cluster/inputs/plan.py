"""The plan of a run: every unit once, in numbered shards, written down before it is worked on.

The plan only grows. A part is a Parquet file of up to 64 shards, one row group each; a shard keeps its number and its
units for ever, so its results have one name, and whoever computes them a second time replaces them by the same. A
rerun lists the sources again and appends what is new.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from featherpose.cluster.inputs.known import KnownKeys
from featherpose.cluster.inputs.units import Unit, UnitKind, from_columns, unit_schema
from featherpose.cluster.storage import Store
from featherpose.errors import StoreError

__all__ = ["Plan", "Shard", "Split", "read_shard"]

_FOLDER = "_work/plan"
_SHARDS_KEY = b"featherpose.shards"
_SHARDS_PER_PART = 64
_FIRST_UNITS, _MOST_UNITS = 16, 1024
_FLUSH_S = 10.0

Split = Callable[[Iterable[Unit]], Iterator[list[Unit]]]
"""Turns units into groups that belong together: an image alone, a video as its pieces."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Units whose results are committed together.

    Attributes:
        number: Its name, from 0.
        kind: ``image`` for many images, ``video`` for the pieces of one video.
        units: How many images or pieces.
        part: Name of the file of the plan that holds them.
        row_group: Where in this file.
    """

    number: int
    kind: UnitKind
    units: int
    part: str
    row_group: int


class Plan:
    """The plan of a run, which one thread extends while another takes shards from it.

    Args:
        store: The output.
        shard_units: Images in each shard; None begins with 16 and doubles every 64 shards up to 1,024.

    Attributes:
        units: Images and videos that are planned so far.
        complete: Whether every source has been listed.
    """

    def __init__(self, store: Store, *, shard_units: int | None = None) -> None:
        self._store = store
        self._shard_units = shard_units
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._parts = sorted(store.names(_FOLDER, ".parquet"))
        self._taken = 0
        self._open: list[Shard] = []
        self._next_shard = 0
        self.units = 0
        self.complete = False

    def start(self, units: Iterable[Unit], split: Split) -> None:
        """List the sources in a thread of its own and append what the plan does not hold.

        Args:
            units: The units of all sources; videos whole.
            split: Turns units into groups.
        """
        self._thread = threading.Thread(target=self._extend, args=(units, split), name="plan", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the listing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def take(self) -> Shard | None:
        """Return the next shard; None if none is known yet, or at the end (``complete``).

        Raises:
            FeatherposeError: What ended the listing.
        """
        while not self._open:
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if self._taken >= len(self._parts):
                    return None
                name = self._parts[self._taken]
                self._taken += 1
            self._open = list(_shards_of(self._store, name))
            self._open.reverse()
        return self._open.pop()

    @property
    def exhausted(self) -> bool:
        """Whether every shard was taken and none will follow."""
        with self._changed:
            return self.complete and not self._open and self._taken >= len(self._parts)

    def _extend(self, units: Iterable[Unit], split: Split) -> None:
        try:
            known = self._load()
            new = (unit for unit in units if not self._stop.is_set() and known.add(unit.key))
            self._append(split(new))
        except BaseException as error:  # raised again where a shard is asked for
            with self._changed:
                self._failure = error
        else:
            with self._changed:
                self.complete = not self._stop.is_set()

    def _load(self) -> KnownKeys:
        import pyarrow.parquet as pq

        known = KnownKeys()
        for name in list(self._parts):
            columns = self._store.use(
                name,
                lambda file: pq.read_table(file, columns=["shard", "uri", "kind", "member", "segment"]).to_pydict(),
            )
            if columns["shard"]:
                self._next_shard = max(self._next_shard, max(columns["shard"]) + 1)
            for uri, kind, member, segment in zip(
                columns["uri"], columns["kind"], columns["member"], columns["segment"], strict=True
            ):
                if segment == 0 and known.add(Unit(uri, kind, member).key):
                    self.units += 1
        return known

    def _append(self, groups: Iterator[list[Unit]]) -> None:
        shards: list[list[Unit]] = []
        images: list[Unit] = []
        flushed = time.monotonic()
        for group in groups:
            if group[0].kind == "video":
                shards.append(group)
            else:
                images += group
                if len(images) >= self._size(self._next_shard + len(shards)):
                    shards.append(images)
                    images = []
            if len(shards) >= _SHARDS_PER_PART or (shards and time.monotonic() - flushed > _FLUSH_S):
                self._write(shards)
                shards, flushed = [], time.monotonic()
            if self._stop.is_set():
                return
        if images:
            shards.append(images)
        if shards:
            self._write(shards)

    def _size(self, number: int) -> int:
        if self._shard_units is not None:
            return self._shard_units
        return int(min(_MOST_UNITS, _FIRST_UNITS << min(number // _SHARDS_PER_PART, 16)))

    def _write(self, shards: list[list[Unit]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = unit_schema()
        listed = [[self._next_shard + i, units[0].kind, len(units)] for i, units in enumerate(shards)]
        out = io.BytesIO()
        with pq.ParquetWriter(out, schema.with_metadata({_SHARDS_KEY: json.dumps(listed).encode()})) as writer:
            for (number, _, _), units in zip(listed, shards, strict=True):
                columns: list[list[Any]] = [
                    [number] * len(units),
                    *([getattr(unit, name) for unit in units] for name in schema.names[1:]),
                ]
                arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=len(units))
        name = f"{_FOLDER}/{len(self._parts):06d}.parquet"
        self._store.write(name, out.getvalue())
        with self._changed:
            self._parts.append(name)
            self._next_shard += len(shards)
            self.units += sum(1 if units[0].kind == "video" else len(units) for units in shards)


def _shards_of(store: Store, name: str) -> Iterator[Shard]:
    import pyarrow.parquet as pq

    metadata = store.use(name, lambda file: pq.ParquetFile(file).schema_arrow.metadata or {})
    if _SHARDS_KEY not in metadata:
        raise StoreError(f"{store.shown}/{name} is not a plan", hint="choose another output")
    for row_group, (number, kind, units) in enumerate(json.loads(metadata[_SHARDS_KEY])):
        yield Shard(int(number), kind, int(units), name, row_group)


def read_shard(store: Store, shard: Shard) -> list[Unit]:
    """Return the units of a shard.

    Raises:
        StoreError: If the store fails.
    """
    import pyarrow.parquet as pq

    table = store.use(shard.part, lambda file: pq.ParquetFile(file).read_row_group(shard.row_group))
    return from_columns(table.to_pydict())
