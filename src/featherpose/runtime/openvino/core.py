"""The engine's core: one per process, with the instruction set that its INT8 kernels are safe with.

On processors with AMX, OpenVINO (2026.1 to 2026.4) crashes the process when a graph with INT8 layers has inputs of any
size (openvinotoolkit/openvino issue 37577). No setting of a network prevents it; a limit of the instruction set does,
which oneDNN reads from the environment once, when its first kernel is chosen. The limit is therefore set while the
core is made and taken back afterwards: PyTorch, which has a oneDNN of its own, keeps AMX.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import openvino as ov

from featherpose.runtime.processor import processor

__all__ = ["engine_core"]

_LIMIT = "ONEDNN_MAX_CPU_ISA"
_WITHOUT_AMX = "AVX512_CORE_FP16"


@cache
def engine_core() -> ov.Core:
    """Return the core, one per process: the device plug-ins are loaded once.

    A limit that the user has set by ``ONEDNN_MAX_CPU_ISA`` stays as it is.

    Example:
        >>> "CPU" in engine_core().available_devices
        True
    """
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
