"""A compiled network for three crops beside that for one: crops of one person run faster together.

A crop is so small that each layer of its network takes a few microseconds, about as long as the threads need to meet
at its end and as its kernel needs to come into the cache: three crops at once take two thirds of the time of three
crops one by one. The network for a batch costs a compilation and some 90 MB, most of it kernels, so there is one. It is
made in the background when several images have had three people; until then crops run one by one.

Whether it exists must not change a result. So it is first compared, bit for bit, with the network of one crop; where an
engine rounds batches in another way it is not used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from threading import Lock, Thread

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.static_shapes import InferRequestPool, run_each

__all__ = ["BATCH", "BatchedNetworks"]

BATCH = 3
"""Crops that run together; the rest run one by one."""
_logger = logging.getLogger(__name__)
# How often a batch must have been asked for before it gets its network.
_PATIENCE = 8


class BatchedNetworks:
    """Runs crops three by three once that pays, and one by one until then.

    Args:
        of_one: The network for one crop.
        compile_for: Compiles it for a number of crops.
    """

    def __init__(self, of_one: InferRequestPool, compile_for: Callable[[int], InferRequestPool]) -> None:
        self._one = of_one
        self._compile: Callable[[int], InferRequestPool] | None = compile_for  # None once closed
        self._batched: InferRequestPool | None = None
        self._asked = 0
        self._preparing: Thread | None = None
        self._lock = Lock()

    def run(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Return each crop's outputs, channels first, in arrays of their own; None once closed."""
        found: list[list[Float32[np.ndarray, "C h w"]]] = []
        whole = len(images) - len(images) % BATCH
        for start in range(0, whole, BATCH):
            part = images[start : start + BATCH]
            network = self._batched
            if network is None:
                self._ask_for(part)
                outputs = run_each(self._one, part)
            else:
                outputs = network.run(part)
            if outputs is None:
                return None
            found += outputs
        rest = run_each(self._one, images[whole:])
        return None if rest is None else found + rest

    def _ask_for(self, part: UInt8[np.ndarray, "b H W 3"]) -> None:
        """Start to compile the network of a batch if it is time for it; nobody waits for that."""
        with self._lock:
            self._asked += 1
            if self._compile is None or self._asked != _PATIENCE:  # tried once
                return
            work = partial(self._prepare, self._compile, part.copy())
            self._preparing = Thread(target=work, name="featherpose-crop-batches")
            self._preparing.start()

    def _prepare(self, compile_for: Callable[[int], InferRequestPool], part: UInt8[np.ndarray, "b H W 3"]) -> None:
        """Compile the network of a batch, compare it, and use it from now on."""
        try:
            network = compile_for(BATCH)
            if self._equal(network, part):
                self._batched = network
            else:
                _logger.debug("batches of crops are rounded in another way here")
                network.close()
        except Exception as error:  # the engine raises whatever its layers raise
            _logger.debug("not compiled for batches of crops: %s", engine_message(error))

    def _equal(self, network: InferRequestPool, part: UInt8[np.ndarray, "b H W 3"]) -> bool:
        """Compare the network of a batch with that of one crop, on real crops and on noise."""
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
        if self._preparing is not None:
            self._preparing.join()
        for requests in (self._batched, self._one):
            if requests is not None:
                requests.close()
