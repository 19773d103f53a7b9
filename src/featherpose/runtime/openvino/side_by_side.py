"""Crops of a network of many small layers: as many at once as there are streams, and one that comes alone on all cores.

The calling thread starts them itself. Threads of ours that wait for the engine's would compete with these for a core.

A crop on two cores takes three quarters of the time that it takes on one, but the network for it takes half a second
to compile, and 80 MB. So it is made when crops have come alone several times: a photograph does not wait for it, a
video of one person has it from the eighth frame on. Both give the same outputs, bit for bit; that is checked on the
first crop, and a network that breaks it is not used. So results do not depend on earlier calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.static_shapes import InferRequestPool

__all__ = ["RequestsSideBySide"]

_logger = logging.getLogger(__name__)
_MOST = 64
_WORTH_COMPILING = 8
"""Crops that have come alone."""


class RequestsSideBySide:
    """Runs crops in streams of one compiled network, and one that comes alone in another.

    Args:
        in_streams: Requests of the first one.
        streams: Crops that it runs at once.
        compile_alone: Compiles the other one, which has all cores for one crop.
    """

    def __init__(
        self, in_streams: InferRequestPool, streams: int, compile_alone: Callable[[], InferRequestPool]
    ) -> None:
        self._in_streams = in_streams
        self._streams = streams
        self._compile: Callable[[], InferRequestPool] | None = compile_alone if streams > 1 else None
        self._alone = in_streams
        self._singles = 0
        self._lock = Lock()

    @property
    def most_at_once(self) -> int:
        """Return how many crops one run takes; their outputs are held until all are done."""
        return _MOST

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one crop, channels first, in arrays of their own; None once closed."""
        if self._compile is not None:
            self._count_single(image)
        return self._alone.run(image)

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Return the outputs for each crop, channels first, in arrays of their own; None once closed."""
        if len(images) > 1 and self._streams > 1:
            return self._in_streams.run_side_by_side(images)
        found = []
        for i in range(len(images)):
            outputs = self.run(images[i : i + 1])
            if outputs is None:
                return None
            found.append(outputs)
        return found

    def _count_single(self, image: UInt8[np.ndarray, "1 H W 3"]) -> None:
        """Compile the network for a crop alone if such have come often enough."""
        with self._lock:
            self._singles += 1
            if self._compile is None or self._singles < _WORTH_COMPILING:
                return
            compile_alone, self._compile = self._compile, None
            try:
                alone = compile_alone()
                found, expected = alone.run(image), self._in_streams.run(image)
                if found is not None and expected is not None and all(map(np.array_equal, found, expected)):
                    self._alone = alone
                else:
                    _logger.debug("a crop on all cores has other outputs than on one")
            except Exception as error:  # the engine raises whatever its layers raise
                _logger.debug("not compiled for a crop alone: %s", engine_message(error))

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        with self._lock:
            self._compile = None  # it holds the network's weights
            self._alone.close()
            self._in_streams.close()
