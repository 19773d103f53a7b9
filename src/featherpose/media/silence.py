"""Keeps OpenCV's C code off stderr where our own exception tells the reason better."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from cv2.utils import logging as cv2_logging

__all__ = ["silent_opencv"]

_lock = threading.Lock()
_inside = 0
_level_before: int = 0


@contextlib.contextmanager
def silent_opencv() -> Iterator[None]:
    """No log lines of OpenCV inside the block, whichever release it is.

    The level is one for the whole process: the first thread to enter takes it down, the last to leave puts it back.
    """
    global _inside, _level_before
    with _lock:
        if _inside == 0:
            _level_before = cv2_logging.getLogLevel()
            cv2_logging.setLogLevel(cv2_logging.LOG_LEVEL_SILENT)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                cv2_logging.setLogLevel(_level_before)
