"""The end of a long run by Ctrl-C or SIGTERM: what is under way is completed, a second signal ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Stop", "stop_on_signal"]


@dataclass(slots=True)
class Stop:
    """Whether a run is to end.

    Attributes:
        event: Set by the first signal.
        exit_code: 128 plus the number of that signal; 0 without one.
    """

    event: threading.Event = field(default_factory=threading.Event)
    exit_code: int = 0


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Note the first Ctrl-C or SIGTERM; a second one acts as usual in Python. Outside the main thread do nothing."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, _frame: object) -> None:
        stop.exit_code = 128 + signum
        stop.event.set()
        signal.signal(signum, previous[signum])

    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
