"""Retries for stores that are temporarily unavailable: which errors are retried, and for how long."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["is_final", "one_line", "retried"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# What no waiting changes: a name, a right or a disk is missing.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
_FINAL_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EFBIG)
_FINAL_WORDS = (
    "ACCESS_DENIED", "NO_SUCH_BUCKET", "NO_SUCH_KEY", "INVALID_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH",
    "HTTP status 403", "HTTP status 401", "HTTP status 404", "INVALID_SIGNATURE", "credentials",
)  # fmt: skip
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0


def is_final(error: OSError) -> bool:
    """Return whether an error is permanent."""
    return (
        isinstance(error, _FINAL) or error.errno in _FINAL_ERRNO or any(words in str(error) for words in _FINAL_WORDS)
    )


def retried(action: Callable[[], _T], what: str, patience_s: float) -> _T:
    """Repeat an action on a store until it succeeds or the patience is exhausted.

    Args:
        action: What to do; it may be done twice.
        what: What it is, for the log.
        patience_s: How long to go on, seconds.

    Raises:
        OSError: The last failure, or the first that waiting cannot change.
    """
    wait_s, began = _FIRST_WAIT_S, time.monotonic()
    while True:
        try:
            return action()
        except OSError as error:
            if is_final(error) or time.monotonic() - began + wait_s > patience_s:
                raise
            _log.debug("%s: %s; trying again", what, error)
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def one_line(error: BaseException) -> str:
    r"""Return what an error says, in one line of at most 300 characters.

    Example:
        >>> one_line(OSError("first\nsecond."))
        'first second'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300].rstrip(".")
