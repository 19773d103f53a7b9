"""Networks that stay open from test to test: opening one takes longer than most tests of what is around it.

Results do not depend on what a network did before, so tests cannot tell; those of the engines open their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import ModelError
from featherpose.methods.method import Arrays
from featherpose.runtime.backend import Backend, EngineInfo, EngineOptions, ModelSpec, Pending

__all__ = ["KeptNetworks"]

_MOST = 3  # with its sizes each takes a hundred megabytes


class _Borrowed:
    """A `Backend` that stays open when it is closed."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._closed = backend, False

    @property
    def spec(self) -> ModelSpec:
        return self._backend.spec

    @property
    def info(self) -> EngineInfo:
        return self._backend.info

    def infer(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[Arrays]:
        return self._open().infer(images)

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Pending:
        return self._open().submit(images)

    def close(self) -> None:
        self._closed = True

    def _open(self) -> Backend:
        if self._closed:
            raise ModelError(f"the model {self._backend.info.model} was closed", hint="open it again")
        return self._backend


class KeptNetworks:
    """Stands in for `featherpose.runtime.open_backend`.

    Args:
        opener: The original.
    """

    def __init__(self, opener: Callable[[Path, ModelSpec, EngineOptions | None], Backend]) -> None:
        self._opener, self._lock = opener, Lock()
        self._kept: OrderedDict[str, Backend] = OrderedDict()

    def __call__(self, path: Path, spec: ModelSpec, options: EngineOptions | None = None) -> Backend:
        """Borrow the network of a file as it is now, which is opened if it is not open yet."""
        files = [file.stat() for file in (path, path.with_suffix(".bin")) if file.is_file()]
        key = repr((path, [(file.st_ino, file.st_size, file.st_mtime_ns) for file in files], spec, options))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._opener(path, spec, options)
                if len(self._kept) > _MOST:
                    self._kept.popitem(last=False)[1].close()
            self._kept.move_to_end(key)
            return _Borrowed(self._kept[key])

    def close(self) -> None:
        """Release all of them."""
        with self._lock:
            while self._kept:
                self._kept.popitem()[1].close()
