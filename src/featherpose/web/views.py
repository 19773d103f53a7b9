"""Configured sources that any number of clients watch: one reader, one network run a frame, one drawing for all.

A source starts with its first viewer and stops soon after its last. Every viewer has room for one picture and one
message; who is slow misses some and holds nobody up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from featherpose.errors import FeatherposeError, SourceError
from featherpose.estimator import PoseEstimator, StageTimes
from featherpose.media.draw import DrawOptions, draw_poses
from featherpose.media.frames import Frame
from featherpose.media.sources import Source, SourceRef, find_sources
from featherpose.poses import Poses
from featherpose.stream import FrameResult, StreamOptions, process_stream
from featherpose.tracking import PoseSmoother, PoseTracker
from featherpose.web.dispatch import Dispatcher
from featherpose.web.messages import SourceRecord
from featherpose.web.poses import ERRORS
from featherpose.web.records import people_records, times_record
from featherpose.web.refusals import Refusal, error_record
from featherpose.web.service import PoseService, encode_jpeg
from featherpose.web.sessions import Closing, close_socket, hello_record, open_socket, send_json

__all__ = ["LiveSource", "SourceHub", "source_routes"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_BOUNDARY = "featherpose-frame"
# After the last viewer a source runs on for a moment: a page that is loaded again finds it running, ids and all.
_LINGER_S = 5.0
_FIRST_FRAME_S = 20.0


class _Slot(Generic[_T]):
    """Room for one value between a thread that puts and a coroutine that takes; a newer value replaces an older one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self._value: _T | None = None
        self._ended: FeatherposeError | Literal[False] | None = False

    def put(self, value: _T) -> None:
        """From any thread."""
        self._value = value
        self._loop.call_soon_threadsafe(self._event.set)

    def end(self, error: FeatherposeError | None) -> None:
        """No more will come; from any thread."""
        self._ended = error
        self._loop.call_soon_threadsafe(self._event.set)

    async def take(self) -> _T | None:
        """The newest value; None at the end.

        Raises:
            FeatherposeError: If the source ended by an error.
        """
        while True:
            value, self._value = self._value, None
            if value is not None:
                return value
            if self._ended is not False:
                if self._ended is not None:
                    raise self._ended
                return None
            self._event.clear()
            if self._value is None and self._ended is False:
                await self._event.wait()


@dataclass(frozen=True, slots=True)
class _Pending:
    future: Future[tuple[Poses, StageTimes]]

    def timed_result(self) -> tuple[Poses, StageTimes]:
        return self.future.result()


@dataclass(frozen=True, slots=True)
class _LiveEstimator:
    """The estimator behind the queue, as a stream sees it: sources take turns with everybody else."""

    estimator: PoseEstimator
    dispatcher: Dispatcher

    def submit(self, image: np.ndarray) -> _Pending:
        (future,) = self.dispatcher.submit("live", partial(self._run, image))
        return _Pending(future)

    def _run(self, image: np.ndarray, _waited_ms: float) -> tuple[Poses, StageTimes]:
        return self.estimator.timed(image)


class _Paced:
    """A video file at the speed it was taken at, as a camera would deliver it."""

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


