"""Crops of a network of few, large layers: a few at once, by compiled networks for a few numbers of them.

Such a network takes half a millisecond until its weights have arrived in the caches and its threads have met, and then
another half for each crop: three crops at once take two thirds of the time that they take one by one. A network that is
compiled for any number of crops would take longer than one by one, so each number has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.runtime.openvino.static_shapes import InferRequestPool
from featherpose.runtime.openvino.worthwhile import CropOutputs, WorthwhileNetworks, one_by_one

__all__ = ["NetworksByNumber"]

_NUMBERS = (1, 2, 3, 4, 8)


class NetworksByNumber:
    """Chooses the compiled network for a number of crops.

    Args:
        of_one: The network of one crop, which was compiled first.
        compile_for: Compiles it for a number of crops.
    """

    def __init__(self, of_one: InferRequestPool, compile_for: Callable[[int], InferRequestPool]) -> None:
        self._of_one = of_one
        self._of_several = WorthwhileNetworks(compile_for)

    @property
    def most_at_once(self) -> int:
        """Return how many crops one run takes."""
        return _NUMBERS[-1]

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one crop, channels first, in arrays of their own; None once closed."""
        return self._of_one.run(image)

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> CropOutputs | None:
        """Return the outputs for each crop, channels first, in arrays of their own; None once closed."""
        found: CropOutputs = []
        while len(found) < len(images):
            others = images[len(found) :]
            outputs = self._run_number(others[: max(number for number in _NUMBERS if number <= len(others))])
            if outputs is None:
                return None
            found += outputs
        return found

    def _run_number(self, images: UInt8[np.ndarray, "B H W 3"]) -> CropOutputs | None:
        alone = partial(one_by_one, self._of_one, images)
        network = self._of_several.choose(images, alone) if len(images) > 1 else None
        return alone() if network is None else network.run_several(images)

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        self._of_several.close()
        self._of_one.close()
