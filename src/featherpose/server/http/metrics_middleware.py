"""Counts every request, and rejects new work once the server is shutting down."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featherpose.server.http.errors import HTTPError, error_body
from featherpose.server.service import PoseService

__all__ = ["MetricsMiddleware"]

_PATIENCE_S = 1.0


class MetricsMiddleware:
    """ASGI middleware behind the `Guard`: counts requests.

    Args:
        app: The next application.
        service: Holds the counters.
    """

    def __init__(self, app: ASGIApp, service: PoseService) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket."""
        try:
            if scope["type"] == "http":
                await self._handle(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # On shutdown uvicorn cancels unfinished requests, and would log a traceback of each.
            if not self._service.draining:
                raise

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, started, status = self._service, perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if service.draining:
                    # Tells the client not to reuse a connection that is about to be closed.
                    MutableHeaders(raw=message["headers"])["Connection"] = "close"
            await send(message)

        service.active += 1
        try:
            if service.draining and scope["method"] == "POST":
                await _read_away(receive)
                refusal = HTTPError(503, "the server is about to end", retry_after_s=5, close=True)
                headers = [(k.lower().encode(), v.encode()) for k, v in refusal.headers.items()]
                await counted({"type": "http.response.start", "status": 503, "headers": headers})
                await counted({"type": "http.response.body", "body": error_body(refusal)})
                return
            await self._app(scope, receive, counted)
        finally:
            service.active -= 1
            route = getattr(scope.get("route"), "path", "other")
            service.metrics.request(str(route), status, perf_counter() - started)


async def _read_away(receive: Receive) -> None:
    """Read the rest of a request, so that the client reads the answer before the connection closes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while (await receive()).get("more_body", False):
                pass
