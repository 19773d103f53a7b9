"""Crops of a network of many small layers: as many at once as there are streams, each on a core of its own.

The calling thread starts them itself. Threads of ours that wait for the engine's would compete with these for a core.

Where that leaves a core idle for long, all cores share the work: a crop alone takes three quarters of the time on two
cores, and three at once four fifths of the time that two and then one take. Such a network takes 80 MB, so no other
number of crops has one; with more crops it gains little, or loses where the cores are far apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.openvino.static_shapes import InferRequestPool
from featherpose.runtime.openvino.worthwhile import CropOutputs, WorthwhileNetworks, one_by_one

__all__ = ["RequestsSideBySide"]

_MOST = 64


class RequestsSideBySide:
    """Runs crops in streams of one compiled network, and a few numbers of them in in_streams.

    Args:
        in_streams: Requests of the first one.
        streams: Crops that it runs at once.
        compile_together: Compiles a network that has all cores for a number of crops at once.
    """

    def __init__(
        self, in_streams: InferRequestPool, streams: int, compile_together: Callable[[int], InferRequestPool]
    ) -> None:
        self._in_streams = in_streams
        self._streams = streams
        self._together = WorthwhileNetworks(compile_together)
        self._numbers = (1, 3) if streams == 2 else (1,) if streams > 2 else ()

    @property
    def most_at_once(self) -> int:
        """Return how many crops one run takes; their outputs are held until all are done."""
        return _MOST

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one crop, channels first, in arrays of their own; None once closed."""
        found = self.run_several(image)
        return None if found is None else found[0]

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> CropOutputs | None:
        """Return the outputs for each crop, channels first, in arrays of their own; None once closed."""
        in_streams = partial(self._run_in_streams, images)
        network = self._together.choose(images, in_streams) if len(images) in self._numbers else None
        return in_streams() if network is None else network.run_several(images)

    def _run_in_streams(self, images: UInt8[np.ndarray, "B H W 3"]) -> CropOutputs | None:
        if len(images) > 1 and self._streams > 1:
            return self._in_streams.run_side_by_side(images)
        return one_by_one(self._in_streams, images)

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        self._together.close()
        self._in_streams.close()
