"""One network compiled for any size, and once more for a size that keeps coming.

With an open size the engine works out shapes again in every inference and joins fewer layers: a fifth of the time of
a network of many small layers. A folder of photographs is better off with it all the same, because a network for
every size costs a compilation each and memory without end. The frames of a film, a camera or a stream are all of one
size: theirs is worth a compilation, some tenths of a second.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from queue import LifoQueue
from threading import Lock
from typing import Any

import cv2
import numpy as np
import openvino as ov
from jaxtyping import Float32, UInt8

from featherpose.runtime.backend import SETTLED_AFTER
from featherpose.runtime.validation import engine_message

__all__ = ["FittedNetworks", "Requests"]

_logger = logging.getLogger(__name__)
# Sizes that are kept, the latest used: each holds memory for its feature maps.
_KEPT_SIZES = 2


class Requests:
    """The requests of one compiled network, each lent to one caller at a time.

    Args:
        compiled: An ``openvino.CompiledModel`` whose outputs are channels last, float32.
        outputs: Names of the outputs that are wanted.
        count: Inferences at once.
    """

    def __init__(self, compiled: Any, outputs: Sequence[str], count: int) -> None:
        self._outputs = tuple(compiled.output(name) for name in outputs)
        self._count = count
        self._closed = False
        # The one used last comes first: its memory is still in the cache.
        self._idle: LifoQueue[Any] = LifoQueue()
        self._closing = Lock()
        for _ in range(count):
            self._idle.put(compiled.create_infer_request())

    def run(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """The outputs of each picture, channels first, in arrays of their own; None once closed.

        The input is read in place. Turning the output channels first is the one copy, which frees the request for the
        next picture; left to the engine it takes several times as long.
        """
        if self._closed:
            return None
        request = self._idle.get()
        if request is None:
            self._idle.put(None)  # for the next one that was waiting
            return None
        try:
            request.set_input_tensor(ov.Tensor(images, shared_memory=True))
            request.start_async()
            request.wait()
            found = [request.get_tensor(output).data for output in self._outputs]
            return [[_channels_first(maps[i]) for maps in found] for i in range(len(images))]
        finally:
            self._idle.put(request)

    def close(self) -> None:
        """Wait for running inferences and let the requests go; calling it again does nothing."""
        self._closed = True  # or busy threads would take the requests from under our nose
        with self._closing:
            while self._count:
                self._idle.get()  # waits for the inferences of other threads
                self._count -= 1
            self._idle.put(None)  # whoever comes now, and everybody after that
        self._outputs = ()


def _channels_first(maps: Float32[np.ndarray, "h w C"]) -> Float32[np.ndarray, "C h w"]:
    height, width, channels = maps.shape
    return np.asarray(cv2.transpose(maps.reshape(height * width, channels)), np.float32).reshape(
        channels, height, width
    )


class FittedNetworks:
    """Which compiled network answers for an input.

    Results of the two kinds differ by rounding, so which one answers follows from the order of the inputs alone, never
    from the clock: whoever asks for the inference that completes a row waits for the compilation.

    Args:
        of_any_size: The network that was compiled first.
        fitted_to: Compiles it for one shape.
    """

    def __init__(self, of_any_size: Requests, fitted_to: Callable[[tuple[int, ...]], Requests]) -> None:
        self._any = of_any_size
        self._fitted_to = fitted_to
        self._fitted: OrderedDict[tuple[int, ...], Requests] = OrderedDict()
        self._last: tuple[int, ...] = ()
        self._in_a_row = 0
        self._closed = False
        self._lock = Lock()

    def choose(self, shape: tuple[int, ...]) -> Requests:
        """The network for an input of this shape; the shape counts as seen."""
        with self._lock:
            if shape in self._fitted:
                self._fitted.move_to_end(shape)
                return self._fitted[shape]
            self._in_a_row = self._in_a_row + 1 if shape == self._last else 1
            self._last = shape
            if self._in_a_row < SETTLED_AFTER or self._closed:
                return self._any
            try:
                fitted = self._fitted_to(shape)
            except Exception as error:  # the engine raises whatever its layers raise
                _logger.debug("not compiled for %s: %s", shape, engine_message(error))
                fitted = self._any  # and no second try for this size
            self._fitted[shape] = fitted
            if len(self._fitted) > _KEPT_SIZES:
                self._fitted.popitem(last=False)  # goes when its last user is done
            return fitted

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        with self._lock:
            self._closed = True
            for requests in (*self._fitted.values(), self._any):
                requests.close()
