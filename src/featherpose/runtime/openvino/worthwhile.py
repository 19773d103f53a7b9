"""Networks for several crops at once, compiled when they are worth it and checked before they are used.

Compiling takes as long as a hundred crops or more, so a number of crops has its network when it has come several times:
a single photograph does not wait for it. Crops at once have the outputs that they have otherwise, bit for bit; that is
checked on the first crops of each number, and a network that breaks it is not used. So results do not depend on earlier
calls.
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

__all__ = ["CropOutputs", "WorthwhileNetworks", "one_by_one"]

_logger = logging.getLogger(__name__)
_WORTH_COMPILING = 8
"""Times that a number of crops has come."""

CropOutputs = list[list[Float32[np.ndarray, "C h w"]]]
"""Of each crop the outputs, channels first."""


class WorthwhileNetworks:
    """Keeps one network for each number of crops that comes often.

    Args:
        compile_for: Compiles the network for a number of crops.
    """

    def __init__(self, compile_for: Callable[[int], InferRequestPool]) -> None:
        self._compile: Callable[[int], InferRequestPool] | None = compile_for  # None once closed
        self._networks: dict[int, InferRequestPool] = {}
        self._seen: Counter[int] = Counter()
        self._unfit: set[int] = set()
        self._lock = Lock()

    def choose(
        self, images: UInt8[np.ndarray, "B H W 3"], otherwise: Callable[[], CropOutputs | None]
    ) -> InferRequestPool | None:
        """Return the network for so many crops, None if there is none yet; the first call waits for its compilation.

        Args:
            images: The crops.
            otherwise: Runs them without it; called to compare.
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
                if _equal(network.run_several(images), otherwise()):
                    self._networks[count] = network
                    return network
                _logger.debug("%s crops at once have other outputs than otherwise", count)
            except Exception as error:  # the engine raises whatever its layers raise
                _logger.debug("not compiled for %s crops: %s", count, engine_message(error))
            self._unfit.add(count)
            return None

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        with self._lock:
            self._compile = None  # it holds the network's weights
            for requests in self._networks.values():
                requests.close()
            self._networks = {}


def one_by_one(requests: InferRequestPool, images: UInt8[np.ndarray, "B H W 3"]) -> CropOutputs | None:
    """Return the outputs for each crop, run alone; None once the requests are closed."""
    found: CropOutputs = []
    for i in range(len(images)):
        outputs = requests.run(images[i : i + 1])
        if outputs is None:
            return None
        found.append(outputs)
    return found


def _equal(one: CropOutputs | None, other: CropOutputs | None) -> bool:
    if one is None or other is None:
        return False
    return all(np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))
