"""The part of a backend that every engine shares: checks, named outputs, inferences in flight, forks, closing.

The threads of an inference engine do not exist in a child of ``os.fork()`` (multiprocessing on Linux, ``gunicorn
--preload``, workers of data loaders): an inference there would never end, and neither would releasing the engine. So a
child leaves the parent's network alone and loads one of its own when it first needs it.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.errors import ModelError, OutOfMemoryError
from featherpose.methods.method import Arrays
from featherpose.runtime.async_runner import AsyncRunner
from featherpose.runtime.backend import EngineInfo, ModelSpec
from featherpose.runtime.checks import SMALLER, check_images, engine_message, is_out_of_memory

__all__ = ["EngineBackend", "Network", "NetworkOfSeveral"]


class Network(Protocol):
    """A model that one engine has loaded; all that an engine must provide."""

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Run one image and return the outputs in the order of the spec, in arrays of their own; None once closed.

        Any number of threads may call it; it may raise whatever the engine raises.
        """
        ...

    def close(self) -> None:
        """Wait for running inferences and release the engine's memory; calling it again does nothing."""
        ...


@runtime_checkable
class NetworkOfSeveral(Network, Protocol):
    """A network that is faster with a few images at once; each has the same outputs alone and among others."""

    @property
    def most_at_once(self) -> int:
        """Return how many images one run takes."""
        ...

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Run up to so many images and return the outputs of each, as `run` does for one."""
        ...


_Outputs = list[list[Float32[np.ndarray, "C h w"]]]
"""Of each image the outputs, in the order of the spec."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A network of this process, how it runs images, and the threads that wait for it."""

    network: Network
    most_at_once: int
    run: Callable[[UInt8[np.ndarray, "B H W 3"]], _Outputs | None]
    runner: AsyncRunner

    @classmethod
    def of(cls, network: Network, limit: int) -> _Loaded:
        """Find out once whether the network takes several images."""
        if isinstance(network, NetworkOfSeveral):
            return cls(network, network.most_at_once, network.run_several, AsyncRunner(limit))

        def run(image: UInt8[np.ndarray, "1 H W 3"]) -> _Outputs | None:
            outputs = network.run(image)
            return None if outputs is None else [outputs]

        return cls(network, 1, run, AsyncRunner(limit))


class EngineBackend:
    """A `featherpose.runtime.backend.Backend` on a network that one engine loads.

    The images of a batch run one after another, or a few at once where the network is faster so. An image gives the
    same result alone and among others.

    Args:
        load: Loads the network and returns it with what really runs; called now, and once in each forked child that
            uses the backend.
        spec: What the pipeline must know of the model.
        limit: Inferences that may be under way at once, at least 1.
    """

    def __init__(self, load: Callable[[], tuple[Network, EngineInfo]], spec: ModelSpec, limit: int) -> None:
        self._load = load
        self._spec = spec
        self._limit = limit
        self._names = [output.name for output in spec.outputs]
        self._lock = Lock()
        self._closed = False
        network, self._info = load()
        self._loaded: _Loaded | None = _Loaded.of(network, limit)
        _opened.add(self)

    @property
    def spec(self) -> ModelSpec:
        """Return the facts of the model."""
        return self._spec

    @property
    def info(self) -> EngineInfo:
        """Return the facts of the running engine."""
        return self._info

    def infer(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[Arrays]:
        """Run the network now; the input is read in place, the result owns its arrays.

        Raises:
            OptionError: If the input has a size or type that the network cannot take.
            ModelError: If the engine failed or was closed.
        """
        here = self._here()
        if self._spec.crop is None or not self._spec.side_by_side or here.most_at_once > 1 or len(images) < 2:
            return self._run(here, images)
        # An engine that takes crops one by one gets them from several threads, so that each core has one.
        one_by_one = (images[i : i + 1] for i in range(len(images)))
        pending = [here.runner.submit(partial(self._run, here, image)) for image in one_by_one]
        return [answer for inference in pending for answer in inference.result()]

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Future[list[Arrays]]:
        """Start the network and return at once; blocks only while all requests are busy."""
        here = self._here()
        return here.runner.submit(partial(self._run, here, images))

    def close(self) -> None:
        """Wait for running inferences and release the engine's memory; calling it again does nothing."""
        self._closed = True
        if self._loaded is not None:
            self._loaded.runner.close()
            self._loaded.network.close()

    def _run(self, loaded: _Loaded, images: UInt8[np.ndarray, "B H W 3"]) -> list[Arrays]:
        images = check_images(images, self._spec)
        found: list[Arrays] = []
        for start in range(0, len(images), loaded.most_at_once):
            try:
                outputs = loaded.run(images[start : start + loaded.most_at_once])
            except Exception as error:  # the engine raises whatever its layers raise
                if is_out_of_memory(error):
                    raise OutOfMemoryError(
                        f"there is not enough memory to run {self._info.model} on an input of shape {images.shape}",
                        hint=SMALLER,
                    ) from error
                engine = self._info.engine.partition(" ")[0]
                raise ModelError(
                    f"{engine} failed on an input of shape {images.shape} ({engine_message(error)})"
                ) from error
            if outputs is None:
                raise ModelError(f"the model {self._info.model} was closed", hint="open it again")
            found += [dict(zip(self._names, one, strict=True)) for one in outputs]
        return found

    def _here(self) -> _Loaded:
        """Return the network of this process; a forked child loads it."""
        if self._loaded is not None:
            return self._loaded
        with self._lock:
            if self._closed:
                raise ModelError(f"the model {self._info.model} was closed", hint="open it again")
            if self._loaded is None:
                self._loaded = _Loaded.of(self._load()[0], self._limit)
            return self._loaded

    def _leave_to_parent(self) -> None:
        """Forget the parent's network in a forked child, without releasing it: that would wait for its threads."""
        if self._loaded is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._loaded))  # never freed, not even at exit
        self._loaded = None
        self._lock = Lock()


_opened: weakref.WeakSet[EngineBackend] = weakref.WeakSet()


def _after_fork() -> None:
    for backend in list(_opened):
        backend._leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
