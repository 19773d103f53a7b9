"""Error answers: a status, one clear error in JSON, and when to retry."""

from __future__ import annotations

import json
from typing import Any

from featherpose.errors import FeatherposeError

__all__ = ["HTTPError", "error_body", "error_record", "too_busy"]


class HTTPError(FeatherposeError):
    """Error that is answered with an HTTP status.

    Args:
        status: HTTP status.
        given: What was given and what is wrong with it.
        expected: What would have been right.
        hint: What to do now.
        retry_after_s: When to retry, in whole seconds.
        close: Whether the connection is closed. Not while the client may still send: the rest of its body is read
            and thrown away, because a connection closed under a sender takes the answer with it.
    """

    def __init__(
        self,
        status: int,
        given: str,
        *,
        expected: str | None = None,
        hint: str | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(given, expected=expected, hint=hint)
        self.status = status
        self.retry_after_s = retry_after_s
        self.close = close

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.close:
            headers["Connection"] = "close"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def error_record(error: FeatherposeError) -> dict[str, Any]:
    """Return the parts of an error, as every answer carries them.

    Example:
        >>> error_record(FeatherposeError("the body is empty", expected="an image"))
        {'what': 'the body is empty', 'expected': 'an image', 'hint': None}
    """
    return {"what": error.given, "expected": error.expected, "hint": error.hint}


def error_body(error: FeatherposeError) -> bytes:
    """Return the JSON body of an error answer."""
    return json.dumps({"error": error_record(error)}).encode()


def too_busy(retry_after_s: int) -> HTTPError:
    """Return the error for a full queue: nothing is wrong with the request."""
    return HTTPError(
        503,
        "the server has as much to do as it can",
        hint=f"ask again in {retry_after_s} s",
        retry_after_s=retry_after_s,
    )
