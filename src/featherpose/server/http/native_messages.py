"""Keeps messages of C libraries about uploaded files out of the server's log."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["own_stderr"]


@contextmanager
def own_stderr() -> Iterator[None]:
    """Give Python a standard error of its own, and discard that of the C libraries.

    libpng and libjpeg print a line for each oddity of a file, as often as it has them, and have no other switch than
    the file descriptor that they write to. Everything that Python logs is written as before. A crash of native code
    shows the Python stack of each thread instead of the library's message.

    Nothing happens where ``sys.stderr`` is not the process's standard error.
    """
    stderr = sys.stderr
    try:
        usual = stderr is not None and stderr.fileno() == 2
    except (OSError, ValueError):  # replaced by something without a descriptor, or closed
        usual = False
    if not usual:
        yield
        return
    stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    own = os.fdopen(os.dup(kept), "w", buffering=1, encoding=stderr.encoding, errors=stderr.errors)
    traced = faulthandler.is_enabled()
    os.dup2(null, 2)
    os.close(null)
    sys.stderr = own
    faulthandler.enable(own)
    try:
        yield
    finally:
        if traced:
            faulthandler.enable(stderr)
        else:
            faulthandler.disable()
        sys.stderr = stderr
        own.close()
        os.dup2(kept, 2)
        os.close(kept)
