"""``WS /v1/stream``: a client sends frames and receives all people in them, with ids of its own session.

One frame is in the network and one waits; a third replaces the waiting one, so a slow server answers fewer frames, not
older ones. Every frame is answered exactly once and in order: with poses, as dropped, or with an error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import struct
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from featherpose.errors import FeatherposeError, ModelError, SourceError
from featherpose.poses import Poses
from featherpose.server.http.errors import error_record
from featherpose.server.http.limits import ByteBudget
from featherpose.server.http.sockets import Closing, close_socket, hello_record, open_socket, send_json
from featherpose.server.http.uploads import decode_upload
from featherpose.server.routes.schemas import SessionMessage
from featherpose.server.routes.serialize import Thresholds, people_records, select_people, times_record
from featherpose.server.service import PoseService
from featherpose.tracking import Follower

__all__ = ["SessionFollower", "session_routes"]

_log = logging.getLogger(__name__)
# Unanswered frames before the session stops reading; the client's own socket then applies back pressure.
_MAX_UNANSWERED = 64
_MAX_TEXT = 4096
_TEXTS_A_SECOND = 60.0  # as often as a dragged slider moves
_HEADER = struct.Struct("<d")
# Longest step of a tracker's clock: no lost person is remembered for that long.
_MAX_STEP_S = 10.0


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    data: bytes
    received: float


class SessionFollower:
    """Tracker, smoother and thresholds of one client; used by one worker at a time."""

    def __init__(self) -> None:
        self.thresholds = Thresholds(min_keypoint_score=0.1, min_person_score=0.06)
        self._follower = Follower(max_step_s=_MAX_STEP_S)
        self._reset = False

    @property
    def smoothing(self) -> bool:
        """Return whether joints are smoothed."""
        return self._follower.smoothing

    @smoothing.setter
    def smoothing(self, smoothing: bool) -> None:
        self._follower.smoothing = smoothing

    def ask_reset(self) -> None:
        """Restart ids with the next frame."""
        self._reset = True

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Return ids, smoothing and thresholds for the next frame.

        A client's clock may jump; the tracker's moves on by what the client's moved, within reason.
        """
        if self._reset:
            self._reset = False
            self._follower.reset()
        return select_people(self._follower.update(poses, timestamp_s), self.thresholds)


class _Pace:
    """Rate limit: holds back messages, so that the client's own connection fills up."""

    def __init__(self, rate_hz: float, *, burst: float) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._left, self._at = burst, perf_counter()

    async def wait(self) -> None:
        """Wait until one more may come."""
        now = perf_counter()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate_hz) - 1
        self._at = now
        # Without any pause, messages that already wait would keep other clients from being served.
        await asyncio.sleep(max(0.0, -self._left / self._rate_hz))


