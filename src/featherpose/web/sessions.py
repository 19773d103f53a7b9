"""``WS /v1/stream``: a client sends frames and gets everyone in them, with ids of its own.

One frame is in the network and one waits; a third replaces the one that waits, so a slow server means fewer frames
and never older ones. Every frame is answered exactly once and in order: with poses, as dropped, or with an error.
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

from featherpose.errors import FeatherposeError, SourceError
from featherpose.poses import Poses
from featherpose.tracking import PoseSmoother, PoseTracker
from featherpose.web.messages import SessionMessage
from featherpose.web.pictures import decode_upload
from featherpose.web.records import Thresholds, people_records, select_people, times_record
from featherpose.web.refusals import error_record
from featherpose.web.service import PoseService
from featherpose.web.sockets import Closing, close_socket, hello_record, open_socket, send_json

__all__ = ["SessionFollower", "session_routes"]

_log = logging.getLogger(__name__)
# Frames that may be unanswered before the session stops reading: the client's own socket then holds it back.
_MAX_UNANSWERED = 64
_MAX_TEXT = 4096
_HEADER = struct.Struct("<d")
# Longest step that a tracker's clock makes: nobody is remembered for as long.
_MAX_STEP_S = 10.0


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    data: bytes
    received: float


class SessionFollower:
    """Tracker, smoother and thresholds of one client; used by one worker at a time."""

    def __init__(self) -> None:
        self.thresholds = Thresholds(min_keypoint_score=0.1, min_person_score=0.2)
        self.smoothing = True
        self._tracker, self._smoother = PoseTracker(), PoseSmoother()
        self._clock_s = 0.0
        self._last_s: float | None = None
        self._reset = False

    def ask_reset(self) -> None:
        """Ids start anew with the next frame."""
        self._reset = True

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Ids, smoothing and thresholds for the next frame.

        A client's clock may jump; the tracker's moves on by what the client's moved, within reason.
        """
        if self._reset:
            self._reset = False
            self._tracker.reset()
            self._smoother.reset()
        if self._last_s is not None:
            self._clock_s += min(max(timestamp_s - self._last_s, 0.0), _MAX_STEP_S)
        self._last_s = timestamp_s
        poses = self._tracker.update(poses, self._clock_s)
        if self.smoothing:
            poses = self._smoother.update(poses, self._clock_s)
        return select_people(poses, self.thresholds)


class _Session:
    """One client's frames: what waits, what was answered."""

    def __init__(self, service: PoseService, socket: WebSocket) -> None:
        self._service = service
        self._socket = socket
        self._follower = SessionFollower()
        self._received = 0
        self._answered = 0
        self._waiting: _Frame | None = None
        self._changed = asyncio.Condition()
        self._stopping = False

    async def run(self) -> None:
        """Until the client leaves, breaks the rules or the server ends.

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

    async def _receive(self) -> None:
        """Read messages; ends by `WebSocketDisconnect` or `Closing`."""
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
                    self._changed.notify_all()
            else:
                await self._take_text(message.get("text") or "")

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
        """Answer frames in order; ends when asked to and nothing waits."""
        while True:
            async with self._changed:
                while self._waiting is None and not self._stopping:
                    await self._changed.wait()
                frame, self._waiting = self._waiting, None
            if frame is None:
                return
            for number in range(self._answered, frame.number):
                await self._send({"type": "dropped", "frame": number, "why": "late"})
                await self._count("dropped")
            outcome, message = await self._work(frame)
            await self._send(message)
            await self._count(outcome)

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
            return "error", _error(frame.number, error)
        except Exception as error:  # the session outlives a defect, the log has it
            self._service.metrics.internal_error()
            _log.error("internal error, please report it", exc_info=error)
            problem = SourceError("internal error of the server", hint="its log has the details")
            return "error", _error(frame.number, problem)

    def _follow(self, frame: _Frame, waited_ms: float) -> str:
        """One frame from bytes to message; runs in a worker."""
        service = self._service
        if len(frame.data) < _HEADER.size:
            raise SourceError(
                f"a frame of {len(frame.data)} bytes", expected="8 bytes of time, then a picture (JPEG, PNG or WebP)"
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


def session_routes(service: PoseService) -> APIRouter:
    """``WS /v1/stream``."""
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
            await _Session(service, socket).run()
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
