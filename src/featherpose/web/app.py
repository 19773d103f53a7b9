"""The ASGI application: routes, error answers, and what happens at its start and end."""

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
from featherpose.stream import FrameResult
from featherpose.web.counting import Counting
from featherpose.web.limits import UploadBudget
from featherpose.web.options import ServeOptions
from featherpose.web.poses import picture_routes, state_routes
from featherpose.web.refusals import Refusal, refusal_body
from featherpose.web.security import Guard, needs_token
from featherpose.web.service import PoseService
from featherpose.web.sessions import session_routes
from featherpose.web.views import SourceHub, find_live_sources, source_routes

__all__ = ["create_app"]

_log = logging.getLogger(__name__)
_PAGE = Path(__file__).parent / "page"


def create_app(
    options: ServeOptions | None = None, *, recorders: Mapping[str, Callable[[FrameResult], None]] | None = None
) -> FastAPI:
    """The server as an ASGI application; `featherpose.web.serving.serve` runs it.

    The model is loaded here, so that whatever is wrong with it is said before anything listens.

    Args:
        options: How it is to behave; the defaults serve this machine only.
        recorders: Name of a source to a function that is called with each of its results, in order, in the source's
            own thread; such a source runs from the start instead of from its first viewer. It must not change the
            frame's picture.

    Returns:
        The application; ``app.state.service`` is its `PoseService`, ``app.state.hub`` its `SourceHub`.

    Raises:
        ModelError: If the model cannot be found, read or run here.
        SourceError: If the name of a source leads nowhere.

    Example:
        >>> app = create_app(ServeOptions(port=8080))
        >>> sorted(app.openapi()["paths"])[:2]
        ['/healthz', '/metrics']
    """
    options = options or ServeOptions()
    refs = find_live_sources(options.sources)
    service = PoseService(options)
    hub = SourceHub(service, refs, recorders or {})

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
        summary="Everyone's keypoints in pictures and live video.",
        description="Live sessions use the WebSocket `/v1/stream`, described in docs/reference/server.md.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service, app.state.hub = service, hub
    app.include_router(picture_routes(service, UploadBudget(options.limits)))
    app.include_router(source_routes(service, hub))
    app.include_router(session_routes(service))
    app.include_router(state_routes(service))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        if not (_PAGE / "index.html").is_file():
            raise Refusal(404, "this installation has no page", hint="install featherpose anew")
        return FileResponse(_PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=_PAGE, check_dir=False), name="static")
    _answer_errors(app, service)
    if options.token is not None:
        _describe_token(app)
    # The one added last stands first.
    app.add_middleware(Counting, service=service)
    if options.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(options.allowed_origins), allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["Retry-After"],
        )  # fmt: skip
    app.add_middleware(Guard, options=options)
    return app


def _describe_token(app: FastAPI) -> None:
    """Say in the OpenAPI description, which is made once, what asks for the token; `Guard` does the asking."""
    description = app.openapi()
    description["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "The token that the server was started with."}
    }
    for path, operations in description["paths"].items():
        if needs_token(path):
            for operation in operations.values():
                operation["security"] = [{"token": []}]


def _answer_errors(app: FastAPI, service: PoseService) -> None:
    """Every error becomes one JSON body."""

    @app.exception_handler(FeatherposeError)
    async def refuse(_request: Request, error: Exception) -> Response:
        assert isinstance(error, FeatherposeError)
        if isinstance(error, Refusal):
            return Response(refusal_body(error), error.status, error.headers)
        if isinstance(error, ModelError):
            _log.error("the engine failed: %s", error)
            service.metrics.internal_error()
            return Response(refusal_body(error), 500, media_type="application/json")
        return Response(refusal_body(error), 400, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def explain(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        refusal = Refusal(422, f"{place}: {first['msg']}", hint="see /openapi.json")
        return Response(refusal_body(refusal), 422, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = {404: f"there is nothing at {request.url.path[:200]}", 405: f"no {request.method} here"}.get(
            error.status_code, error.detail
        )
        body = refusal_body(Refusal(error.status_code, what, hint="see /openapi.json"))
        return Response(body, error.status_code, dict(error.headers or {}), media_type="application/json")

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it, but it is counted

    @app.exception_handler(Exception)
    async def defect(_request: Request, error: Exception) -> Response:
        service.metrics.internal_error()
        _log.error("internal error, please report it", exc_info=error)
        refusal = Refusal(500, "internal error of the server", hint="its log has the details")
        return Response(refusal_body(refusal), 500, media_type="application/json")
