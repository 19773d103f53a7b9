"""A one-element mailbox: slow readers skip values and never block the writer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Generic, Literal, TypeVar

from featherpose.errors import FeatherposeError

__all__ = ["LatestValue"]

_T = TypeVar("_T")


class LatestValue(Generic[_T]):
    """Mailbox between a thread that puts and a coroutine that takes; a newer value replaces an older one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self._value: _T | None = None
        self._ended: FeatherposeError | Literal[False] | None = False

    def put(self, value: _T) -> None:
        """Put a value; callable from any thread."""
        self._value = value
        self._wake()

    def end(self, error: FeatherposeError | None) -> None:
        """Close the mailbox, with an error or without; callable from any thread."""
        self._ended = error
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the server has ended before a source that hangs
            self._loop.call_soon_threadsafe(self._event.set)

    async def take(self) -> _T | None:
        """Return the newest value; None at the end.

        Raises:
            FeatherposeError: If the source ended by an error.
        """
        while True:
            value, self._value = self._value, None
            if value is not None:
                return value
            if self._ended is not False:
                if self._ended is not None:
                    raise self._ended
                return None
            self._event.clear()
            if self._value is None and self._ended is False:
                await self._event.wait()
