"""``/v1/sources``: the configured sources, as annotated video or as poses."""

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
from featherpose.media.sources.find import SourceRef, find_sources
from featherpose.server.http.errors import HTTPError, error_record
from featherpose.server.http.sockets import Closing, close_socket, hello_record, open_socket, send_json
from featherpose.server.latest_value import LatestValue
from featherpose.server.routes.images import ERRORS
from featherpose.server.routes.schemas import SourceRecord
from featherpose.server.service import PoseService
from featherpose.server.shared_source import EncodedImage, SharedSource
from featherpose.stream import FrameResult

__all__ = ["SourceHub", "find_live_sources", "source_routes"]

_log = logging.getLogger(__name__)
_BOUNDARY = "featherpose-frame"
_FIRST_FRAME_S = 20.0
# While a source is away its last image is sent again: a connection without traffic would be cut.
_REPEAT_S = 15.0
_STOP_PATIENCE_S = 2.0


def find_live_sources(sources: Mapping[str, str]) -> dict[str, SourceRef]:
    """Resolve the names of configured sources; nothing is opened yet.

    Raises:
        SourceError: If an address leads to nothing, to images or to several videos.
    """
    found = {}
    for name, address in sources.items():
        refs = find_sources(address)
        if len(refs) > 1 or refs[0].is_images:
            raise SourceError(f"{address} is no live source", expected="a camera number, an address or a video")
        found[name] = refs[0]
    return found


class SourceHub:
    """The configured sources.

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
        self._sources = {name: SharedSource(name, ref, service, recorders.get(name)) for name, ref in refs.items()}
        self._recorded = [self._sources[name] for name in recorders if name in self._sources]

    def __iter__(self) -> Iterator[SharedSource]:
        return iter(self._sources.values())

    def find(self, name: str) -> SharedSource:
        """Return a source by its name.

        Raises:
            HTTPError: 404 if there is none.
        """
        if name not in self._sources:
            known = ", ".join(self._sources) or "none is configured"
            raise HTTPError(404, f"there is no source {name[:80]!r}", expected=f"one of: {known}")
        return self._sources[name]

    def start(self) -> None:
        """Start the sources that are recorded."""
        for source in self._recorded:
            source.start()

    def ask_to_stop(self) -> None:
        """Ask all sources to end."""
        for source in self._sources.values():
            source.ask_to_stop()

    async def stop(self) -> None:
        """End all sources and wait for their viewers."""
        self.ask_to_stop()
        joins = (asyncio.to_thread(source.join, _STOP_PATIENCE_S) for source in self._sources.values())
        await asyncio.gather(*joins)

    @asynccontextmanager
    async def viewer(self) -> AsyncIterator[None]:
        """Count a viewer.

        Raises:
            HTTPError: 503 if the limit is reached, or the server is shutting down.
        """
        if self._service.draining:
            raise HTTPError(503, "the server is about to end", retry_after_s=5)
        if self.viewers >= self._service.limits.viewers:
            raise HTTPError(503, f"{self.viewers} clients watch already", hint="come back later", retry_after_s=10)
        self.viewers += 1
        self._service.metrics.viewers.set(self.viewers)
        try:
            yield
        finally:
            self.viewers -= 1
            self._service.metrics.viewers.set(self.viewers)


def source_routes(service: PoseService, hub: SourceHub) -> APIRouter:
    """Return the routes under ``/v1/sources``."""
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
                "description": "JPEG images without end; an <img> element shows them. The header X-Frame of each "
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
        images = _Images(service, hub, hub.find(name))
        first = await images.first("annotated" if annotated else "plain")  # until then a status can still be chosen
        return _MotionJpeg(first, images)

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


class _Images:
    """Newest images of a source for one viewer; the caller of `first` must close it."""

    def __init__(self, service: PoseService, hub: SourceHub, source: SharedSource) -> None:
        self._service = service
        self._hub = hub
        self._source = source
        self._watching = AsyncExitStack()
        self._slot: LatestValue[EncodedImage] | None = None

    async def first(self, what: Literal["annotated", "plain"]) -> EncodedImage:
        """Become a viewer and wait for the first image.

        Raises:
            HTTPError: 503 if there are too many viewers or no image comes in time; no closing is needed then.
        """
        try:
            await self._watching.enter_async_context(self._hub.viewer())
            self._slot = await self._watching.enter_async_context(self._source.watch(what))
            try:
                image = await self._take(_FIRST_FRAME_S)
            except TimeoutError:
                raise _no_image(self._source, "delivers no image") from None
            except FeatherposeError as error:
                raise _no_image(self._source, f"cannot be read: {error}") from error
            if image is None:
                raise _no_image(self._source, "has ended")
        except BaseException:
            await self.aclose()
            raise
        return image

    async def parts(self, image: EncodedImage | None) -> AsyncIterator[bytes]:
        """Yield the parts of a multipart body, beginning with an image."""
        while image is not None and not self._service.ended.is_set():
            head = (
                f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image.jpeg)}\r\n"
                f"X-Frame: {image.frame}\r\n\r\n"
            )
            yield head.encode() + image.jpeg + b"\r\n"
            try:
                image = await self._take(_REPEAT_S)
            except TimeoutError:
                continue
            except FeatherposeError as error:
                _log.debug("a view ends: %s", error)
                return

    async def aclose(self) -> None:
        """Stop being a viewer."""
        await self._watching.aclose()

    async def _take(self, patience_s: float) -> EncodedImage | None:
        assert self._slot is not None
        async with asyncio.timeout(patience_s):
            return await self._slot.take()


class _MotionJpeg(StreamingResponse):
    """Yield images without end; the viewer is removed when it is closed."""

    def __init__(self, first: EncodedImage, images: _Images) -> None:
        super().__init__(images.parts(first), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self._images = images

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._images.aclose()


def _no_image(source: SharedSource, what: str) -> HTTPError:
    return HTTPError(503, f"source {source.name} {what}", hint="come back later", retry_after_s=10)


async def _send_poses(socket: WebSocket, service: PoseService, hub: SourceHub, name: str) -> None:
    await open_socket(socket, service)
    try:
        source = hub.find(name)
    except HTTPError as refusal:
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
    except HTTPError as refusal:
        raise Closing(1013, refusal.given) from None
    except FeatherposeError as error:
        await send_json(socket, {"type": "error", "frame": None, "error": error_record(error)}, patience_s)
        # A camera or stream may come back soon; an unreadable file will not.
        raise Closing(1011 if source.kind == "video" else 1013, "the source has failed") from None


async def _wait_for_leave(socket: WebSocket) -> None:
    """Discard what a viewer sends."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
