"""One configured source with any number of viewers: one reader, one inference a frame, one drawing for all.

It starts with its first viewer and stops soon after its last. If a camera or stream is lost meanwhile, it retries
without limit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np

from featherpose.augment.effects import FrameEffects
from featherpose.drawing.draw import DrawOptions, draw_poses
from featherpose.errors import FeatherposeError, SourceError
from featherpose.estimator import PoseEstimator, StageTimes
from featherpose.media.sources.find import ReconnectOptions, Source, SourceRef
from featherpose.media.sources.source import Frame
from featherpose.motion.live import LiveMotion
from featherpose.poses import Poses
from featherpose.server.dispatch import Dispatcher
from featherpose.server.latest_value import LatestValue
from featherpose.server.routes.serialize import people_records, times_record
from featherpose.server.service import PoseService, encode_jpeg
from featherpose.stream import FrameResult, StreamOptions, process_stream
from featherpose.tracking import PoseSmoother, PoseTracker

__all__ = ["EncodedImage", "SharedSource"]

_log = logging.getLogger(__name__)
# A source runs on briefly after its last viewer: a reloaded page finds it running, with the same ids.
_LINGER_S = 5.0
# Never give up: the source is stopped when its last viewer leaves.
_RECONNECT = ReconnectOptions(give_up_s=float("inf"))
_STOP_PATIENCE_S = 10.0
_PLAIN_LONG_SIDE_PX = 1280


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image of a source as JPEG, with the frame number that the message with its people carries."""

    frame: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class _Pending:
    future: Future[tuple[Poses, StageTimes]]

    def wait(self) -> None:
        """Wait until another frame may begin."""
        wait((self.future,))

    def timed_result(self) -> tuple[Poses, StageTimes]:
        return self.future.result()


@dataclass(frozen=True, slots=True)
class _LiveEstimator:
    """The estimator behind the queue, as a stream sees it: sources wait their turn like other clients."""

    estimator: PoseEstimator
    dispatcher: Dispatcher

    def submit(self, image: np.ndarray) -> _Pending:
        (future,) = self.dispatcher.submit("live", partial(self._run, image))
        return _Pending(future)

    def _run(self, image: np.ndarray, _waited_ms: float) -> tuple[Poses, StageTimes]:
        return self.estimator.timed(image)


class _Paced:
    """Deliver a video file at its own speed, as a camera would."""

    def __init__(self, source: Source, stop: threading.Event) -> None:
        self._source = source
        self._stop = stop

    def __iter__(self) -> Iterator[Frame]:
        started: float | None = None
        for frame in self._source:
            now = time.monotonic()
            started = now - frame.timestamp_s if started is None else started
            if self._stop.wait(max(0.0, started + frame.timestamp_s - now)):
                return
            yield frame

    def close(self) -> None:
        """End a wait when the server shuts down."""
        self._source.close()


