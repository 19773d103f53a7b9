"""Reading ahead: one thread a source, a bounded queue, and a policy for frames that are not taken in time."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter

from featherpose.media.sources.source import Frame
from featherpose.stream.results import StreamOptions

__all__ = ["Captured", "Reader"]

_log = logging.getLogger(__name__)

_STOP_PATIENCE_S = 2.0
# Larger frames are read one at a time: three images of 200 megapixels would fill a small machine.
_LARGE_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame, the time at which the source delivered it, and the duration of reading."""

    frame: Frame
    at: float
    read_ms: float


class Reader:
    """One source, read ahead in a separate thread into a bounded queue.

    Args:
        source: Iterated over in the thread; its errors are raised by `take`.
        options: Policy and bounds.
        changed: Notified whenever there is something to take; its lock guards the queue.

    Attributes:
        dropped: Frames that were replaced by later ones.
    """

    def __init__(self, source: Iterable[Frame], options: StreamOptions, changed: threading.Condition) -> None:
        self.dropped = 0
        self._source = source
        self._policy = options.policy
        self._prefetch = options.prefetch
        self._changed = changed
        self._frames: deque[Captured] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._stop = False
        # A daemon: a camera driver that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._read, name="featherpose-stream-reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            frames = iter(self._source)
            try:
                self._pump(frames)
            finally:
                if isinstance(frames, Generator):
                    frames.close()
        except BaseException as caught:  # handed to the caller's thread
            error = caught
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _pump(self, frames: Iterator[Frame]) -> None:
        while not self._stop:
            started = perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            now = perf_counter()
            latest = self.latest
            limit = 1 if latest or frame.image.nbytes > _LARGE_BYTES else self._prefetch
            with self._changed:
                while not latest and len(self._frames) >= limit and not self._stop:
                    self._changed.wait()
                if len(self._frames) >= limit:
                    self._frames.popleft()
                    self.dropped += 1
                self._frames.append(Captured(frame, now, 1e3 * (now - started)))
                self._changed.notify_all()

    @property
    def live(self) -> bool:
        """Return the source's facts; a source that opens late has them only then."""
        return bool(getattr(self._source, "live", False))

    @property
    def latest(self) -> bool:
        """Return whether late frames are dropped."""
        return self._policy == "latest" or (self._policy == "auto" and self.live)

    @property
    def ready(self) -> bool:
        """Return whether `take` has something to return or to raise; called with the lock held."""
        return bool(self._frames) or (self._ended and self._error is not None)

    @property
    def done(self) -> bool:
        """Return whether everything was taken; called with the lock held."""
        return self._ended and not self._frames and self._error is None

    def take(self) -> Captured | BaseException:
        """Return the next frame, or raise the error the source ended with; with the lock held, when `ready`."""
        if self._frames:
            captured = self._frames.popleft()
            self._changed.notify_all()
            return captured
        error, self._error = self._error, None
        assert error is not None
        return error

    def ask_to_stop(self) -> None:
        """Stop reading."""
        with self._changed:
            self._stop = True
            self._frames.clear()
            self._changed.notify_all()

    def wait_until_stopped(self) -> None:
        """Wait for the thread briefly; close a source that does not respond."""
        self._thread.join(_STOP_PATIENCE_S / 2)
        close = getattr(self._source, "close", None)
        if self._thread.is_alive() and callable(close):
            with contextlib.suppress(Exception):  # a source that is being read may refuse
                close()
            self._thread.join(_STOP_PATIENCE_S / 2)
        if self._thread.is_alive():
            _log.warning("a source does not answer; its reader is left behind")
