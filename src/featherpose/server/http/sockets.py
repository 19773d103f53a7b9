"""Shared by live sessions and views: handshake, greeting, sending and closing of WebSockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from featherpose.server.http.security import SUBPROTOCOL, same_token, session_token_ok
from featherpose.server.routes.serialize import skeleton_record
from featherpose.server.service import PoseService

__all__ = ["MAX_IN_FLIGHT", "Closing", "close_socket", "hello_record", "open_socket", "send_json"]

MAX_IN_FLIGHT = 2
"""Frames of a session that may be unanswered before one is dropped: one in the network, one that waits."""


class Closing(Exception):  # noqa: N818 - a decision, not an error
    """Ends the session with this close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


async def send_json(socket: WebSocket, message: dict[str, Any] | str, patience_s: float) -> None:
    """Send a message; the client must read it in time.

    Raises:
        Closing: If it does not.
    """
    text = message if isinstance(message, str) else json.dumps(message)
    try:
        async with asyncio.timeout(patience_s):
            await socket.send_text(text)
    except TimeoutError:
        raise Closing(1008, f"nothing was read for {patience_s:g} s") from None


def hello_record(service: PoseService) -> dict[str, Any]:
    """Return the first message of every session."""
    effects = service.options.effects
    return {
        "type": "hello",
        "version": 1,
        "model": service.model_name,
        "skeleton": skeleton_record(service.estimator.skeleton),
        "max_in_flight": MAX_IN_FLIGHT,
        "scene": None if effects is None or effects.scene is None else effects.scene.name,
        "anonymize": None if effects is None else effects.anonymize,
        "limits": {"bytes": service.limits.frame_bytes, "pixels": service.limits.pixels},
    }


async def open_socket(socket: WebSocket, service: PoseService) -> None:
    """Accept a handshake; a refusal reaches the client as a readable error.

    Raises:
        Closing: If the token is wrong or the server is about to end.
    """
    offered: list[str] = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    if not _token_ok(socket, offered, service.options.token):
        raise Closing(1008, "the token is missing or wrong")
    if service.draining:
        raise Closing(1013, "the server is about to end")


def _token_ok(socket: WebSocket, offered: list[str], token: str | None) -> bool:
    """Return whether the client has sent the token: by subprotocol, as browsers must, or by header."""
    if session_token_ok(offered, token):
        return True
    scheme, _, given = socket.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and token is not None and same_token(given.strip(), token)


async def close_socket(socket: WebSocket, closing: Closing) -> None:
    """Close unless the client has done so."""
    if socket.application_state is WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect, OSError):
            await socket.close(closing.code, closing.reason[:120])
