"""Reads sources ahead in a thread of its own, so that files and the network do not wait for each other."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from featherpose.errors import SourceError
from featherpose.media.frames import Frame, Source, Span
from featherpose.media.sources import SourceRef

__all__ = ["Reading", "ReadingOptions", "read_ahead"]

_AHEAD = 3  # frames; a frame of 1080p is 6 MB
_LARGE_BYTES = 64_000_000  # larger frames are read one at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How sources are read.

    Attributes:
        span: The part of each that is wanted.
        strict: Stop at the first thing that cannot be read.
        timeout_s: Patience with an address.
        max_pixels: Limit for one picture.
    """

    span: Span
    strict: bool
    timeout_s: float
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader has to say: a frame, the end of a source, or both absent and an error.

    Attributes:
        ref: The source it concerns.
        source: The source once it is open.
        frame: A frame, or None at the end of the source.
        error: Why the source could not be read (on).
        read_ms: Time that reading the frame took.
    """

    ref: SourceRef
    source: Source | None = None
    frame: Frame | None = None
    error: SourceError | None = None
    read_ms: float = 0.0


def read_ahead(refs: Sequence[SourceRef], options: ReadingOptions, stop: threading.Event) -> Iterator[Reading]:
    """All frames of all sources in order; each source ends with a `Reading` without a frame.

    Args:
        refs: The sources, opened one after the other when it is their turn.
        options: How they are read.
        stop: Set it to end early; a camera or a silent address cannot block the end.
    """
    ready: queue.Queue[Reading | BaseException | None] = queue.Queue(_AHEAD)

    def put(item: Reading | BaseException | None) -> None:
        large = isinstance(item, Reading) and item.frame is not None and item.frame.image.nbytes > _LARGE_BYTES
        while not stop.is_set():
            if large and not ready.empty():
                stop.wait(0.01)
                continue
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def read() -> None:
        try:
            for ref in refs:
                for reading in _read_one(ref, options):
                    put(reading)
                    if stop.is_set():
                        return
            put(None)
        except BaseException as error:  # handed to the thread that iterates
            put(error)

    # A daemon: a camera driver that hangs must not keep the process from ending.
    thread = threading.Thread(target=read, name="featherpose-reader", daemon=True)
    thread.start()
    try:
        while not stop.is_set():
            try:
                item = ready.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=2.0)


def _read_one(ref: SourceRef, options: ReadingOptions) -> Iterator[Reading]:
    source: Source | None = None
    try:
        started = perf_counter()
        source = ref.open(
            options.span, strict=options.strict, timeout_s=options.timeout_s, max_pixels=options.max_pixels
        )
        for frame in source:
            yield Reading(ref, source, frame, read_ms=1e3 * (perf_counter() - started))
            started = perf_counter()
        yield Reading(ref, source)
    except SourceError as error:
        if options.strict:
            raise
        yield Reading(ref, source, error=error)
    finally:
        if source is not None:
            source.close()