class SharedSource:
    """A configured source with viewers.

    Args:
        name: Its name in addresses.
        ref: Where it comes from.
        service: The estimator.
        recorder: Called with each result, in the source's thread.

    Attributes:
        error: Why it ended, if it failed.
    """

    def __init__(
        self, name: str, ref: SourceRef, service: PoseService, recorder: Callable[[FrameResult], None] | None
    ) -> None:
        self.name = name
        self.kind: Literal["camera", "stream", "video"] = (
            "camera" if ref.camera is not None else "stream" if ref.url is not None else "video"
        )
        self.error: FeatherposeError | None = None
        self._ref = ref
        self._service = service
        self._recorder = recorder
        self._lock = threading.Lock()
        self._annotated: list[LatestValue[EncodedImage]] = []
        self._plain: list[LatestValue[EncodedImage]] = []
        self._messages: list[LatestValue[str]] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._leaving: asyncio.TimerHandle | None = None
        exercise = service.options.motion
        effects = service.options.effects
        self._effects = None if effects is None else FrameEffects(effects)
        self._shows_skeletons = effects is None or effects.scene is None
        self._motion = None if exercise is None else LiveMotion(exercise, service.estimator.skeleton)

    @property
    def live(self) -> bool:
        """Return whether it runs now."""
        return self._thread is not None and self._thread.is_alive()

    @asynccontextmanager
    async def watch(self, what: Literal["annotated", "plain", "messages"]) -> AsyncIterator[LatestValue[Any]]:
        """Become a viewer; starts the source if it does not run."""
        loop = asyncio.get_running_loop()
        slot: LatestValue[Any] = LatestValue(loop)
        kinds: dict[str, list[Any]] = {"annotated": self._annotated, "plain": self._plain, "messages": self._messages}
        slots = kinds[what]
        if self._leaving is not None:
            self._leaving.cancel()
        with self._lock:
            slots.append(slot)
            self._start()
        try:
            yield slot
        finally:
            with self._lock:
                slots.remove(slot)
            if not any(kinds.values()):
                self._leaving = loop.call_later(_LINGER_S, self._stop_unless_recorded)

    def start(self) -> None:
        """Run, with or without viewers."""
        with self._lock:
            self._start()

    def ask_to_stop(self) -> None:
        """Ask it to end; viewers are notified."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _start(self) -> None:
        if self._service.draining or (self.live and not self._stop.is_set()):
            return
        previous, self._stop = self._thread, threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop, previous), name=f"featherpose-source-{self.name}", daemon=True
        )
        self._thread.start()

    def _run(self, stop: threading.Event, previous: threading.Thread | None) -> None:
        error: FeatherposeError | None = None
        try:
            if previous is not None:
                previous.join(_STOP_PATIENCE_S)  # it may still hold the camera
            tracker, smoother = PoseTracker(), PoseSmoother()
            while not stop.is_set():
                self._play(tracker, smoother, stop)
                if self.kind != "video" or not self._service.options.loop_videos or self._recorder is not None:
                    break
                tracker.reset()
                smoother.reset()
                if self._motion is not None:
                    self._motion.reset()
        except FeatherposeError as caught:
            _log.warning("source %s: %s", self.name, caught)
            error = caught
        except Exception as caught:
            self._service.metrics.internal_error()
            _log.error("source %s: internal error, please report it", self.name, exc_info=caught)
            error = SourceError("internal error of the server", hint="its log has the details")
        self.error = error
        self._recorder = None  # a restart of the source needs viewers only
        with self._lock:
            if self._stop is stop:  # otherwise a newer run has the viewers
                self._stop.set()
                for encoded in [*self._annotated, *self._plain]:
                    encoded.end(error)
                for message in self._messages:
                    message.end(error)

    def _play(self, tracker: PoseTracker, smoother: PoseSmoother, stop: threading.Event) -> None:
        service = self._service
        estimator = _LiveEstimator(service.estimator, service.dispatcher)
        options = StreamOptions(policy="latest")
        with self._ref.open(reconnect=_RECONNECT) as source:
            if source.kind != "image":
                self.kind = source.kind  # an address may turn out to be a video
            frames = _Paced(source, stop) if self.kind == "video" else source
            frames_seen = 0
            for result in process_stream(frames, estimator, tracker, smoother=smoother, options=options, stop=stop):
                frames_seen += 1
                if not self._apply_effects(result):
                    continue
                if self._recorder is not None:
                    self._recorder(result)
                self._publish(result)
        if not frames_seen and not stop.is_set():
            raise SourceError(f"{self.name} delivers no image")

    def _apply_effects(self, result: FrameResult) -> bool:
        """Hide heads and draw the scene; False if that failed: nobody may see such an image."""
        if self._effects is None:
            return True
        try:
            self._effects.apply(result.frame.image, result.poses, result.frame.timestamp_s)
        except FeatherposeError:
            raise  # the scene does not fit the network's skeleton: no frame would do
        except Exception as error:
            self._service.metrics.internal_error()
            _log.error("source %s: frame %d is left out", self.name, result.frame.index, exc_info=error)
            return False
        return True

    def _publish(self, result: FrameResult) -> None:
        with self._lock:
            annotated, plain, messages = list(self._annotated), list(self._plain), list(self._messages)
        # Also while nobody watches: repetitions of a source that is recorded count from its beginning.
        motion = {} if self._motion is None else self._motion.update(result.poses, result.frame.timestamp_s)
        if messages:
            text = json.dumps(_message(result, motion))
            for slot in messages:
                slot.put(text)
        number, image = result.frame.index, result.frame.image
        if plain:
            encoded = EncodedImage(number, encode_jpeg(_shrunk(image)))
            for viewer in plain:
                viewer.put(encoded)
        if annotated:
            if self._shows_skeletons:
                draw_poses(image, result.poses, DrawOptions(ids=True))
            encoded = EncodedImage(number, encode_jpeg(image))
            for viewer in annotated:
                viewer.put(encoded)

    def _stop_unless_recorded(self) -> None:
        if self._recorder is None:
            self._stop.set()


def _shrunk(image: np.ndarray) -> np.ndarray:
    """Shrink an image that a page overlays with skeletons: no larger than a screen shows it."""
    scale = _PLAIN_LONG_SIDE_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _message(result: FrameResult, motion: dict[int, dict[str, Any]]) -> dict[str, Any]:
    times = times_record(
        result.stage_times, read=result.read_ms, queue=result.queue_ms, track=result.track_ms, total=result.latency_ms
    )
    people = people_records(result.poses)
    for person in people:
        if person["id"] in motion:
            person["motion"] = motion[person["id"]]
    return {
        "type": "poses", "frame": result.frame.index, "timestamp_s": round(result.frame.timestamp_s, 6),
        "size": list(result.poses.image_size), "people": people, "times_ms": times,
        "dropped": result.dropped,
    }  # fmt: skip
