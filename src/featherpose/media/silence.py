"""Keeps OpenCV's C code off stderr where our own exception tells the reason better."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cv2.utils import logging as cv2_logging

__all__ = ["silent_opencv"]


@contextlib.contextmanager
def silent_opencv() -> Iterator[None]:
    """No log lines of OpenCV inside the block, whichever release it is."""
    level = cv2_logging.getLogLevel()
    cv2_logging.setLogLevel(cv2_logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2_logging.setLogLevel(level)
