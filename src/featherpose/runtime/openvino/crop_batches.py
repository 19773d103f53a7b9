"""Compiled networks by batch size, for crops of one person.

A crop is so small that each layer of its network takes a few microseconds, about as long as the threads need to meet
at its end and as its kernel needs to come into the cache: three crops at once take half of the time of three crops one
by one. A network for a batch costs a compilation and some 50 MB, so there are two, for two and for three crops, made
when several images have asked for them: who looks at a single photograph does not wait for them.

Whether they exist must not change a result. So each is first compared, bit for bit, with the network of one crop; where
an engine rounds batches in another way it is not used.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.static_shapes import InferRequestPool, run_each

__all__ = ["LARGEST_BATCH", "NetworksByBatch", "even_parts"]

LARGEST_BATCH = 3
_logger = logging.getLogger(__name__)
# Inferences that a batch size must have been asked for before it gets its network.
_PATIENCE = 8


def even_parts(count: int, largest: int = LARGEST_BATCH) -> list[int]:
    """Return the sizes of the fewest batches that hold all crops, as even as possible.

    Example:
        >>> even_parts(3), even_parts(4), even_parts(10)
        ([3], [2, 2], [3, 3, 2, 2])
    """
    parts = -(-count // largest)
    return [count // parts + (i < count % parts) for i in range(parts)]


class NetworksByBatch:
    """Runs crops through a network of one crop, or through networks of several crops once these exist.

    Args:
        of_one: The network for one crop.
        compile_for: Compiles it for a number of crops.
    """

    def __init__(self, of_one: InferRequestPool, compile_for: Callable[[int], InferRequestPool]) -> None:
        self._one = of_one
        self._compile: Callable[[int], InferRequestPool] | None = compile_for  # None once closed
        self._batched: dict[int, InferRequestPool] = {}
        self._asked: Counter[int] = Counter()
        self._lock = Lock()

    def run(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Return each crop's outputs, channels first, in arrays of their own; None once closed."""
        found: list[list[Float32[np.ndarray, "C h w"]]] = []
        for part in self._parts(images):
            network = self._batched.get(len(part)) or self._ask_for(part)
            outputs = run_each(self._one, part) if network is None else network.run(part)
            if outputs is None:
                return None
            found += outputs
        return found

    @staticmethod
    def _parts(images: UInt8[np.ndarray, "B H W 3"]) -> Iterator[UInt8[np.ndarray, "b H W 3"]]:
        start = 0
        for size in even_parts(len(images)):
            yield images[start : start + size]
            start += size

    def _ask_for(self, part: UInt8[np.ndarray, "b H W 3"]) -> InferRequestPool | None:
        """Return the network for this many crops, if it is time to compile it; None until then.

        Other threads go on with the network of one crop meanwhile.
        """
        size = len(part)
        if size == 1 or not self._lock.acquire(blocking=False):
            return None
        try:
            self._asked[size] += 1
            if self._compile is None or self._asked[size] != _PATIENCE:  # tried once
                return None
            network = self._compile(size)
            if not self._equal(network, part):
                _logger.debug("batches of %d crops are rounded in another way here", size)
                network.close()
                return None
            self._batched[size] = network
            return network
        except Exception as error:  # the engine raises whatever its layers raise
            _logger.debug("not compiled for %d crops: %s", size, engine_message(error))
            return None
        finally:
            self._lock.release()

    def _equal(self, network: InferRequestPool, part: UInt8[np.ndarray, "b H W 3"]) -> bool:
        """Compare a network of several crops with that of one, on real crops and on noise."""
        noise = np.random.default_rng(0).integers(0, 256, part.shape, np.uint8)
        for images in (part, noise):
            ours, theirs = network.run(images), run_each(self._one, images)
            if ours is None or theirs is None:
                return False
            for mine, yours in zip(ours, theirs, strict=True):
                if not all(np.array_equal(a, b) for a, b in zip(mine, yours, strict=True)):
                    return False
        return True

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        with self._lock:
            # It holds the network's weights, which would last as long as anything that refers to this.
            self._compile = None
            for requests in (*self._batched.values(), self._one):
                requests.close()
