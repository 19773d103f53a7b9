"""Frames in, people out, in order, while reading, inference and the caller's own work overlap.

    source ── reader thread ── bounded queue ── network requests in flight ── decoder, tracker ── your loop

One thread a source reads ahead; several inferences run in the engine; decoding, tracking and whatever the caller does
with a result happen in the caller's thread meanwhile. Nothing grows: a source that is faster than the machine waits
(`every`) or loses its oldest frames (`newest`).

Under `newest` a frame is chosen as late as possible: when the network can begin with it at once. While it runs, the
frame before is decoded, tracked and used, and the frames that come meanwhile replace each other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np

from featherpose.errors import OptionError
from featherpose.estimator import StageTimes
from featherpose.media.frames import Frame
from featherpose.poses import Poses
from featherpose.tracking import PoseSmoother, PoseTracker, warm_up

__all__ = ["FrameResult", "StreamOptions", "StreamPolicy", "process_stream", "process_streams"]

_log = logging.getLogger(__name__)

StreamPolicy = Literal["auto", "every", "newest"]
_STOP_PATIENCE_S = 2.0
_STOP_POLL_S = 0.1
# Larger frames are read one at a time: three pictures of 200 megapixels would fill a small machine.
_LARGE_BYTES = 64_000_000
# Two in the engine, of which one waits with its input in place, and one being decoded.
_IN_FLIGHT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How frames are taken from a source.

    Attributes:
        policy: ``every`` frame, for files; ``newest`` for live: what is late is dropped and counted; ``auto`` is
            ``newest`` for cameras and live streams (``source.live``), ``every`` for all others.
        in_flight: Under ``every``, frames begun and not yet decoded; an engine that runs several side by side is kept
            busy by two more than these (`EngineOptions.requests`), and results come later. Under ``newest``, networks
            that run at once. None is 3 and 1.
        ahead: Frames read ahead of each source under ``every``; a frame of 1080p takes 6 MB.

    Raises:
        OptionError: If a value is outside its range.
    """

    policy: StreamPolicy = "auto"
    in_flight: int | None = None
    ahead: int = 3

    def __post_init__(self) -> None:
        if self.policy not in get_args(StreamPolicy):
            raise OptionError(f"policy {self.policy!r}", expected="auto, every or newest")
        if (self.in_flight is not None and not 1 <= self.in_flight <= 64) or not 1 <= self.ahead <= 1024:
            raise OptionError(
                f"{self.in_flight} in flight, {self.ahead} ahead", expected="1 to 64 in flight and 1 to 1024 ahead"
            )


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """Everyone in one frame, and what it took.

    Attributes:
        frame: The frame itself.
        poses: The people, with ids if there is a tracker.
        source: Which of several sources it came from, from 0.
        dropped: Frames of this source dropped so far because they were late.
        read_ms: Time spent reading and decompressing the frame.
        wait_ms: Time it waited, read but not begun.
        times: Time of preparation, network and decoding; the network's includes waiting for its turn.
        track_ms: Time of tracking and smoothing.
        age_ms: Time from capture (the moment the source delivered the frame) to this result.
    """

    frame: Frame
    poses: Poses
    source: int
    dropped: int
    read_ms: float
    wait_ms: float
    times: StageTimes
    track_ms: float
    age_ms: float


class _Pending(Protocol):
    def timed_result(self) -> tuple[Poses, StageTimes]: ...


@runtime_checkable
class _Waitable(Protocol):
    """A pending result that says when its network is done, so that the next frame can be chosen late."""

    def wait(self) -> None: ...


class Estimator(Protocol):
    """What a stream needs of a `featherpose.estimator.PoseEstimator`."""

    def submit(self, image: np.ndarray) -> _Pending:
        """Start a picture and return while its network runs."""
        ...


@dataclass(frozen=True, slots=True)
class _Captured:
    frame: Frame
    at: float
    read_ms: float


