"""``/v1/sources``: the configured sources, watched as annotated video or as poses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from featherpose.errors import FeatherposeError, SourceError
from featherpose.media.sources import SourceRef, find_sources
from featherpose.stream import FrameResult
from featherpose.web.messages import SourceRecord
from featherpose.web.poses import ERRORS
from featherpose.web.refusals import Refusal, error_record
from featherpose.web.service import PoseService
from featherpose.web.slots import Slot
from featherpose.web.sockets import Closing, close_socket, hello_record, open_socket, send_json
from featherpose.web.watching import Picture, WatchedSource

__all__ = ["SourceHub", "find_live_sources", "source_routes"]

_log = logging.getLogger(__name__)
_BOUNDARY = "featherpose-frame"
_FIRST_FRAME_S = 20.0
# While a source is away its last picture is sent again: a connection without traffic is soon cut on its way.
_REPEAT_S = 15.0


def find_live_sources(sources: Mapping[str, str]) -> dict[str, SourceRef]:
    """What the names of configured sources stand for; nothing is opened yet.

    Raises:
        SourceError: If an address leads to nothing, to pictures or to several videos.
    """
    found = {}
    for name, address in sources.items():
        refs = find_sources(address)
        if len(refs) > 1 or refs[0].is_pictures:
            raise SourceError(f"{address} is no live source", expected="a camera number, an address or a video")
        found[name] = refs[0]
    return found


class SourceHub:
    """All configured sources.

    Args:
        service: The estimator.
        refs: What `find_live_sources` found.
        recorders: Functions that get each result of a source.
    """

    def __init__(
        self,
        service: PoseService,
        refs: Mapping[str, SourceRef],
        recorders: Mapping[str, Callable[[FrameResult], None]],
    ) -> None:
        self._service = service
        self.viewers = 0
        self._sources = {name: WatchedSource(name, ref, service, recorders.get(name)) for name, ref in refs.items()}
        self._recorded = [self._sources[name] for name in recorders if name in self._sources]

    def __iter__(self) -> Iterator[WatchedSource]:
        return iter(self._sources.values())

    def find(self, name: str) -> WatchedSource:
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
            Refusal: 503 if there are as many as may be, or the server is about to end.
        """
        if self._service.draining:
            raise Refusal(503, "the server is about to end", retry_after_s=5)
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
        summary="Live video, with skeletons or without",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "JPEG pictures without end; an <img> element shows them. The header X-Frame of each "
                "part is the `frame` of the message with its people on the WebSocket /v1/sources/{name}/poses.",
                "content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}},
            },
            404: {**ERRORS[400], "description": "There is no such source."},
        },
    )
    async def view(
        name: str,
        annotated: Annotated[bool, Query(description="Draw the skeletons; without them 1280 pixels at most.")] = True,
    ) -> StreamingResponse:
        pictures = _Pictures(service, hub, hub.find(name))
        first = await pictures.first("annotated" if annotated else "plain")  # until then a status can still be chosen
        return _MotionJpeg(first, pictures)

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


class _Pictures:
    """The newest pictures of a source for one viewer; whoever asked for the first one must close it."""

    def __init__(self, service: PoseService, hub: SourceHub, source: WatchedSource) -> None:
        self._service = service
        self._hub = hub
        self._source = source
        self._watching = AsyncExitStack()
        self._slot: Slot[Picture] | None = None

    async def first(self, what: Literal["annotated", "plain"]) -> Picture:
        """Become a viewer and wait for the first picture.

        Raises:
            Refusal: 503 if there are too many viewers or the source gives none in time; it needs no closing then.
        """
        try:
            await self._watching.enter_async_context(self._hub.viewer())
            self._slot = await self._watching.enter_async_context(self._source.watch(what))
            try:
                picture = await self._take(_FIRST_FRAME_S)
            except TimeoutError:
                raise _no_picture(self._source, "delivers no picture") from None
            except FeatherposeError as error:
                raise _no_picture(self._source, f"cannot be read: {error}") from error
            if picture is None:
                raise _no_picture(self._source, "has ended")
        except BaseException:
            await self.aclose()
            raise
        return picture

    async def parts(self, picture: Picture | None) -> AsyncIterator[bytes]:
        """The parts of a multipart body, beginning with a picture."""
        while picture is not None and not self._service.ended.is_set():
            head = (
                f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n"
                f"X-Frame: {picture.frame}\r\n\r\n"
            )
            yield head.encode() + picture.jpeg + b"\r\n"
            try:
                picture = await self._take(_REPEAT_S)
            except TimeoutError:
                continue
            except FeatherposeError as error:
                _log.debug("a view ends: %s", error)
                return

    async def aclose(self) -> None:
        """Be a viewer no more."""
        await self._watching.aclose()

    async def _take(self, patience_s: float) -> Picture | None:
        assert self._slot is not None
        async with asyncio.timeout(patience_s):
            return await self._slot.take()


class _MotionJpeg(StreamingResponse):
    """Pictures without end; whichever way it ends, the viewer is gone afterwards."""

    def __init__(self, first: Picture, pictures: _Pictures) -> None:
        super().__init__(pictures.parts(first), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self._pictures = pictures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._pictures.aclose()


def _no_picture(source: WatchedSource, what: str) -> Refusal:
    return Refusal(503, f"source {source.name} {what}", hint="come back later", retry_after_s=10)


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
        # A camera or stream may be there again soon; a file that cannot be read will not mend itself.
        raise Closing(1011 if source.kind == "video" else 1013, "the source has failed") from None


async def _wait_for_leave(socket: WebSocket) -> None:
    """What a viewer says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
