"""Live sources that stall, end and come back: one source over many connections.

Order and time are kept: numbering continues, and the time without a connection counts.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from featherpose.errors import OptionError, SourceError
from featherpose.media.sources.network.connections import Connection
from featherpose.media.sources.source import Frame, Source, SourceKind, Span

__all__ = ["LiveClock", "LiveSource", "ReconnectOptions", "Reconnector"]

_log = logging.getLogger(__name__)
_C = TypeVar("_C", bound=Connection)

# A jump of the source's own clock beyond this means that it was reset or has wrapped around.
_JUMP_S = 10.0
# Two frames of one moment, as in a burst after a silence, are put this far apart.
_LEAST_STEP_S = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectOptions:
    """Retry schedule after a lost connection.

    Attributes:
        give_up_s: The source ends after this long without a connection; 0 ends it at once, ``inf`` never.
        first_wait_s: Wait before the first attempt; doubled after each failure.
        longest_wait_s: Upper bound of the wait. A connection that breaks sooner than this counts as a failed attempt.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> ReconnectOptions(give_up_s=-1)
        Traceback (most recent call last):
        featherpose.errors.OptionError: give_up_s is -1; expected seconds, 0 or more
    """

    give_up_s: float = 60.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.give_up_s >= 0:  # NaN is refused as well
            raise OptionError(f"give_up_s is {self.give_up_s:g}", expected="seconds, 0 or more")
        if not 0 < self.first_wait_s <= self.longest_wait_s < float("inf"):
            raise OptionError(
                f"first_wait_s is {self.first_wait_s:g} and longest_wait_s {self.longest_wait_s:g}",
                expected="seconds above 0, the first not above the second",
            )

    def waits(self) -> Iterator[float]:
        """Yield the seconds to wait before each attempt.

        Example:
            >>> from itertools import islice
            >>> list(islice(ReconnectOptions().waits(), 7))
            [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
        """
        wait_s = self.first_wait_s
        while True:
            yield wait_s
            wait_s = min(2 * wait_s, self.longest_wait_s)


class LiveClock:
    """Times of the frames of a live source, seconds since the first one; strictly increasing.

    The source's own clock is steadier than the times of arrival, so it is used while it runs; where there is none,
    where it jumps, and after `restart`, the time of arrival replaces it.
    """

    def __init__(self) -> None:
        self._started_s: float | None = None
        self._last_s = -1.0
        self._last_stamp_s: float | None = None
        self._offset_s = 0.0

    def restart(self) -> None:
        """Note that the next frame comes from a new connection, whose clock is unrelated to the old one's."""
        self._last_stamp_s = None

    def time_s(self, stamp_s: float | None, arrived_s: float) -> float:
        """Return the time of the next frame.

        Args:
            stamp_s: Time by the source's clock, None without one.
            arrived_s: Time of arrival on a monotonic clock (`time.monotonic`).

        Example:
            >>> clock = LiveClock()
            >>> [round(clock.time_s(stamp, arrived), 2) for stamp, arrived in ((7.0, 100.0), (7.04, 100.3))]
            [0.0, 0.04]
            >>> clock.restart()
            >>> round(clock.time_s(0.0, 105.0), 2)
            5.0
        """
        if self._started_s is None:
            self._started_s = arrived_s
        now_s = arrived_s - self._started_s
        if stamp_s is None:
            time_s = now_s
        else:
            previous = self._last_stamp_s
            if previous is None or not 0 < stamp_s - previous < _JUMP_S:
                self._offset_s = now_s - stamp_s
            time_s = stamp_s + self._offset_s
        self._last_stamp_s = stamp_s
        self._last_s = max(time_s, self._last_s + _LEAST_STEP_S) if self._last_s >= 0 else time_s
        return self._last_s


class Reconnector:
    """Waits for one lost source, with one line in the log for each loss and one for each return.

    Args:
        name: Name in the log lines.
        options: Retry schedule.
        closed: Set from anywhere to end a wait.
    """

    def __init__(self, name: str, options: ReconnectOptions, closed: threading.Event) -> None:
        self._name = name
        self._options = options
        self._closed = closed
        self._waits = options.waits()
        self._lost_s: float | None = None
        self._held_since_s = time.monotonic()

    def arrived(self) -> None:
        """Note that a frame has arrived."""
        if self._lost_s is not None:
            self._held_since_s = time.monotonic()
            _log.warning("%s is back after %.1f s", self._name, self._held_since_s - self._lost_s)
            self._lost_s = None

    def again(self, lost: SourceError, frames: int, connect: Callable[[], _C]) -> _C | None:
        """Retry until the connection is back; a connection that brings no frame continues the same loss.

        Args:
            lost: Why it was lost.
            frames: How many frames had come.
            connect: Opens a connection, or raises a SourceError.

        Returns:
            The new connection; None if the time is up or the source was closed.
        """
        options = self._options
        if options.give_up_s == 0 or self._closed.is_set():
            return None
        if self._lost_s is None:
            self._lost_s = time.monotonic()
            if self._lost_s - self._held_since_s > options.longest_wait_s:
                self._waits = options.waits()  # it held: start with short waits again
            limit = "" if options.give_up_s == float("inf") else f" for {options.give_up_s:g} s"
            _log.warning(
                "%s was lost after %d frames (%s); trying to reach it again%s", self._name, frames, lost.given, limit
            )
        for wait_s in self._waits:
            left_s = options.give_up_s - (time.monotonic() - self._lost_s)
            if left_s <= 0 or self._closed.wait(min(wait_s, left_s)):
                break
            try:
                connection = connect()
            except SourceError as error:
                _log.debug("%s: %s", self._name, error)
                continue
            if not self._closed.is_set():
                return connection
            connection.close()
        return None

    def given_up(self, lost: SourceError, frames: int) -> SourceError:
        """Return the error for a source that did not come back."""
        limit_s = self._options.give_up_s
        return SourceError(
            f"{self._name} was lost after {frames} frames ({lost.given})"
            + (f" and did not come back within {limit_s:g} s" if limit_s else ""),
            hint="check the cable and the network",
        )


class LiveSource(Source):
    """A camera or a live stream that reconnects after a loss.

    Args:
        name: Name for people.
        kind: ``camera`` or ``stream``.
        span: Seconds count from the first frame.
        shown: What messages call it, if not by its name.
        options: Retry schedule.
        strict: Raise when it does not come back, instead of noting that in ``errors``.

    Raises:
        SourceError: If it cannot be opened at all.
    """

    def __init__(
        self,
        name: str,
        kind: SourceKind,
        *,
        span: Span,
        shown: str | None = None,
        options: ReconnectOptions | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__(name, kind, strict=strict)
        self._shown = shown or name
        self._span = span
        self._options = options or ReconnectOptions()
        self._closed = threading.Event()
        self._connection: Connection | None = self._connect()
        self.size = self._connection.size
        rate_hz = self._connection.rate_hz
        self.fps = None if rate_hz is None else rate_hz / span.frame_step

    @abstractmethod
    def _connect(self) -> Connection:
        """Open the source.

        Raises:
            SourceError: If it is not there.
        """

    def __iter__(self) -> Iterator[Frame]:
        if self._closed.is_set():
            return
        clock, reconnector, span = LiveClock(), Reconnector(self._shown, self._options, self._closed), self._span
        connection: Connection | None = self._connection or self._connect()
        index = -1
        while connection is not None:
            self._connection = connection
            try:
                while True:
                    stamp_s = connection.grab()
                    time_s = clock.time_s(stamp_s, time.monotonic())
                    reconnector.arrived()
                    index += 1
                    if span.end_s is not None and time_s >= span.end_s:
                        return
                    if time_s < (span.start_s or 0) or index % span.frame_step:
                        continue
                    image = connection.image()
                    if image is not None:
                        self.size = (image.shape[1], image.shape[0])
                        yield Frame(image, index, time_s, self.name)
            except SourceError as error:
                lost = error
            finally:
                connection.close()
                self._connection = None
            if index < 0 and not self._closed.is_set():
                raise SourceError(f"{self._shown} delivers no image ({lost.given})", hint="check cable and address")
            connection = reconnector.again(lost, index + 1, self._connect)
            clock.restart()
        if not self._closed.is_set():
            self._report(reconnector.given_up(lost, index + 1))

    def close(self) -> None:
        """Release it; a reader in another thread ends after its current read."""
        self._closed.set()
        connection = self._connection
        if connection is not None:
            connection.close()
