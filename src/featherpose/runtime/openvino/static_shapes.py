"""Compiled networks by input shape: one of any size, and one each for the shapes of ordinary video.

With a dynamic size the engine computes shapes again in every inference and fuses fewer layers: up to a fifth of the
time of a network of many small layers. It still suits a folder of images, because a network for every size costs a
compilation and 35 MB each. Video, cameras and many photographs have one of three aspect ratios, for which a static
network pays off.

The two kinds differ by rounding, so the choice is a function of the input's shape alone: the same image gives the same
output, independent of earlier calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, LifoQueue
from threading import Lock
from typing import Any

import cv2
import numpy as np
import openvino as ov
from jaxtyping import Float32, UInt8

from featherpose.preprocess import fit
from featherpose.runtime.checks import engine_message

__all__ = ["InferRequestPool", "NetworksByShape", "is_video_shape"]

_logger = logging.getLogger(__name__)
# Aspect ratios (width, height) of nearly all video: landscape, portrait, and older or smaller cameras.
_VIDEO_ASPECTS = ((16, 9), (9, 16), (4, 3))


class InferRequestPool:
    """Requests of one compiled network, each used by one caller at a time.

    A run takes as many images as the network was compiled for.

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

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one image, as `run_several` does."""
        found = self.run_several(image)
        return None if found is None else found[0]

    def run_several(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Return the outputs for each image, channels first, in arrays of their own; None once closed.

        The input is read in place. The transposition to channels first is the one copy, which frees the request for the
        next image; in the engine it takes several times as long.
        """
        request = self._take()
        if request is None:
            return None
        try:
            request.set_input_tensor(ov.Tensor(images, shared_memory=True))
            # In this thread: the hand-over to one of the engine's takes up to a tenth of a network's time.
            request.infer()
            return self._outputs_of(request, len(images))
        finally:
            self._idle.put(request)

    def run_side_by_side(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[list[Float32[np.ndarray, "C h w"]]] | None:
        """Return the outputs for each image as `run_several` does, each image in a request of its own.

        The engine runs as many at once as it has streams. Requests that others hold are not waited for, only one is.
        """
        first = self._take()
        if first is None:
            return None
        requests = [first]
        with suppress(Empty):
            while len(requests) < min(len(images), self._count) and (another := self._take(wait=False)) is not None:
                requests.append(another)
        found: list[list[Float32[np.ndarray, "C h w"]]] = []
        try:
            for i in range(len(images) + len(requests)):
                request = requests[i % len(requests)]
                if i >= len(requests):  # the oldest that is under way
                    request.wait()
                    found += self._outputs_of(request, 1)
                if i < len(images):
                    request.set_input_tensor(ov.Tensor(images[i : i + 1], shared_memory=True))
                    request.start_async()
        finally:
            for request in requests:
                with suppress(RuntimeError):  # of an inference beside the one whose error is on its way
                    request.wait()
                self._idle.put(request)
        return found

    def _take(self, *, wait: bool = True) -> Any:
        """Return a request, None once closed.

        Raises:
            Empty: If others hold all requests and ``wait`` is not set.
        """
        if self._closed:
            return None
        request = self._idle.get(wait)
        if request is None:
            self._idle.put(None)  # for the next caller
        return request

    def _outputs_of(self, request: Any, count: int) -> list[list[Float32[np.ndarray, "C h w"]]]:
        found = [request.get_tensor(output).data for output in self._outputs]
        return [[_channels_first(output[i]) for output in found] for i in range(count)]

    def close(self) -> None:
        """Wait for running inferences and release the requests; calling it again does nothing."""
        self._closed = True  # otherwise busy threads would take the requests first
        with self._closing:
            while self._count:
                self._idle.get()  # waits for the inferences of other threads
                self._count -= 1
            self._idle.put(None)  # for all later callers
        self._outputs = ()


def _channels_first(maps: Float32[np.ndarray, "h w C"]) -> Float32[np.ndarray, "C h w"]:
    height, width, channels = maps.shape
    return np.asarray(cv2.transpose(maps.reshape(height * width, channels)), np.float32).reshape(
        channels, height, width
    )


def is_video_shape(shape: Sequence[int], size_multiple: int) -> bool:
    """Return whether a network input of this shape is what an image of a common video aspect ratio becomes.

    Args:
        shape: (1, H, W, 3); batches have no network of their own.
        size_multiple: Of the network's input.

    Example:
        >>> is_video_shape((1, 256, 456, 3), 8), is_video_shape((1, 256, 400, 3), 8)
        (True, False)
    """
    batch, rows, width, _ = shape
    sizes = (fit(aspect, height=rows, size_multiple=size_multiple).network_size for aspect in _VIDEO_ASPECTS)
    return batch == 1 and (width, rows) in sizes


class NetworksByShape:
    """Chooses the compiled network for an input: a pure function of its shape.

    At most three static shapes of one input height are kept, so memory is bounded; another height starts anew.

    Args:
        of_any_size: The network that was compiled first.
        compile_for: Compiles it for one shape.
        size_multiple: Of the network's input.
    """

    def __init__(
        self,
        of_any_size: InferRequestPool,
        compile_for: Callable[[tuple[int, ...]], InferRequestPool],
        size_multiple: int,
    ) -> None:
        self._any = of_any_size
        self._compile: Callable[[tuple[int, ...]], InferRequestPool] | None = compile_for  # None once closed
        self._size_multiple = size_multiple
        self._static: dict[tuple[int, ...], InferRequestPool] = {}
        self._unfit: set[tuple[int, ...]] = set()
        self._lock = Lock()

    def choose(self, shape: tuple[int, ...]) -> InferRequestPool:
        """Return the network for an input shape; the first input of a static shape waits for its compilation."""
        if not is_video_shape(shape, self._size_multiple):
            return self._any
        with self._lock:
            if self._compile is None or shape in self._unfit:
                return self._any
            if shape not in self._static:
                for other in [kept for kept in self._static if kept[1] != shape[1]]:
                    del self._static[other]  # released when its last user is done
                try:
                    self._static[shape] = self._compile(shape)
                except Exception as error:  # the engine raises whatever its layers raise
                    _logger.debug("not compiled for %s: %s", shape, engine_message(error))
                    self._unfit.add(shape)
                    return self._any
            return self._static[shape]

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[Float32[np.ndarray, "C h w"]] | None:
        """Return the outputs for one image, channels first, in arrays of their own; None once closed."""
        return self.choose(image.shape).run(image)

    def close(self) -> None:
        """Wait for running inferences and release everything; calling it again does nothing."""
        with self._lock:
            # It holds the network's weights, which would last as long as anything that refers to this.
            self._compile = None
            for requests in (*self._static.values(), self._any):
                requests.close()
            self._static.clear()
