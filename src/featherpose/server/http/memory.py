"""Memory of the server: how a shortage is recognized and answered, and how free memory returns to the system."""

from __future__ import annotations

import ctypes
import gc
import re
import sys

import cv2

from featherpose.errors import ModelError
from featherpose.server.http.errors import HTTPError

__all__ = ["is_shortage", "out_of_memory", "settle", "trim", "unsettle"]

_RETRY_AFTER_S = 5
_OPENCV_NO_MEMORY = -4  # cv::Error::StsNoMem
# OpenVINO and ONNX Runtime raise RuntimeError whatever the cause is.
_WORDS = re.compile(r"bad_alloc|out of memory|failed to allocate|cannot allocate|insufficient memory", re.IGNORECASE)


def settle() -> None:
    """Exclude the objects that exist now from garbage collection, which would take milliseconds for them."""
    gc.collect()
    gc.freeze()


def unsettle() -> None:
    """Let all objects be collected again: the process may go on for long after its server has ended."""
    gc.unfreeze()


def trim() -> None:
    """Collect reference cycles, and return free memory to the system where the C library keeps it.

    TLS connections are such cycles, a quarter of a megabyte each. glibc keeps freed memory below any block that is
    still in use: after hundreds of simultaneous connections, a hundred megabytes for good. Takes milliseconds; call it
    outside of the event loop.
    """
    gc.collect()
    if sys.platform == "linux":
        trim_heap = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim_heap is not None:
            trim_heap(0)


def is_shortage(error: BaseException | None) -> bool:
    """Return whether an exception, or its cause, reports that memory could not be allocated.

    Example:
        >>> is_shortage(MemoryError())
        True
        >>> is_shortage(ValueError("a value"))
        False
    """
    for _ in range(5):
        if error is None:
            return False
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, cv2.error) and getattr(error, "code", None) == _OPENCV_NO_MEMORY:
            return True
        if isinstance(error, (ModelError, RuntimeError, cv2.error)) and _WORDS.search(str(error)[:2000]):
            return True
        error = error.__cause__
    return False


def out_of_memory() -> HTTPError:
    """Return the error for a lack of memory: the request is fine and may succeed later."""
    return HTTPError(
        503,
        "the server has not enough memory for this at the moment",
        hint=f"ask again in {_RETRY_AFTER_S} s, or send a smaller image",
        retry_after_s=_RETRY_AFTER_S,
    )
