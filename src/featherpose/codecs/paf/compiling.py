"""How kernels are compiled: without the GIL, and kept on disk so that only the first run ever pays for it.

Machine code goes to one folder per version of the kernels, ``<user cache>/featherpose/kernels/<hash>``, or below
``NUMBA_CACHE_DIR`` where that is set. The folder is chosen once, when this module is imported, and never lies inside
the installed package, so a read-only installation works. Where no folder can be written the kernels still work;
they are then compiled in every process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import numba
import numba.core.config
import platformdirs

__all__ = ["kernel", "kernel_cache", "kernels_are_cached"]

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _sources_digest() -> str:
    # numba notices a change of the file that holds a kernel, but not of the files whose functions it inlines:
    # the folder's name therefore stands for the text of all of them.
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _find_cache() -> Path | None:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(chosen) if chosen else platformdirs.user_cache_path("featherpose", appauthor=False) / "kernels"
    folder = root / _sources_digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _log.warning("%s cannot be written (%s): decoding kernels are compiled anew in every process", folder, error)
        return None
    return folder


_CACHE = _find_cache()
# Of each kernel the folder and the name of its compiled code, as numba chooses them.
_KERNELS: list[tuple[Path, str]] = []


def kernel_cache() -> Path | None:
    """The folder that holds compiled kernels, None where none can be written."""
    return _CACHE


def kernels_are_cached() -> bool:
    """Whether compiled code of every kernel that this process has loaded lies on disk, from this run or an earlier one.

    Without it the first call takes seconds: `PafDecoder.warm_up` and `featherpose.tracking.warm_up` pay for it when
    it suits. A process that has loaded no kernel yet learns whether there are any.
    """
    if _CACHE is None:
        return False
    if not _KERNELS:
        return any(_CACHE.rglob("*.nbc"))
    return all(any(folder.glob(pattern)) for folder, pattern in _KERNELS)


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function on its first call; the machine code is cached and runs without the GIL.

    Division by zero gives infinity or NaN, as in numpy.
    """
    if _CACHE is None:
        return cast(Callable[_P, _R], numba.njit(nogil=True, error_model="numpy")(function))
    # numba reads the folder while it decorates; other packages' kernels keep their own place.
    settings = vars(numba.core.config)
    before = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(_CACHE)
    try:
        compiled = numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    finally:
        settings["CACHE_DIR"] = before
    module = Path(function.__code__.co_filename).stem
    _KERNELS.append((Path(str(compiled.stats.cache_path)), f"{module}.{function.__qualname__}-*.nbi"))
    return cast(Callable[_P, _R], compiled)
