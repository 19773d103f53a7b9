"""HTTP routes that take images, and those that describe the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from featherpose.errors import FeatherposeError
from featherpose.server.http.errors import HTTPError, error_record, too_busy
from featherpose.server.http.limits import Body, ByteBudget
from featherpose.server.http.multipart import read_files
from featherpose.server.routes.schemas import (
    BatchAnswer,
    ErrorAnswer,
    ModelRecord,
    PosesAnswer,
    Score,
    SkeletonRecord,
    StateAnswer,
)
from featherpose.server.routes.serialize import Thresholds, skeleton_record
from featherpose.server.service import PoseService

__all__ = ["ERRORS", "image_routes", "state_routes"]

_T = TypeVar("_T")
_BINARY = {"type": "string", "format": "binary"}
_IMAGE_TYPES = (
    "image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "application/octet-stream",
    "application/x-www-form-urlencoded",  # the type that `curl --data-binary` sends for any file
)  # fmt: skip

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The request is malformed, or the body is no image that the server reads.",
        401: "The server has a token, and the request does not carry it.",
        403: "A page of another site asks.",
        405: "There is no such method here.",
        408: "The body arrived too slowly.",
        413: "The body, or the number of files in it, is too large.",
        415: "The body is of a type that holds no images.",
        421: "The Host header names another server.",
        422: "A parameter has a value that it cannot have.",
        503: "The server has as much to do as it can, or is about to end; Retry-After says when to ask again.",
    }.items()
}

MinKeypointScore = Annotated[
    Score, Query(description="Keypoints below this score, 0 to 1, count as missing.", examples=[0.15])
]
MinPersonScore = Annotated[
    Score, Query(description="People whose `score` is lower, 0 to about 4, are left out.", examples=[0.8])
]


def image_routes(service: PoseService, budget: ByteBudget) -> APIRouter:
    """Return the routes ``POST /v1/poses`` and ``POST /v1/poses:batch``."""
    router = APIRouter(responses=ERRORS, tags=["images"])

    @router.post(
        "/v1/poses",
        operation_id="poses",
        summary="Everyone in an image",
        response_class=Response,
        responses={
            200: {
                "model": PosesAnswer,
                "description": "Everyone as JSON, or the image with everyone drawn into it.",
                "content": {"image/jpeg": {"schema": _BINARY}},
            }
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}
                    },
                    **{kind: {"schema": _BINARY} for kind in _IMAGE_TYPES},
                },
            }
        },
    )
    async def poses(
        request: Request,
        min_keypoint_score: MinKeypointScore = 0.0,
        min_person_score: MinPersonScore = 0.0,
        annotated: Annotated[bool, Query(description="Answer with the annotated image instead of JSON.")] = False,
    ) -> Response:
        kind = _content_type(request, "multipart/form-data", *_IMAGE_TYPES)
        _refuse_early(service)
        thresholds = Thresholds(min_keypoint_score=min_keypoint_score, min_person_score=min_person_score)
        async with budget.body(request) as body:
            if kind == "multipart/form-data":
                (data,), name = await _files(body, request, max_files=1), "the file"
            else:
                data, name = body.take(), "the body"
            work = service.annotated_jpeg if annotated else service.people_json
            (answer,) = await _answers(service, request, [partial(work, data, name, thresholds)])
        return Response(answer, media_type="image/jpeg" if annotated else "application/json")

    @router.post(
        "/v1/poses:batch",
        operation_id="poses_batch",
        summary="Everyone in several images",
        response_class=Response,
        responses={200: {"model": BatchAnswer, "description": "One result for each file, in their order."}},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "required": ["file"],
                            "properties": {
                                "file": {
                                    "type": "array", "items": _BINARY, "minItems": 1,
                                    "maxItems": service.limits.batch,
                                }
                            },
                        }
                    }
                },
            }
        },
    )  # fmt: skip
    async def poses_batch(
        request: Request,
        min_keypoint_score: MinKeypointScore = 0.0,
        min_person_score: MinPersonScore = 0.0,
    ) -> Response:
        _content_type(request, "multipart/form-data")
        _refuse_early(service)
        thresholds = Thresholds(min_keypoint_score=min_keypoint_score, min_person_score=min_person_score)
        async with budget.body(request) as body:
            files = await _files(body, request, max_files=min(service.limits.batch, service.limits.queue))
            results = await _answers(
                service,
                request,
                [
                    partial(service.people_record_or_error, data, f"file {number}", thresholds)
                    for number, data in enumerate(files)
                ],
            )
        records = [{"error": error_record(r)} if isinstance(r, FeatherposeError) else r for r in results]
        return Response(json.dumps({"results": records}).encode(), media_type="application/json")

    return router


def state_routes(service: PoseService) -> APIRouter:
    """Return the routes ``/healthz``, ``/readyz``, ``/metrics`` and ``GET /v1/models``."""
    router = APIRouter(responses={status: ERRORS[status] for status in (401, 403, 405, 421, 503)}, tags=["server"])

    @router.get("/healthz", operation_id="healthz", summary="Whether the server is alive")
    async def healthz() -> StateAnswer:
        return StateAnswer(state="ok")

    @router.get("/readyz", operation_id="readyz", summary="Whether the server takes work")
    async def readyz() -> StateAnswer:
        if service.draining:
            raise HTTPError(503, "the server is about to end", retry_after_s=5)
        return StateAnswer(state="ready")

    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="Counters for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        text = await asyncio.to_thread(service.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/models", operation_id="models", summary="The model that is loaded")
    async def models() -> list[ModelRecord]:
        card, info, estimator = service.card, service.estimator.info, service.estimator
        return [
            ModelRecord(
                name=service.model_name,
                title=card.title if card else "",
                loaded=True,
                height=estimator.height,
                precision=info.precision,
                engine=info.engine,
                device=info.device,
                license=card.license if card else "",
                limits=list(card.limits) if card else [],
                metrics=[metric.model_dump() for metric in card.metrics] if card else [],
                skeleton=SkeletonRecord.model_validate(skeleton_record(estimator.skeleton)),
            )
        ]

    return router


def _content_type(request: Request, *allowed: str) -> str:
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind not in allowed:
        raise HTTPError(415, f"a body of type {kind[:80]!r}", expected=" or ".join(allowed))
    return kind


def _refuse_early(service: PoseService) -> None:
    """Reject before the body is read: a queue that is full now will hardly have room after the upload."""
    if service.dispatcher.full("images"):
        raise too_busy(service.dispatcher.retry_after_s())


async def _files(body: Body, request: Request, *, max_files: int) -> list[bytes]:
    content_type = request.headers.get("content-type", "")
    with body.twice():
        return await asyncio.to_thread(read_files, body.take(), content_type, max_files=max_files)


async def _answers(service: PoseService, request: Request, runs: Sequence[Callable[[float], _T]]) -> list[_T]:
    """Wait for jobs of the images lane; those of a client that has left are not begun.

    Raises:
        HTTPError: If the queue is full.
        ClientDisconnect: If the client went away.
    """
    futures: list[Future[_T]] = service.dispatcher.submit("images", *runs)
    answers = asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
    # The body has been read: the only event left is the client's disconnect.
    leaving = asyncio.ensure_future(request.receive())
    try:
        either: set[asyncio.Future[Any]] = {answers, leaving}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ClientDisconnect
        return answers.result()
    finally:
        leaving.cancel()
        if not answers.done():
            answers.cancel()
            answers.add_done_callback(_ignore)


def _ignore(answers: asyncio.Future[Any]) -> None:
    """Retrieve an outcome that no caller waits for: asyncio logs each outcome that was never retrieved."""
    if not answers.cancelled():
        answers.exception()
