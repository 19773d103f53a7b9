"""How a run reads its sources: opened when it is their turn, and in the thread that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from featherpose.media.frames import Frame, Source, Span
from featherpose.media.sources import ReconnectOptions, SourceRef

__all__ = ["LateSource", "ReadingOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How sources are read.

    Attributes:
        span: The part of each that is wanted.
        strict: Stop at the first thing that cannot be read.
        timeout_s: Patience with an address.
        max_pixels: Limit for one picture.
        reconnect: How long a camera or an address that was lost is waited for.
    """

    span: Span
    strict: bool
    timeout_s: float
    max_pixels: int
    reconnect: ReconnectOptions


class LateSource:
    """A source that is opened by whoever iterates over it: an address that does not answer blocks only its reader.

    Attributes:
        ref: What is to be opened.
        source: The open source, None until then.
    """

    def __init__(self, ref: SourceRef, options: ReadingOptions) -> None:
        self.ref = ref
        self.source: Source | None = None
        self._options = options

    def __iter__(self) -> Iterator[Frame]:
        options = self._options
        self.source = self.ref.open(
            options.span,
            strict=options.strict,
            timeout_s=options.timeout_s,
            max_pixels=options.max_pixels,
            reconnect=options.reconnect,
        )
        try:
            yield from self.source
        finally:
            self.source.close()

    @property
    def live(self) -> bool:
        """Whether it is a camera or a live stream; known once it is open."""
        return self.source is not None and self.source.live

    @property
    def strict(self) -> bool:
        """Whether the run ends at the first thing that cannot be read."""
        return self._options.strict

    def close(self) -> None:
        """Release a source whose reader hangs."""
        if self.source is not None:
            self.source.close()
