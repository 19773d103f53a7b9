"""Bodies, read within bounds: of one request, of all requests together, and of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from featherpose.web.options import ServeLimits
from featherpose.web.refusals import Refusal

__all__ = ["UploadBudget"]


class UploadBudget:
    """Counts the bytes of all bodies that are held, so that many large uploads cannot fill the memory together."""

    def __init__(self, limits: ServeLimits) -> None:
        self._limits = limits
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are held now."""
        return self._held

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body; its bytes count until the context ends.

        Raises:
            Refusal: 413 if it is too large, 408 if it takes too long, 503 if all uploads together are too many.
            ClientDisconnect: If the client went away.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        held = 0
        try:
            try:
                async with asyncio.timeout(self._limits.body_timeout_s):
                    async for piece in request.stream():
                        held += len(piece)
                        self._held += len(piece)
                        if held > self._limits.body_bytes:
                            raise self._too_large()
                        if self._held > self._limits.upload_bytes:
                            # The rest is read and thrown away: a connection closed under a client that still sends
                            # would take the answer with it.
                            raise Refusal(
                                503, "the server holds as many uploads as it can", hint="ask again in 1 s",
                                retry_after_s=1,
                            )  # fmt: skip
                        pieces.append(piece)
            except TimeoutError:
                raise Refusal(
                    408, f"the body did not arrive within {self._limits.body_timeout_s:g} s", close=True
                ) from None
            data = b"".join(pieces)
            pieces.clear()
            yield data
        finally:
            self._held -= held

    def _too_large(self) -> Refusal:
        limit = self._limits.body_bytes
        return Refusal(413, "the body is too large", expected=f"at most {limit:,} bytes")
