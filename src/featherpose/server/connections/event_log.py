"""Rate limit of log lines: a client that causes thousands of events must not fill the disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

__all__ = ["OnePerPeriod", "quiet_loggers"]

PERIOD_S = 60.0
_MAX_CAUSES = 256
# Loggers whose records a client can cause. A filter of a logger does not see the records of its children.
_LOGGERS = (
    "asyncio",
    "uvicorn.error",
    "featherpose.server.connections.acceptor",
    "featherpose.server.app",
    "featherpose.server.http.limits",
    "featherpose.server.connections.connections",
    "featherpose.server.routes.sessions",
    "featherpose.server.shared_source",
)


class OnePerPeriod(logging.Filter):
    """Pass the first record of each cause, then one a period, which states how many were left out.

    A cause is the logger, the level, the first line of the unformatted message and the type of the exception.

    Args:
        period_s: Seconds between two records of one cause.
    """

    def __init__(self, period_s: float = PERIOD_S) -> None:
        super().__init__()
        self._period_s = period_s
        self._seen: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        kind = record.exc_info[0] if record.exc_info else None
        cause = (record.name, record.levelno, str(record.msg).partition("\n")[0][:200], kind)
        now = monotonic()
        shown_at, left_out = self._seen.get(cause, (float("-inf"), 0))
        if now - shown_at < self._period_s:
            self._seen[cause] = (shown_at, left_out + 1)
            return False
        if len(self._seen) >= _MAX_CAUSES:
            self._seen.clear()
        self._seen[cause] = (now, 0)
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out:,} more since the last line of this kind)"
            record.args = None
        return True


@contextmanager
def quiet_loggers(period_s: float = PERIOD_S) -> Iterator[None]:
    """Apply `OnePerPeriod` to the server's loggers while the block runs."""
    added = OnePerPeriod(period_s)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(added)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(added)
