"""Compiled networks of crops by the number of crops: one each for one to four.

A network of few, large layers takes half a millisecond until its weights have arrived in the caches and its threads
have met, and then another half for each crop: three crops at once take two thirds of the time that they take one by
one. A network that is compiled for any number of crops would take longer than one by one, so each number has its own.

Crops at once have the outputs that they have alone, bit for bit (``tests/runtime/test_batches.py``); the network that
answers is a function of their number alone all the same, so that results never depend on earlier calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.static_shapes import InferRequestPool

__all__ = ["NetworksByNumber"]

_logger = logging.getLogger(__name__)
_MOST = 4


class NetworksByNumber:
    """Chooses the compiled network for a number of crops.

    Args:
        of_one: The network of one crop, which was compiled first.
        compile_for: Compiles it for a number of crops.
    """

    def __init__(self, of_one: InferRequestPool, compile_for: Callable[[int], InferRequestPool]) -> None:
        self._compile: Callable[[int], InferRequestPool] | None = compile_for  # None once closed
        self._networks: dict[int, InferRequestPool] = {1: of_one}
        self._unfit: set[int] = set()
        self._lock = Lock()

    @property
    def most_at_once(self) -> int:
        """Return how many crops one run takes."""
        return _MOST

    def choose(self, count: int) -> InferRequestPool | None:
        """Return the network of so many crops, None if there can be none; its first run waits for the compilation."""
        with self._lock:
            if count not in self._networks and count not in self._unfit and self._compile is not None:
                try:
                    self._networks[count] = self._compile(count)
                except Exception as error:  # the engine raises whatever its layers raise
                    _logger.debug("not compiled for %s crops: %s", count, engine_message(error))
                    self._unfit.add(count)
            return self._networks.get(count)

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one crop, channels first, in arrays of their own; None once closed."""
        return self._networks[1].run(image)

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Return the outputs for each crop, channels first, in arrays of their own; None once closed."""
        network = self.choose(len(images))
        if network is not None:
            return network.run_several(images)
        found: list[list[Float32[np.ndarray, "C h w"]]] = []
        for i in range(len(images)):
            outputs = self.run(images[i : i + 1])
            if outputs is None:
                return None
            found.append(outputs)
        return found

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        with self._lock:
            # It holds the network's weights, which would last as long as anything that refers to this.
            self._compile = None
            for requests in self._networks.values():
                requests.close()
            self._networks = {1: self._networks[1]}