class _Session:
    """Frames of one client: what waits, what was answered."""

    def __init__(self, service: PoseService, socket: WebSocket, budget: ByteBudget) -> None:
        self._service = service
        self._lease = budget.lease()
        self._socket = socket
        self._follower = SessionFollower()
        self._received = 0
        self._answered = 0
        self._waiting: _Frame | None = None
        self._working: _Frame | None = None
        self._changed = asyncio.Condition()
        self._stopping = False
        self._texts = _Pace(_TEXTS_A_SECOND, burst=2 * _TEXTS_A_SECOND)

    async def run(self) -> None:
        """Run until the client leaves, violates the protocol or the server ends.

        Raises:
            Closing: How the session is to be closed.
        """
        receiving = asyncio.create_task(self._receive())
        answering = asyncio.create_task(self._answer())
        ending = asyncio.ensure_future(self._service.ended.wait())
        waiting: set[asyncio.Future[Any]] = {receiving, answering, ending}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if ending.done() and not receiving.done() and not answering.done():
                receiving.cancel()
                async with self._changed:
                    self._stopping = True
                    self._changed.notify_all()
                await asyncio.wait({answering})
                if answering.exception() is None:
                    raise Closing(1001, "the server is about to end")
            for task in (receiving, answering):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for pending in waiting:
                pending.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            self._lease.release()

    async def _receive(self) -> None:
        """Read messages until `WebSocketDisconnect` or `Closing`."""
        idle_s = self._service.limits.idle_timeout_s
        last_frame = perf_counter()
        while True:
            async with self._changed:
                while self._received - self._answered >= _MAX_UNANSWERED:
                    await self._changed.wait()
                    last_frame = perf_counter()
            left_s = idle_s - (perf_counter() - last_frame)
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    message = await self._socket.receive()
            except TimeoutError:
                if self._answered < self._received:  # it waits for us
                    last_frame = perf_counter()
                    continue
                raise Closing(1008, f"no frame for {idle_s:g} s") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            data = message.get("bytes")
            if data is not None:
                last_frame = perf_counter()
                async with self._changed:
                    self._waiting = _Frame(self._received, data, last_frame)
                    self._received += 1
                    self._note_held()
                    self._changed.notify_all()
            else:
                await self._take_text(message.get("text") or "")
                await self._texts.wait()

    async def _take_text(self, text: str) -> None:
        try:
            if len(text) > _MAX_TEXT:
                raise SourceError(f"a text message of {len(text)} characters", expected=f"at most {_MAX_TEXT}")
            said = SessionMessage.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the message"
            await self._send(_error(None, SourceError(f"{place}: {first['msg']}", hint="see docs/reference/server.md")))
            return
        except SourceError as error:
            await self._send(_error(None, error))
            return
        follower = self._follower
        if said.type == "reset":
            follower.ask_reset()
            return
        old = follower.thresholds
        follower.thresholds = Thresholds(
            min_keypoint_score=old.min_keypoint_score if said.min_keypoint_score is None else said.min_keypoint_score,
            min_person_score=old.min_person_score if said.min_person_score is None else said.min_person_score,
        )
        if said.smoothing is not None:
            follower.smoothing = said.smoothing

    async def _answer(self) -> None:
        """Answer frames in order until asked to end with none waiting."""
        while True:
            async with self._changed:
                while self._waiting is None and not self._stopping:
                    await self._changed.wait()
                frame, self._waiting = self._waiting, None
                self._working = frame
                self._note_held()
            if frame is None:
                return
            for number in range(self._answered, frame.number):
                await self._send({"type": "dropped", "frame": number, "why": "late"})
                await self._count("dropped")
            outcome, message = await self._work(frame)
            self._working = None
            self._note_held()
            await self._send(message)
            await self._count(outcome)

    def _note_held(self) -> None:
        """Count the held frames; there was room for them when they arrived."""
        self._lease.set(sum(len(frame.data) for frame in (self._waiting, self._working) if frame is not None))

    async def _count(self, outcome: str) -> None:
        self._service.metrics.frame(outcome)
        async with self._changed:
            self._answered += 1
            self._changed.notify_all()

    async def _work(self, frame: _Frame) -> tuple[str, dict[str, Any] | str]:
        try:
            (future,) = self._service.dispatcher.submit("live", partial(self._follow, frame))
            return "poses", await asyncio.wrap_future(future)
        except FeatherposeError as error:
            if isinstance(error, ModelError):
                self._service.metrics.internal_error()
                _log.error("the engine failed: %s", error)
            return "error", _error(frame.number, error)
        except Exception as error:  # the session survives an internal error; the log has it
            self._service.metrics.internal_error()
            _log.error("internal error, please report it", exc_info=error)
            problem = SourceError("internal error of the server", hint="its log has the details")
            return "error", _error(frame.number, problem)

    def _follow(self, frame: _Frame, waited_ms: float) -> str:
        """Process one frame from bytes to message; runs in a worker."""
        service = self._service
        if len(frame.data) < _HEADER.size:
            raise SourceError(
                f"a frame of {len(frame.data)} bytes", expected="8 bytes of time, then an image (JPEG, PNG or WebP)"
            )
        (timestamp_s,) = _HEADER.unpack_from(frame.data)
        if not math.isfinite(timestamp_s) or abs(timestamp_s) > 1e12:
            raise SourceError("a frame whose time is not a number of seconds", expected="little-endian float64 seconds")
        started = perf_counter()
        image = decode_upload(frame.data[_HEADER.size :], "the frame", max_pixels=service.limits.pixels)
        read_ms = 1e3 * (perf_counter() - started)
        poses, times = service.estimator.timed(image)
        service.note_times(times, queue_ms=waited_ms, read_ms=read_ms)
        estimated = perf_counter()
        people = people_records(self._follower.update(poses, timestamp_s))
        now = perf_counter()
        spent = times_record(
            times, queue=waited_ms, read=read_ms, track=1e3 * (now - estimated), total=1e3 * (now - frame.received)
        )
        message = {
            "type": "poses", "frame": frame.number, "timestamp_s": timestamp_s,
            "size": [image.shape[1], image.shape[0]], "people": people, "times_ms": spent,
        }  # fmt: skip
        return json.dumps(message)

    async def _send(self, message: dict[str, Any] | str) -> None:
        await send_json(self._socket, message, self._service.limits.idle_timeout_s)


def session_routes(service: PoseService, budget: ByteBudget) -> APIRouter:
    """Return the route ``WS /v1/stream``."""
    router = APIRouter()
    sessions = 0

    @router.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        nonlocal sessions
        counted = False
        try:
            await open_socket(socket, service)
            if sessions >= service.limits.sessions:
                raise Closing(1013, f"{sessions} sessions are open already, come back later")
            sessions += 1
            counted = True
            service.sockets += 1
            service.metrics.sessions.set(sessions)
            await send_json(socket, hello_record(service), service.limits.idle_timeout_s)
            await _Session(service, socket, budget).run()
        except Closing as closing:
            await close_socket(socket, closing)
        except WebSocketDisconnect:
            pass
        finally:
            if counted:
                sessions -= 1
                service.sockets -= 1
                service.metrics.sessions.set(sessions)

    return router


def _error(number: int | None, error: FeatherposeError) -> dict[str, Any]:
    return {"type": "error", "frame": number, "error": error_record(error)}
