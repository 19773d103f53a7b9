"""Three crops run together once it pays; a crop gives the same answer alone and among others, before and after."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, cast

import numpy as np
import pytest

from featherpose.runtime import EngineOptions, open_backend
from featherpose.runtime.openvino.crop_batches import BatchedNetworks
from featherpose.runtime.openvino.static_shapes import InferRequestPool
from featherpose.zoo.resolve import resolve_model


def settle() -> None:
    """Wait for networks that are being made."""
    for thread in threading.enumerate():
        if thread.name == "featherpose-crop-batches":
            thread.join()


class _Sums:
    """Stands for a compiled network: the sum of each crop, and an error of its own."""

    def __init__(self, calls: list[int], error: float = 0) -> None:
        self.calls, self.error, self.closed = calls, error, False

    def run(self, images: np.ndarray) -> list[list[np.ndarray]] | None:
        if threading.current_thread() is threading.main_thread():  # the comparison has a thread of its own
            self.calls.append(len(images))
        if self.closed:
            return None
        return [[np.full((1, 1, 1), image.sum() + self.error, np.float32)] for image in images]

    def close(self) -> None:
        self.closed = True


class _Compiler:
    def __init__(self, *, error: float = 0, failing: bool = False) -> None:
        self.calls: list[int] = []
        self.made: list[_Sums] = []
        self.sizes: list[int] = []
        self.one = _Sums(self.calls)
        self._error, self._failing = error, failing
        self.networks = BatchedNetworks(cast(InferRequestPool, self.one), self._compile)

    def _compile(self, count: int) -> InferRequestPool:
        self.sizes.append(count)
        if self._failing:
            raise RuntimeError("no memory for another")
        self.made.append(_Sums(self.calls, self._error))
        return cast(InferRequestPool, self.made[-1])

    def ask(self, count: int, times: int = 1) -> list[int]:
        """Return the batches of the last run, after checking every answer."""
        crops = np.random.default_rng(count).integers(0, 256, (count, 4, 2, 3), np.uint8)
        for _ in range(times):
            self.calls.clear()
            found = self.networks.run(crops)
            assert found is not None
            assert [outputs[0].item() for outputs in found] == [crop.sum() for crop in crops]
        return list(self.calls)


def test_batches_come_when_they_were_asked_for_several_times() -> None:
    compiler = _Compiler()
    assert compiler.ask(3) == [1, 1, 1]
    assert compiler.sizes == []
    assert compiler.ask(2, 20) == [1, 1]
    assert compiler.sizes == []
    compiler.ask(3, 20)
    settle()
    assert compiler.ask(3) == [3]
    assert compiler.ask(1, 20) == [1]
    assert compiler.ask(7, 20) == [3, 3, 1]
    assert compiler.sizes == [3]


@pytest.mark.parametrize(("error", "failing"), [(1, False), (0, True)], ids=["rounded otherwise", "failing"])
def test_a_network_that_differs_or_fails_is_tried_once_and_not_used(error: float, failing: bool) -> None:
    compiler = _Compiler(error=error, failing=failing)
    compiler.ask(4, 30)
    settle()
    assert compiler.ask(4, 30) == [1, 1, 1, 1]
    assert compiler.sizes == [3]
    assert all(network.closed for network in compiler.made)


def test_one_compilation_however_many_threads_ask() -> None:
    compiler, started = _Compiler(), threading.Barrier(6)
    crops = np.ones((3, 4, 2, 3), np.uint8)

    def work() -> None:
        started.wait(10)
        for _ in range(40):
            found = compiler.networks.run(crops)
            assert found is not None
            assert [outputs[0].item() for outputs in found] == [24, 24, 24]

    with ThreadPoolExecutor(6) as threads:
        for running in [threads.submit(work) for _ in range(6)]:
            running.result()
    settle()
    assert compiler.sizes == [3]


def test_what_is_closed_answers_no_more_and_keeps_nothing() -> None:
    compiler = _Compiler()
    compiler.ask(3, 10)  # closing waits for the network that is being made
    networks, left = compiler.networks, weakref.ref(compiler)
    networks.close()
    assert networks.run(np.zeros((1, 4, 2, 3), np.uint8)) is None
    assert networks.run(np.zeros((3, 4, 2, 3), np.uint8)) is None
    assert all(network.closed for network in (compiler.one, *compiler.made))
    del compiler
    assert left() is None


def _answers(backend: Any, crops: np.ndarray) -> np.ndarray:
    return np.stack([answer["heatmaps"] for answer in backend.infer(crops)])


@pytest.mark.parametrize("num_streams", [1, 2])
def test_the_refiner_answers_the_same_alone_among_others_and_later(astronaut: np.ndarray, num_streams: int) -> None:
    refiner = resolve_model("refiner")
    assert refiner.spec.crop is not None
    height, width = refiner.spec.crop.height, refiner.spec.crop.width
    crops = np.stack([astronaut[8 * i : 8 * i + height, 20 * i : 20 * i + width] for i in range(7)])
    options = EngineOptions(threads=2, num_streams=num_streams)
    with closing(open_backend(refiner.path, refiner.spec, options)) as backend:
        alone = np.concatenate([_answers(backend, crops[i : i + 1]) for i in range(7)])
        for count in (2, 3, 7):
            for _ in range(10):
                np.testing.assert_array_equal(_answers(backend, crops[:count]), alone[:count])
        settle()
        for count in (2, 3, 7):
            np.testing.assert_array_equal(_answers(backend, crops[:count]), alone[:count])
