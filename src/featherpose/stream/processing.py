"""The loop that keeps an estimator busy with the frames of its sources."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np

from featherpose.errors import OptionError
from featherpose.estimator import StageTimes
from featherpose.media.sources.source import Frame
from featherpose.poses import Poses
from featherpose.stream.reading import Captured, Reader
from featherpose.stream.results import FrameResult, StreamOptions
from featherpose.tracking import Follower, PoseSmoother, PoseTracker, warm_up

__all__ = ["Estimator", "process_stream", "process_streams"]

_STOP_POLL_S = 0.1
# Two in the engine, of which one waits with its input in place, and one being decoded.
_IN_FLIGHT = 3


class _Pending(Protocol):
    def timed_result(self) -> tuple[Poses, StageTimes]: ...


@runtime_checkable
class _Waitable(Protocol):
    """A pending result with a `wait` for its network, so that the next frame can be chosen late."""

    def wait(self) -> None: ...


class Estimator(Protocol):
    """The part of a `featherpose.estimator.PoseEstimator` that a stream uses."""

    def submit(self, image: np.ndarray) -> _Pending:
        """Start an image and return while its network runs."""
        ...


@dataclass(slots=True)
class _Begun:
    """A frame that was submitted to the estimator."""

    source: int
    captured: Captured
    queue_ms: float
    pending: _Pending
    network_done: bool = False

    def wait_for_network(self) -> bool:
        """Wait until the engine is free for another frame; return False if that is unknown, or was so before."""
        if self.network_done or not isinstance(self.pending, _Waitable):
            return False
        self.pending.wait()
        self.network_done = True
        return True


def process_stream(
    source: Iterable[Frame],
    estimator: Estimator,
    tracker: PoseTracker | None = None,
    *,
    smoother: PoseSmoother | bool | None = None,
    options: StreamOptions | None = None,
    stop: threading.Event | None = None,
) -> Iterator[FrameResult]:
    """Find everyone in the frames of a source, in order.

    Args:
        source: An open source (`featherpose.media.sources.find.open_source`), or any frames.
        estimator: A `featherpose.estimator.PoseEstimator`; it may serve other streams at the same time.
        tracker: Assigns ids; None for none. Not shared with other streams.
        smoother: Smooths joints by these ids; True with default options, False not at all. None smooths if there is a
            tracker and the source is live.
        options: Policy and bounds; those that suit the source unless given.
        stop: Set it from any thread to end after the frames in flight, even while the source is silent.

    Yields:
        One `FrameResult` a frame. Ending the loop early, or closing the iterator, stops reading and inference.

    Raises:
        SourceError: As the source does, after the results of the frames before.
        ModelError: If the engine failed.
        OptionError: If smoothing is asked for without a tracker.

    Example:
        >>> from featherpose.media.sources.find import open_source
        >>> from featherpose.estimator import PoseEstimator
        >>> def people_in(video: str) -> int:
        ...     with open_source(video) as source, PoseEstimator() as estimator:
        ...         tracker = PoseTracker()
        ...         for result in process_stream(source, estimator, tracker):
        ...             print(result.frame.index, result.poses.track_ids, f"{result.latency_ms:.0f} ms")
        ...         return tracker.count
    """
    return process_streams([source], estimator, [tracker], smoothers=[smoother], options=options, stop=stop)


def process_streams(
    sources: Sequence[Iterable[Frame]],
    estimator: Estimator,
    trackers: Sequence[PoseTracker | None] | None = None,
    *,
    smoothers: Sequence[PoseSmoother | bool | None] | None = None,
    options: StreamOptions | None = None,
    stop: threading.Event | None = None,
) -> Iterator[FrameResult]:
    """Process several sources with one estimator: sources take turns; each keeps its own order and tracker.

    Args:
        sources: Open sources.
        estimator: Shared by all.
        trackers: One for each source, or None where there is none.
        smoothers: Likewise.
        options: Policy and bounds.
        stop: Set it to end after the frames in flight.

    Yields:
        Results in the order of their turns; ``FrameResult.source_index`` names the source.

    Raises:
        OptionError: If the numbers of sources, trackers and smoothers differ, or a smoother has no tracker.
    """
    trackers = [None] * len(sources) if trackers is None else trackers
    smoothers = [None] * len(sources) if smoothers is None else smoothers
    if not len(sources) == len(trackers) == len(smoothers):
        raise OptionError(
            f"{len(sources)} sources, {len(trackers)} trackers and {len(smoothers)} smoothers",
            expected="one tracker and one smoother, or None, for each source",
        )
    if any(s not in (None, False) and t is None for s, t in zip(smoothers, trackers, strict=True)):
        raise OptionError("a smoother without a tracker", hint="give the stream a PoseTracker as well")
    followers = [
        _Following(source, tracker, smoother)
        for source, tracker, smoother in zip(sources, trackers, smoothers, strict=True)
    ]
    return _run(sources, estimator, followers, options or StreamOptions(), stop or threading.Event())


class _Following:
    """Tracking of one source; decided at its first frame, when a source that opens late is known."""

    def __init__(
        self, source: Iterable[Frame], tracker: PoseTracker | None, smoother: PoseSmoother | bool | None
    ) -> None:
        self._source = source
        self._smoother = smoother
        self.tracker = tracker
        self._follower: Follower | None = None

    def __call__(self, poses: Poses, timestamp_s: float) -> Poses:
        if self.tracker is None:
            return poses
        if self._follower is None:
            wish = getattr(self._source, "live", False) if self._smoother is None else self._smoother
            own = self._smoother if isinstance(self._smoother, PoseSmoother) else None
            self._follower = Follower(self.tracker, own, smoothing=wish is not False)
        return self._follower.update(poses, timestamp_s)


def _run(
    sources: Sequence[Iterable[Frame]],
    estimator: Estimator,
    followers: Sequence[_Following],
    options: StreamOptions,
    stop: threading.Event,
) -> Iterator[FrameResult]:
    changed = threading.Condition()
    begun: deque[_Begun] = deque()
    readers: list[Reader] = []
    failure: BaseException | None = None
    turn = 0
    if any(follower.tracker is not None for follower in followers):
        warm_up()  # otherwise the first people would wait for the compiler, and a live source's frames with them
    try:
        readers.extend(Reader(source, options, changed) for source in sources)
        while True:
            taken: Captured | BaseException | None = None
            with changed:
                # Wait only when there is nothing to finish meanwhile.
                while failure is None and not begun and not any(r.ready for r in readers):
                    if stop.is_set() or all(r.done for r in readers):
                        return
                    changed.wait(_STOP_POLL_S)
                if failure is None and not stop.is_set():
                    order = [(turn + i) % len(readers) for i in range(len(readers))]
                    chosen = next(
                        (i for i in order if readers[i].ready and _has_room(begun, readers[i], options)), None
                    )
                    if chosen is not None:
                        taken = readers[chosen].take()
                        turn = chosen + 1
            if isinstance(taken, BaseException):
                failure = taken
            elif taken is not None:
                assert chosen is not None
                queue_ms = 1e3 * (perf_counter() - taken.at)
                begun.append(_Begun(chosen, taken, queue_ms, estimator.submit(taken.frame.image)))
            elif begun and readers[begun[0].source].latest and begun[0].wait_for_network():
                continue  # check once more for a frame before this one is decoded
            elif begun:
                oldest = begun.popleft()
                captured = oldest.captured
                poses, times = oldest.pending.timed_result()
                decoded = perf_counter()
                poses = followers[oldest.source](poses, captured.frame.timestamp_s)
                now = perf_counter()
                yield FrameResult(
                    captured.frame, poses, oldest.source, readers[oldest.source].dropped, captured.read_ms,
                    oldest.queue_ms, times, 1e3 * (now - decoded), 1e3 * (now - captured.at),
                )  # fmt: skip
            elif failure is not None:
                raise failure
            elif stop.is_set():
                return
    finally:
        for reader in readers:
            reader.ask_to_stop()
        for frame in begun:
            with contextlib.suppress(Exception):  # the engine's requests are free again when it has answered
                frame.pending.timed_result()
        for reader in readers:
            reader.wait_until_stopped()


def _has_room(begun: deque[_Begun], reader: Reader, options: StreamOptions) -> bool:
    """Return whether another frame of this source may be submitted now."""
    if reader.latest:
        return sum(not frame.network_done for frame in begun) < (options.in_flight or 1)
    return len(begun) < (options.in_flight or _IN_FLIGHT)