@dataclass(slots=True)
class _Begun:
    """A frame that was given to the estimator."""

    source: int
    captured: _Captured
    wait_ms: float
    pending: _Pending
    network_done: bool = False

    def wait_for_network(self) -> bool:
        """Wait until the engine is free for another frame; False if that cannot be told, or was before."""
        if self.network_done or not isinstance(self.pending, _Waitable):
            return False
        self.pending.wait()
        self.network_done = True
        return True


class _Reader:
    """One source, read ahead in a thread of its own into a bounded queue."""

    def __init__(self, source: Iterable[Frame], options: StreamOptions, changed: threading.Condition) -> None:
        self.dropped = 0
        self._source = source
        self._policy = options.policy
        self._ahead = options.ahead
        self._changed = changed
        self._frames: deque[_Captured] = deque()
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
            newest = self.newest
            limit = 1 if newest or frame.image.nbytes > _LARGE_BYTES else self._ahead
            with self._changed:
                while not newest and len(self._frames) >= limit and not self._stop:
                    self._changed.wait()
                if len(self._frames) >= limit:
                    self._frames.popleft()
                    self.dropped += 1
                self._frames.append(_Captured(frame, now, 1e3 * (now - started)))
                self._changed.notify_all()

    @property
    def live(self) -> bool:
        """What the source says of itself; a source that opens late knows only then."""
        return bool(getattr(self._source, "live", False))

    @property
    def newest(self) -> bool:
        """Whether late frames are dropped."""
        return self._policy == "newest" or (self._policy == "auto" and self.live)

    @property
    def ready(self) -> bool:
        """Whether `take` has something to give or to raise; asked with the lock held."""
        return bool(self._frames) or (self._ended and self._error is not None)

    @property
    def done(self) -> bool:
        """Whether everything was taken; asked with the lock held."""
        return self._ended and not self._frames and self._error is None

    def take(self) -> _Captured | BaseException:
        """The next frame, or the error the source ended with; with the lock held, when `ready`."""
        if self._frames:
            captured = self._frames.popleft()
            self._changed.notify_all()
            return captured
        error, self._error = self._error, None
        assert error is not None
        return error

    def ask_to_stop(self) -> None:
        with self._changed:
            self._stop = True
            self._frames.clear()
            self._changed.notify_all()

    def wait_until_stopped(self) -> None:
        self._thread.join(_STOP_PATIENCE_S / 2)
        close = getattr(self._source, "close", None)
        if self._thread.is_alive() and callable(close):
            with contextlib.suppress(Exception):  # a source that is being read may refuse
                close()
            self._thread.join(_STOP_PATIENCE_S / 2)
        if self._thread.is_alive():
            _log.warning("a source does not answer; its reader is left behind")


def process_stream(
    source: Iterable[Frame],
    estimator: Estimator,
    tracker: PoseTracker | None = None,
    *,
    smoother: PoseSmoother | bool | None = None,
    options: StreamOptions | None = None,
    stop: threading.Event | None = None,
) -> Iterator[FrameResult]:
    """Everyone in the frames of a source, in order.

    Args:
        source: An open source (`featherpose.media.sources.open_source`), or any frames.
        estimator: A `featherpose.estimator.PoseEstimator`; it may serve other streams at the same time.
        tracker: Gives ids; None for none. Belongs to this stream alone.
        smoother: Smooths joints by these ids; True with the usual setting, False not at all. None smooths if there is
            a tracker and the source is live.
        options: Policy and bounds; those that suit the source unless given.
        stop: Set it, from anywhere, to end after the frames that are under way, even while the source is silent.

    Yields:
        One `FrameResult` a frame. Ending the loop early, or closing the iterator, stops reading and inference.

    Raises:
        SourceError: As the source does, after the results of the frames before.
        ModelError: If the engine failed.
        OptionError: If smoothing is asked for without a tracker.

    Example:
        >>> from featherpose.media.sources import open_source
        >>> from featherpose.estimator import PoseEstimator
        >>> def people_in(video: str) -> int:
        ...     with open_source(video) as source, PoseEstimator() as estimator:
        ...         tracker = PoseTracker()
        ...         for result in process_stream(source, estimator, tracker):
        ...             print(result.frame.index, result.poses.track_ids, f"{result.age_ms:.0f} ms")
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
    """Several sources through one estimator: those that have a frame take turns; each keeps its own order and tracker.

    Args:
        sources: Open sources.
        estimator: Shared by all.
        trackers: One for each source, or None where there is none.
        smoothers: Likewise.
        options: Policy and bounds.
        stop: Set it to end after the frames that are under way.

    Yields:
        Results in the order of their turns; ``FrameResult.source`` says whose.

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
        _Follower(source, tracker, smoother)
        for source, tracker, smoother in zip(sources, trackers, smoothers, strict=True)
    ]
    return _run(sources, estimator, followers, options or StreamOptions(), stop or threading.Event())


