"""Compiled kernels: without the GIL, and cached on disk so that only the first run compiles.

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
    here = Path(__file__)
    rooms = ("crop_prior.py", "methods/**/*.py", "oks.py", "rating/*.py", "topdown/*.py", "tracking/*.py")
    for source in (here, *(path for room in rooms for path in sorted(here.parent.glob(room)))):
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
# Of each kernel its module, and the folder and name of its compiled code as numba chooses them.
_KERNELS: list[tuple[str, Path, str]] = []


def kernel_cache() -> Path | None:
    """Return the folder of compiled kernels, None where none can be written."""
    return _CACHE


def kernels_are_cached(*modules: str) -> bool:
    """Return whether compiled code of the kernels of some modules lies on disk, from this run or an earlier one.

    Without it the first call takes seconds; a decoder's ``warm_up`` and `featherpose.tracking.warm_up` compile in
    advance. A process that has loaded no kernel yet gets the answer for any kernel.

    Args:
        modules: Names of modules or packages, such as a method's ``kernel_modules``; all that are loaded if none is
            named.
    """
    if _CACHE is None:
        return False
    if not _KERNELS:
        return any(_CACHE.rglob("*.nbc"))
    wanted = [
        (folder, pattern)
        for module, folder, pattern in _KERNELS
        if not modules or any(module == name or module.startswith(f"{name}.") for name in modules)
    ]
    return all(any(folder.glob(pattern)) for folder, pattern in wanted)


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
    file = Path(function.__code__.co_filename).stem
    _KERNELS.append(
        (function.__module__, Path(str(compiled.stats.cache_path)), f"{file}.{function.__qualname__}-*.nbi")
    )
    return cast(Callable[_P, _R], compiled)
