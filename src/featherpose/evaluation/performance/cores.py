"""Work on a chosen number of processor cores, as on a machine with fewer of them.

Engines, OpenCV and numba size their thread pools once, by the cores they see. A separate process that is pinned before
it imports any of them sees exactly the cores it may use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from featherpose.errors import OptionError

__all__ = ["can_pin", "core_numbers", "run_on_cores"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def can_pin() -> bool:
    """Return whether this system lets a process choose its cores (Linux does)."""
    return hasattr(os, "sched_setaffinity")


def core_numbers() -> list[int]:
    """Return the numbers of the cores that this process may use.

    Example:
        >>> len(core_numbers()) >= 1
        True
    """
    if can_pin():
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _pin(cores: list[int]) -> None:
    if can_pin():
        os.sched_setaffinity(0, cores)


def run_on_cores(cores: int, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run a function in a separate process on this many cores, and return its result.

    Args:
        cores: How many, from 1 to those that this process may use.
        function: Found by its name in a module; arguments and result must be picklable.
        args: Its arguments.
        kwargs: Its named arguments.

    Raises:
        OptionError: If there are not so many cores.

    Example:
        >>> run_on_cores(1, len, "abc")
        3
    """
    available = core_numbers()
    if not 1 <= cores <= len(available):
        raise OptionError(f"{cores} cores", expected=f"1 to {len(available)}, which this process may use")
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_pin, initargs=(available[:cores],)) as pool:
        return pool.submit(function, *args, **kwargs).result()
