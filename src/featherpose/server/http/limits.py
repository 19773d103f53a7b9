"""One budget of bytes for everything that clients make the server hold: bodies, frames of sessions, unread answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request

from featherpose.server.http.errors import HTTPError
from featherpose.server.options import ServeLimits

__all__ = ["Body", "ByteBudget", "Lease"]

_log = logging.getLogger(__name__)


class ByteBudget:
    """Counter of held bytes, so that many clients together cannot fill the memory.

    Args:
        limits: What may be held.
    """

    def __init__(self, limits: ServeLimits) -> None:
        self._limits = limits
        self._held = 0
        self._unsent: Callable[[], int] = lambda: 0
        self._relieve: Callable[[], bool] = lambda: False

    @property
    def held_bytes(self) -> int:
        """Return the bytes that are held now, including answers that wait for their clients to read."""
        return self._held + self._unsent()

    def watch_answers(self, unsent: Callable[[], int], relieve: Callable[[], bool]) -> None:
        """Count answers too.

        Args:
            unsent: Returns the bytes of answers that are not sent yet.
            relieve: Called when the budget is used up; ends a client that does not read and returns whether there was
                one.
        """
        self._unsent, self._relieve = unsent, relieve

    def lease(self) -> Lease:
        """Return an empty account of bytes."""
        return Lease(self)

    def has_room(self) -> bool:
        """Return whether the budget has room; clients that do not read are closed to make room."""
        while self.held_bytes > self._limits.held_bytes:
            if not self._relieve():
                return False
        return True

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[Body]:
        """Read a body; its bytes count until the context ends.

        Raises:
            HTTPError: 413 if it is too large, 408 if it takes too long, 503 if all clients together hold too much.
            ClientDisconnect: If the client went away.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        lease = self.lease()
        try:
            try:
                async with asyncio.timeout(self._limits.body_timeout_s):
                    async for piece in request.stream():
                        fits = lease.set(lease.bytes + len(piece))
                        if lease.bytes > self._limits.body_bytes:
                            raise self._too_large()
                        if not fits:
                            raise _full()
                        pieces.append(piece)
            except TimeoutError:
                raise HTTPError(
                    408, f"the body did not arrive within {self._limits.body_timeout_s:g} s", close=True
                ) from None
            body = Body(b"".join(pieces), lease)
            pieces.clear()
            yield body
        finally:
            lease.release()

    def _too_large(self) -> HTTPError:
        limit = self._limits.body_bytes
        return HTTPError(413, "the body is too large", expected=f"at most {limit:,} bytes")


class Lease:
    """Bytes that one client holds.

    Attributes:
        bytes: How much of the budget it is.
    """

    __slots__ = ("_budget", "bytes")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.bytes = 0

    def set(self, count: int) -> bool:
        """Hold this many bytes from now on; return whether the budget had room for any increase."""
        more = count - self.bytes
        self._budget._held += more
        self.bytes = count
        return more <= 0 or self._budget.has_room()

    def release(self) -> None:
        """Release all bytes."""
        self.set(0)


class Body:
    """Body of a request; its bytes can be released before the request ends."""

    def __init__(self, data: bytes, lease: Lease) -> None:
        self._data = data
        self._lease = lease

    def take(self) -> bytes:
        """Return the bytes; the caller has the only reference from then on."""
        data, self._data = self._data, b""
        return data

    @contextmanager
    def twice(self) -> Iterator[None]:
        """Count the bytes twice, while they are copied.

        Raises:
            HTTPError: 503 if the budget has no room for that.
        """
        once = self._lease.bytes
        try:
            if not self._lease.set(2 * once):
                raise _full()
            yield
        finally:
            self._lease.set(once)


def _full() -> HTTPError:
    """Read and discard the rest: closing while the client sends would lose the answer."""
    _log.warning("bodies and frames fill the memory for them: new ones are refused")
    return HTTPError(503, "the server holds as many bytes as it can", hint="ask again in 1 s", retry_after_s=1)
