"""Compiled networks of crops by the number of crops: one each for a few numbers.

A network of few, large layers takes half a millisecond until its weights have arrived in the caches and its threads
have met, and then another half for each crop: three crops at once take two thirds of the time that they take one by
one. A network that is compiled for any number of crops would take longer than one by one, so each number has its own.

Compiling takes longer than a hundred crops, so a number is compiled when it has come several times: a single
photograph does not wait for it. Crops at once have the outputs that they have alone, bit for bit; that is checked on
the first crops of each number, and crops of a network that breaks it run one by one for ever. So results do not depend
on earlier calls.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.static_shapes import InferRequestPool

__all__ = ["NetworksByNumber"]

_logger = logging.getLogger(__name__)
_NUMBERS = (1, 2, 3, 4, 8)
_WORTH_COMPILING = 8
"""Times that a number of crops has come."""

_Outputs = list[list[Float32[np.ndarray, "C h w"]]]


class NetworksByNumber:
    """Chooses the compiled network for a number of crops.

    Args:
        of_one: The network of one crop, which was compiled first.
        compile_for: Compiles it for a number of crops.
    """

    def __init__(self, of_one: InferRequestPool, compile_for: Callable[[int], InferRequestPool]) -> None:
        self._compile: Callable[[int], InferRequestPool] | None = compile_for  # None once closed
        self._networks: dict[int, InferRequestPool] = {1: of_one}
        self._seen: Counter[int] = Counter()
        self._unfit: set[int] = set()
        self._lock = Lock()

    @property
    def most_at_once(self) -> int:
        """Return how many crops one run takes."""
        return _NUMBERS[-1]

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one crop, channels first, in arrays of their own; None once closed."""
        return self._networks[1].run(image)

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> _Outputs | None:
        """Return the outputs for each crop, channels first, in arrays of their own; None once closed."""
        found: _Outputs = []
        while len(found) < len(images):
            others = images[len(found) :]
            some = others[: max(number for number in _NUMBERS if number <= len(others))]
            network = self._choose(some)
            outputs = self._one_by_one(some) if network is None else network.run_several(some)
            if outputs is None:
                return None
            found += outputs
        return found

    def _choose(self, images: UInt8[np.ndarray, "B H W 3"]) -> InferRequestPool | None:
        """Return the network of so many crops, None where they run one by one; a first run waits for its compilation.

        Args:
            images: The crops, on which a new network is compared with the one of one crop.
        """
        count = len(images)
        with self._lock:
            if count in self._networks or count in self._unfit or self._compile is None:
                return self._networks.get(count)
            self._seen[count] += 1
            if self._seen[count] < _WORTH_COMPILING:
                return None
            try:
                network = self._compile(count)
                if _equal(network.run_several(images), self._one_by_one(images)):
                    self._networks[count] = network
                    return network
                _logger.debug("%s crops at once have other outputs than alone", count)
            except Exception as error:  # the engine raises whatever its layers raise
                _logger.debug("not compiled for %s crops: %s", count, engine_message(error))
            self._unfit.add(count)
            return None

    def _one_by_one(self, images: UInt8[np.ndarray, "B H W 3"]) -> _Outputs | None:
        found: _Outputs = []
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


def _equal(one: _Outputs | None, other: _Outputs | None) -> bool:
    if one is None or other is None:
        return False
    return all(np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))
