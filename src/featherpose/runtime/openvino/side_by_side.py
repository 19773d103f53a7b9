"""Crops of a network of many small layers: as many at once as there are streams, each on a core of its own.

The calling thread starts them itself. Threads of ours that wait for the engine's would compete with these for a core.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.openvino.static_shapes import InferRequestPool

__all__ = ["RequestsSideBySide"]

_MOST = 64


class RequestsSideBySide:
    """Runs crops in streams of one compiled network.

    Args:
        requests: Of the network.
    """

    def __init__(self, requests: InferRequestPool) -> None:
        self._requests = requests

    @property
    def most_at_once(self) -> int:
        """Return how many crops one run takes; their outputs are held until all are done."""
        return _MOST

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one crop, channels first, in arrays of their own; None once closed."""
        return self._requests.run(image)

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Return the outputs for each crop, channels first, in arrays of their own; None once closed."""
        return self._requests.run_side_by_side(images)

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        self._requests.close()
