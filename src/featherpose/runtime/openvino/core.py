"""The engine's core: one per process, with the instruction set that its INT8 kernels are safe with.

On processors with AMX, OpenVINO (2026.1 to 2026.4) crashes the process when a graph with INT8 layers has inputs of any
size (openvinotoolkit/openvino issue 37577). No setting of a network prevents it; a limit of the instruction set does,
which oneDNN reads from the environment once, when its first kernel is chosen. The limit is therefore set while the
core is made and taken back afterwards: PyTorch, which has a oneDNN of its own, keeps AMX.

Reading and compiling a network switch the process to the "C" locale and back. Two threads at once take each other's
"C" for the state to go back to; afterwards Python decodes the output of other processes as ASCII. `locale_kept`
restores what was set before the first of them.

The first array that passes between Python and OpenVINO makes pybind11 look up numpy's functions. A second thread that
needs them meanwhile waits for that in C++ with the GIL held, which the first one needs: both wait for ever. The look-up
is therefore made when this module is imported, which only one thread does.
"""

from __future__ import annotations

import locale
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import openvino as ov

from featherpose.runtime.processor import processor

__all__ = ["engine_core", "locale_kept"]

_LIMIT = "ONEDNN_MAX_CPU_ISA"
_WITHOUT_AMX = "AVX512_CORE_FP16"

_ = ov.Tensor(np.zeros(1, np.uint8)).data  # the look-up of numpy's functions, in both directions

_opening = threading.Lock()


def engine_core() -> ov.Core:
    """Return the core, one per process: the device plug-ins are loaded once.

    A limit that the user has set by ``ONEDNN_MAX_CPU_ISA`` stays as it is.

    Example:
        >>> "CPU" in engine_core().available_devices
        True
    """
    with _opening:
        return _core()


@cache
def _core() -> ov.Core:
    with _instructions_without_amx():
        core = ov.Core()
        if "CPU" in core.available_devices:
            core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # asks oneDNN, which reads the environment now
    return core


@contextmanager
def _instructions_without_amx() -> Iterator[None]:
    if not processor().amx or _LIMIT in os.environ:
        yield
        return
    os.environ[_LIMIT] = _WITHOUT_AMX
    try:
        yield
    finally:
        del os.environ[_LIMIT]


class _LocaleKeeper:
    """The locale before the first of several overlapping calls, and how many of them still run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._before = ""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._running:
                self._before = locale.setlocale(locale.LC_ALL)
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running and locale.setlocale(locale.LC_ALL) != self._before:
                    locale.setlocale(locale.LC_ALL, self._before)


locale_kept = _LocaleKeeper()
"""Context in which networks are read and compiled: the locale afterwards is the one before.

Example:
    >>> import locale
    >>> before = locale.setlocale(locale.LC_ALL)
    >>> with locale_kept():
    ...     _ = locale.setlocale(locale.LC_ALL, "C")
    >>> locale.setlocale(locale.LC_ALL) == before
    True
"""