class LiveSource:
    """One configured source.

    Args:
        name: Its name in addresses.
        ref: Where it comes from.
        service: The estimator.
        recorder: Called with each result, in the source's thread.
    """

    def __init__(
        self, name: str, ref: SourceRef, service: PoseService, recorder: Callable[[FrameResult], None] | None
    ) -> None:
        self.name = name
        self.kind: Literal["camera", "stream", "video"] = (
            "camera" if ref.camera is not None else "stream" if ref.url is not None else "video"
        )
        self._ref = ref
        self._service = service
        self._recorder = recorder
        self._lock = threading.Lock()
        self._pictures: list[_Slot[bytes]] = []
        self._messages: list[_Slot[str]] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._quiet_since: float | None = None

    @property
    def live(self) -> bool:
        """Whether it runs now."""
        return self._thread is not None and self._thread.is_alive()

    @asynccontextmanager
    async def watch(self, what: Literal["pictures", "messages"]) -> AsyncIterator[_Slot[Any]]:
        """Be a viewer; starts the source if it does not run."""
        slot: _Slot[Any] = _Slot(asyncio.get_running_loop())
        slots: list[Any] = self._pictures if what == "pictures" else self._messages
        with self._lock:
            slots.append(slot)
            self._quiet_since = None
            self._start()
        try:
            yield slot
        finally:
            with self._lock:
                slots.remove(slot)
                if not self._pictures and not self._messages:
                    self._quiet_since = time.monotonic()

    def start(self) -> None:
        """Run, with or without viewers."""
        with self._lock:
            self._start()

    def ask_to_stop(self) -> None:
        """End soon; viewers are told."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _start(self) -> None:
        if self._service.draining or (self.live and not self._stop.is_set()):
            return
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._stop,), name=f"featherpose-source-{self.name}", daemon=True
        )
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        error: FeatherposeError | None = None
        try:
            tracker, smoother = PoseTracker(), PoseSmoother()
            while not stop.is_set():
                self._play(tracker, smoother, stop)
                if self.kind != "video" or not self._service.options.loop_videos:
                    break
                tracker.reset()
                smoother.reset()
        except FeatherposeError as caught:
            _log.warning("source %s: %s", self.name, caught)
            error = caught
        except Exception as caught:
            self._service.metrics.internal_error()
            _log.error("source %s: internal error, please report it", self.name, exc_info=caught)
            error = SourceError("internal error of the server", hint="its log has the details")
        with self._lock:
            if self._stop is stop:  # else a newer run has the viewers
                self._stop.set()
                for picture in self._pictures:
                    picture.end(error)
                for message in self._messages:
                    message.end(error)

    def _play(self, tracker: PoseTracker, smoother: PoseSmoother, stop: threading.Event) -> None:
        service = self._service
        estimator = _LiveEstimator(service.estimator, service.dispatcher)
        options = StreamOptions(policy="newest", in_flight=2)
        with self._ref.open() as source:
            frames = _Paced(source, stop) if self.kind == "video" else source
            for result in process_stream(frames, estimator, tracker, smoother=smoother, options=options, stop=stop):
                if self._recorder is not None:
                    self._recorder(result)
                self._publish(result)
                self._stop_if_unwatched(stop)

    def _publish(self, result: FrameResult) -> None:
        with self._lock:
            pictures, messages = list(self._pictures), list(self._messages)
        if messages:
            text = json.dumps(_message(result))
            for slot in messages:
                slot.put(text)
        if pictures:
            draw_poses(result.frame.image, result.poses, DrawOptions(ids=True))
            jpeg = encode_jpeg(result.frame.image)
            for picture in pictures:
                picture.put(jpeg)

    def _stop_if_unwatched(self, stop: threading.Event) -> None:
        with self._lock:
            quiet = self._quiet_since
            if self._recorder is None and quiet is not None and time.monotonic() - quiet > _LINGER_S:
                stop.set()


def _message(result: FrameResult) -> dict[str, Any]:
    times = times_record(
        result.times, read=result.read_ms, queue=result.wait_ms, track=result.track_ms, total=result.age_ms
    )
    return {
        "type": "poses", "frame": result.frame.index, "timestamp_s": round(result.frame.timestamp_s, 6),
        "size": list(result.poses.image_size), "people": people_records(result.poses), "times_ms": times,
        "dropped": result.dropped,
    }  # fmt: skip


class SourceHub:
    """All configured sources.

    Args:
        service: The estimator and the options that name the sources.
        recorders: Functions that get each result of a source.

    Raises:
        SourceError: If a name leads to nothing or to several videos.
    """

    def __init__(self, service: PoseService, recorders: Mapping[str, Callable[[FrameResult], None]]) -> None:
        self._service = service
        self.viewers = 0
        self._sources: dict[str, LiveSource] = {}
        for name, address in service.options.sources.items():
            refs = find_sources(address)
            if len(refs) > 1 or refs[0].is_pictures:
                raise SourceError(f"{address} is no live source", expected="a camera number, an address or a video")
            self._sources[name] = LiveSource(name, refs[0], service, recorders.get(name))
        self._recorded = [self._sources[name] for name in recorders if name in self._sources]

    def __iter__(self) -> Iterator[LiveSource]:
        return iter(self._sources.values())

    def find(self, name: str) -> LiveSource:
        """A source by its name.

        Raises:
            Refusal: 404 if there is none.
        """
        if name not in self._sources:
            known = ", ".join(self._sources) or "none is configured"
            raise Refusal(404, f"there is no source {name[:80]!r}", expected=f"one of: {known}")
        return self._sources[name]

    def start(self) -> None:
        """Start the sources that are recorded."""
        for source in self._recorded:
            source.start()

    def ask_to_stop(self) -> None:
        """End all sources soon."""
        for source in self._sources.values():
            source.ask_to_stop()

    async def stop(self) -> None:
        """End all sources and their viewers."""
        self.ask_to_stop()
        for source in self._sources.values():
            await asyncio.to_thread(source.join, 5.0)

    @asynccontextmanager
    async def viewer(self) -> AsyncIterator[None]:
        """Count a viewer.

        Raises:
            Refusal: 503 if there are as many as may be.
        """
        if self.viewers >= self._service.limits.viewers:
            raise Refusal(503, f"{self.viewers} clients watch already", hint="come back later", retry_after_s=10)
        self.viewers += 1
        self._service.metrics.viewers.set(self.viewers)
        try:
            yield
        finally:
            self.viewers -= 1
            self._service.metrics.viewers.set(self.viewers)


def source_routes(service: PoseService, hub: SourceHub) -> APIRouter:
    """``/v1/sources``."""
    errors: dict[int | str, dict[str, Any]] = {status: ERRORS[status] for status in (401, 403, 405, 421, 422, 503)}
    router = APIRouter(tags=["sources"], responses=errors)

    @router.get("/v1/sources", operation_id="sources", summary="The configured sources")
    async def sources() -> list[SourceRecord]:
        return [SourceRecord(name=source.name, kind=source.kind, live=source.live) for source in hub]

    @router.get(
        "/v1/sources/{name}/view",
        operation_id="view",
        summary="Annotated live video",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "JPEG pictures without end; an <img> element shows them.",
                "content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}},
            },
            404: {**ERRORS[400], "description": "There is no such source."},
        },
    )
    async def view(name: str) -> StreamingResponse:
        source = hub.find(name)
        pictures = _pictures(service, hub, source)
        first = await anext(pictures)  # until then a status can still be chosen
        return StreamingResponse(
            _multipart(first, pictures), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        )

    @router.websocket("/v1/sources/{name}/poses")
    async def poses(socket: WebSocket, name: str) -> None:
        service.sockets += 1
        try:
            await _send_poses(socket, service, hub, name)
        except Closing as closing:
            await close_socket(socket, closing)
        except WebSocketDisconnect:
            pass
        finally:
            service.sockets -= 1

    return router


async def _pictures(service: PoseService, hub: SourceHub, source: LiveSource) -> AsyncIterator[bytes]:
    """JPEG pictures of a source, the first one within a time."""
    async with hub.viewer(), source.watch("pictures") as slot:
        patience_s = _FIRST_FRAME_S
        while not service.ended.is_set():
            try:
                async with asyncio.timeout(patience_s):
                    picture = await slot.take()
            except TimeoutError:
                raise _no_picture(source, "delivers no picture") from None
            except FeatherposeError as error:
                raise _no_picture(source, f"cannot be read: {error}") from error
            if picture is None:
                return
            yield picture
            patience_s = service.limits.idle_timeout_s


def _no_picture(source: LiveSource, what: str) -> Refusal:
    return Refusal(503, f"source {source.name} {what}", hint="come back later", retry_after_s=10)


async def _multipart(first: bytes, pictures: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield _part(first)
    try:
        async for picture in pictures:
            yield _part(picture)
    except Refusal as refusal:
        _log.debug("a view ends: %s", refusal)


def _part(jpeg: bytes) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"


async def _send_poses(socket: WebSocket, service: PoseService, hub: SourceHub, name: str) -> None:
    await open_socket(socket, service)
    try:
        source = hub.find(name)
    except Refusal as refusal:
        raise Closing(1008, refusal.given) from None
    patience_s = service.limits.idle_timeout_s
    try:
        async with hub.viewer(), source.watch("messages") as slot:
            await send_json(socket, hello_record(service), patience_s)
            leaving = asyncio.create_task(_wait_for_leave(socket))
            ending = asyncio.create_task(service.ended.wait())
            try:
                while True:
                    taking = asyncio.create_task(slot.take())
                    await asyncio.wait({taking, leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
                    if ending.done() or leaving.done():
                        taking.cancel()
                        await asyncio.gather(taking, return_exceptions=True)
                    if ending.done():
                        raise Closing(1001, "the server is about to end")
                    if leaving.done():
                        return
                    message = taking.result()
                    if message is None:
                        raise Closing(1000, "the source has ended")
                    await send_json(socket, message, patience_s)
            finally:
                leaving.cancel()
                ending.cancel()
                await asyncio.gather(leaving, ending, return_exceptions=True)
    except Refusal as refusal:
        raise Closing(1013, refusal.given) from None
    except FeatherposeError as error:
        await send_json(socket, {"type": "error", "frame": None, "error": error_record(error)}, patience_s)
        raise Closing(1011, "the source has failed") from None


async def _wait_for_leave(socket: WebSocket) -> None:
    """What a viewer says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
