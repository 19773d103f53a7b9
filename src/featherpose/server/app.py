"""The ASGI application: routes, error answers, startup and shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from featherpose import __version__
from featherpose.errors import FeatherposeError, ModelError
from featherpose.server.http.errors import HTTPError, error_body
from featherpose.server.http.limits import ByteBudget
from featherpose.server.http.metrics_middleware import MetricsMiddleware
from featherpose.server.http.security import Guard, needs_token
from featherpose.server.options import ServeOptions
from featherpose.server.routes.images import image_routes, state_routes
from featherpose.server.routes.sessions import session_routes
from featherpose.server.routes.sources import SourceHub, find_live_sources, source_routes
from featherpose.server.service import PoseService
from featherpose.stream import FrameResult

__all__ = ["create_app"]

_log = logging.getLogger(__name__)
_PAGE = Path(__file__).parent / "static"


def create_app(
    options: ServeOptions | None = None, *, recorders: Mapping[str, Callable[[FrameResult], None]] | None = None
) -> FastAPI:
    """Return the server as an ASGI application; `featherpose.server.run.serve` runs it.

    The model is loaded here, so that a bad model is reported before the server listens.

    Args:
        options: Behavior and limits; the defaults serve this machine only.
        recorders: Name of a source to a function that is called with each of its results, in order, in the source's
            own thread; such a source runs from the start instead of from its first viewer. It must not change the
            frame's image.

    Returns:
        The application; ``app.state.service`` is its `PoseService`, ``app.state.hub`` its `SourceHub`,
        ``app.state.budget`` its `ByteBudget`.

    Raises:
        ModelError: If the model cannot be found, read or run here.
        SourceError: If the name of a source leads nowhere.

    Example:
        >>> app = create_app(ServeOptions(port=8080))
        >>> sorted(app.openapi()["paths"])[:2]
        ['/healthz', '/metrics']
        >>> app.state.service.close()  # as `serve` does at its end
    """
    options = options or ServeOptions()
    refs = find_live_sources(options.sources)
    service = PoseService(options)
    hub = SourceHub(service, refs, recorders or {})
    budget = ByteBudget(options.limits)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        hub.start()
        try:
            yield
        finally:
            await hub.stop()
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="featherpose",
        version=__version__,
        summary="Everyone's keypoints in images and live video.",
        description="Live sessions use the WebSocket `/v1/stream`, described in docs/reference/server.md.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service, app.state.hub, app.state.budget = service, hub, budget
    app.include_router(image_routes(service, budget))
    app.include_router(source_routes(service, hub))
    app.include_router(session_routes(service, budget))
    app.include_router(state_routes(service))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        if not (_PAGE / "index.html").is_file():
            raise HTTPError(404, "this installation has no page", hint="install featherpose anew")
        return FileResponse(_PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=_PAGE, check_dir=False), name="static")
    _answer_errors(app, service)
    if options.token is not None:
        _describe_token(app)
    # The middleware added last runs first.
    app.add_middleware(MetricsMiddleware, service=service)
    if options.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(options.allowed_origins), allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["Retry-After"],
        )  # fmt: skip
    app.add_middleware(Guard, options=options)
    return app


def _describe_token(app: FastAPI) -> None:
    """Mark the operations that need the token in the OpenAPI description, which is made once; `Guard` checks it."""
    description = app.openapi()
    description["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "The token that the server was started with."}
    }
    for path, operations in description["paths"].items():
        if needs_token(path):
            for operation in operations.values():
                operation["security"] = [{"token": []}]


def _answer_errors(app: FastAPI, service: PoseService) -> None:
    """Answer every error with the same JSON body."""

    @app.exception_handler(FeatherposeError)
    async def refuse(_request: Request, error: Exception) -> Response:
        assert isinstance(error, FeatherposeError)
        if isinstance(error, HTTPError):
            return Response(error_body(error), error.status, error.headers)
        if isinstance(error, ModelError):
            _log.error("the engine failed: %s", error)
            service.metrics.internal_error()
            return Response(error_body(error), 500, media_type="application/json")
        return Response(error_body(error), 400, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def explain(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        refusal = HTTPError(422, f"{place}: {first['msg']}", hint="see /openapi.json")
        return Response(error_body(refusal), 422, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = {404: f"there is nothing at {request.url.path[:200]}", 405: f"no {request.method} here"}.get(
            error.status_code, error.detail
        )
        body = error_body(HTTPError(error.status_code, what, hint="see /openapi.json"))
        return Response(body, error.status_code, dict(error.headers or {}), media_type="application/json")

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # no client reads it, but it is counted

    @app.exception_handler(MemoryError)
    async def shortage(_request: Request, error: Exception) -> Response:
        refusal = service.explain(error)
        assert isinstance(refusal, HTTPError)
        return Response(error_body(refusal), refusal.status, refusal.headers)

    @app.exception_handler(Exception)
    async def defect(_request: Request, error: Exception) -> Response:
        service.metrics.internal_error()
        _log.error("internal error, please report it", exc_info=error)
        refusal = HTTPError(500, "internal error of the server", hint="its log has the details")
        return Response(error_body(refusal), 500, media_type="application/json")