class _Follower:
    """Tracker and smoother of one source."""

    def __init__(
        self, source: Iterable[Frame], tracker: PoseTracker | None, smoother: PoseSmoother | bool | None
    ) -> None:
        self._source = source
        self.tracker = tracker
        self._smoother: PoseSmoother | bool | None = PoseSmoother() if smoother is True else smoother
        self._last_s = -float("inf")

    def __call__(self, poses: Poses, timestamp_s: float) -> Poses:
        if self.tracker is None:
            return poses
        if self._smoother is None:  # a source that opens late knows what it is by now
            self._smoother = PoseSmoother() if getattr(self._source, "live", False) else False
        smoother = self._smoother if isinstance(self._smoother, PoseSmoother) else None
        if timestamp_s < self._last_s:
            _log.warning(
                "the time of the source went back from %.3f s to %.3f s: ids start anew", self._last_s, timestamp_s
            )
            self.tracker.reset()
            if smoother is not None:
                smoother.reset()
        self._last_s = timestamp_s
        poses = self.tracker.update(poses, timestamp_s)
        return poses if smoother is None else smoother.update(poses, timestamp_s)


def _run(
    sources: Sequence[Iterable[Frame]],
    estimator: Estimator,
    followers: Sequence[_Follower],
    options: StreamOptions,
    stop: threading.Event,
) -> Iterator[FrameResult]:
    changed = threading.Condition()
    begun: deque[_Begun] = deque()
    readers: list[_Reader] = []
    failure: BaseException | None = None
    turn = 0
    if any(follower.tracker is not None for follower in followers):
        warm_up()  # or the first people would wait for a compiler, and a live source's frames with them
    try:
        readers.extend(_Reader(source, options, changed) for source in sources)
        while True:
            taken: _Captured | BaseException | None = None
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
                wait_ms = 1e3 * (perf_counter() - taken.at)
                begun.append(_Begun(chosen, taken, wait_ms, estimator.submit(taken.frame.image)))
            elif begun and readers[begun[0].source].newest and begun[0].wait_for_network():
                continue  # look once more for a frame before this one is decoded
            elif begun:
                oldest = begun.popleft()
                captured = oldest.captured
                poses, times = oldest.pending.timed_result()
                decoded = perf_counter()
                poses = followers[oldest.source](poses, captured.frame.timestamp_s)
                now = perf_counter()
                yield FrameResult(
                    captured.frame, poses, oldest.source, readers[oldest.source].dropped, captured.read_ms,
                    oldest.wait_ms, times, 1e3 * (now - decoded), 1e3 * (now - captured.at),
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


def _has_room(begun: deque[_Begun], reader: _Reader, options: StreamOptions) -> bool:
    """Whether another frame of this source may be begun now."""
    if reader.newest:
        return sum(not frame.network_done for frame in begun) < (options.in_flight or 1)
    return len(begun) < (options.in_flight or _IN_FLIGHT)
