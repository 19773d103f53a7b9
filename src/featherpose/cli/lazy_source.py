"""Sources that are opened when it is their turn, in the thread that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from featherpose.media.sources.find import ReconnectOptions, SourceRef
from featherpose.media.sources.source import Frame, Source, Span

__all__ = ["LazySource", "ReadingOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """Options of reading sources.

    Attributes:
        span: The part of each that is wanted.
        strict: Stop at the first read error.
        timeout_s: Longest silence of an address, seconds.
        max_pixels: Limit for one image.
        reconnect: Retry schedule after a lost connection.
    """

    span: Span
    strict: bool
    timeout_s: float
    max_pixels: int
    reconnect: ReconnectOptions


class LazySource:
    """A source that is opened by the thread that iterates over it: a dead address blocks only its reader.

    Args:
        ref: The source to open.
        options: Options of reading.
        first_image: Skip this many image files, unread; a multiple of ``frame_step``.
        skip: Frames that an earlier run finished, by the frame and how many came before it; they are left out.

    Attributes:
        ref: The source to open.
        source: The open source, None until then.
        first_s: Time of the first frame, left out or not.
        skipped: Frames left out.
    """

    def __init__(
        self,
        ref: SourceRef,
        options: ReadingOptions,
        *,
        first_image: int = 0,
        skip: Callable[[Frame, int], bool] | None = None,
    ) -> None:
        self.ref = ref
        self.source: Source | None = None
        self.first_s = 0.0
        self.skipped = first_image
        self._first_image = first_image
        self._options = options
        self._skip = skip

    def __iter__(self) -> Iterator[Frame]:
        frames = self._frames()
        if self._skip is None:
            yield from frames
            return
        for count, frame in enumerate(frames):
            if count == 0:
                self.first_s = frame.timestamp_s
            if self._skip(frame, count):
                self.skipped += 1
            else:
                yield frame

    def _frames(self) -> Iterator[Frame]:
        options = self._options
        first = self._first_image
        ref = replace(self.ref, paths=self.ref.paths[first:]) if first else self.ref
        self.source = ref.open(
            options.span,
            strict=options.strict,
            timeout_s=options.timeout_s,
            max_pixels=options.max_pixels,
            reconnect=options.reconnect,
        )
        try:
            if first:
                yield from (replace(frame, index=frame.index + first) for frame in self.source)
            else:
                yield from self.source
        finally:
            self.source.close()

    @property
    def live(self) -> bool:
        """Return whether it is a camera or a live stream; known once it is open."""
        return self.source is not None and self.source.live

    @property
    def strict(self) -> bool:
        """Return whether the run ends at the first read error."""
        return self._options.strict

    def close(self) -> None:
        """Release a source whose reader hangs."""
        if self.source is not None:
            self.source.close()
