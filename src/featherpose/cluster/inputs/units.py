"""What one unit of work is: an image, a member of a tar file, or a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from featherpose.cluster.storage import shown_uri

__all__ = ["Unit", "UnitKind", "from_columns", "unit_schema"]

UnitKind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class Unit:
    """One input, or a piece of a video.

    Attributes:
        uri: Where its bytes are: an absolute path or an address.
        kind: How it is read.
        member: Name inside a tar file; empty otherwise.
        offset: First byte in the file of ``uri``.
        size: Bytes from there; 0 for the whole file.
        segment: Number of the piece of a video, from 0.
        start_s: Where the piece begins, seconds; 0 for the beginning.
        end_s: Where it ends, seconds, excluded; 0 for the end.

    Example:
        >>> Unit("s3://archive/set-01.tar", "image", "0001.jpg", 512, 80_000).key
        's3://archive/set-01.tar!0001.jpg'
    """

    uri: str
    kind: UnitKind = "image"
    member: str = ""
    offset: int = 0
    size: int = 0
    segment: int = 0
    start_s: float = 0.0
    end_s: float = 0.0

    @property
    def key(self) -> str:
        """The name that tells it from every other unit, and the ``source`` of its results."""
        shown = shown_uri(self.uri)
        return f"{shown}!{self.member}" if self.member else shown


def unit_schema() -> Any:
    """Return the columns of the plan, as pyarrow takes them."""
    import pyarrow as pa

    return pa.schema(
        [
            ("shard", pa.int64()), ("uri", pa.string()), ("kind", pa.string()), ("member", pa.string()),
            ("offset", pa.int64()), ("size", pa.int64()), ("segment", pa.int32()), ("start_s", pa.float64()),
            ("end_s", pa.float64()),
        ]
    )  # fmt: skip


def from_columns(columns: dict[str, list[Any]]) -> list[Unit]:
    """Return the units of a table of the plan."""
    names = ("uri", "kind", "member", "offset", "size", "segment", "start_s", "end_s")
    return [Unit(*row) for row in zip(*(columns[name] for name in names), strict=True)]
