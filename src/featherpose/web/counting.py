"""Counts every request, and turns new work away once the server is about to end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featherpose.web.refusals import Refusal, refusal_body
from featherpose.web.service import PoseService

__all__ = ["Counting"]

_PATIENCE_S = 1.0


class Counting:
    """ASGI middleware behind the `Guard`.

    Args:
        app: What stands behind it.
        service: Holds the counters.
    """

    def __init__(self, app: ASGIApp, service: PoseService) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, started, status = self._service, perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if service.draining:
                    # Says so to a client that would send its next request on a connection about to be closed.
                    MutableHeaders(raw=message["headers"])["Connection"] = "close"
            await send(message)

        service.active += 1
        try:
            if service.draining and scope["method"] == "POST":
                await _read_away(receive)
                refusal = Refusal(503, "the server is about to end", retry_after_s=5, close=True)
                headers = [(k.lower().encode(), v.encode()) for k, v in refusal.headers.items()]
                await counted({"type": "http.response.start", "status": 503, "headers": headers})
                await counted({"type": "http.response.body", "body": refusal_body(refusal)})
                return
            await self._app(scope, receive, counted)
        finally:
            service.active -= 1
            route = getattr(scope.get("route"), "path", "other")
            service.metrics.request(str(route), status, perf_counter() - started)


async def _read_away(receive: Receive) -> None:
    """Let a client finish what it sends, so that it reads the answer before the connection closes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while (await receive()).get("more_body", False):
                pass
