"""Crops in streams of their own have the outputs that they have on all cores, whatever other threads run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, get_ident
from typing import Any, cast

import numpy as np
import pytest

from featherpose.runtime import open_backend
from featherpose.runtime.backend import EngineInfo, EngineOptions
from featherpose.runtime.engine_backend import EngineBackend
from featherpose.runtime.openvino.side_by_side import RequestsSideBySide
from featherpose.runtime.openvino.static_shapes import InferRequestPool
from featherpose.zoo.resolve import resolve_model


def _open(streams: int) -> EngineBackend:
    known = resolve_model("refiner")
    return cast(EngineBackend, open_backend(known.path, known.spec, EngineOptions(threads=2, num_streams=streams)))


def test_many_threads_with_many_crops_each_get_their_own(astronaut: np.ndarray) -> None:
    crops = np.stack([astronaut[i : i + 224, 150 + i : 310 + i] for i in range(0, 70, 10)])
    together = _open(0)
    expected = [together.infer(crops[i : i + 1])[0]["heatmaps"] for i in range(len(crops))]
    together.close()
    backend = _open(2)
    assert isinstance(backend._here().network, RequestsSideBySide)
    with ThreadPoolExecutor(5) as threads:
        parts = [(i % 4, i % 4 + 1 + i % 3) for i in range(30)]
        for (start, stop), found in zip(
            parts, threads.map(lambda p: backend.infer(crops[p[0] : p[1]]), parts), strict=True
        ):
            assert len(found) == stop - start
            for maps, same in zip(found, expected[start:stop], strict=True):
                np.testing.assert_array_equal(maps["heatmaps"], same)
    more = backend.infer(np.tile(crops, (3, 1, 1, 1)))
    for i, maps in enumerate(more):
        np.testing.assert_array_equal(maps["heatmaps"], expected[i % len(crops)])
    backend.close()


def test_one_and_three_crops_have_another_network_from_the_eighth_time_on_with_the_same_outputs(
    astronaut: np.ndarray,
) -> None:
    crops = np.stack([astronaut[i : i + 224, 150 + i : 310 + i] for i in range(0, 50, 10)])
    backend = _open(2)
    together = cast(RequestsSideBySide, backend._here().network)._together
    first = [maps["heatmaps"] for maps in backend.infer(crops)]
    assert all(maps.max() > 0.05 for maps in first)
    for turn in range(10):
        assert sorted(together._networks) == ([] if turn < 8 else [1, 3])
        for count in (1, 2, 3, 4, 5):
            for maps, same in zip(backend.infer(crops[:count]), first, strict=False):
                np.testing.assert_array_equal(maps["heatmaps"], same)
    backend.close()
    backend.close()


class _Adding:
    """Stands for requests whose outputs are the input and a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def run(self, image: np.ndarray) -> list[np.ndarray] | None:
        return [image[0].astype(np.float32) + self.number]

    def run_several(self, images: np.ndarray) -> list[list[np.ndarray] | None]:
        return [self.run(images[i : i + 1]) for i in range(len(images))]

    run_side_by_side = run_several

    def close(self) -> None: ...


@pytest.mark.parametrize("made", [_Adding(1), RuntimeError("no memory")])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_a_network_for_a_number_of_crops_that_fails_or_differs_is_not_used(made: Any, streams: int) -> None:
    tried: list[int] = []

    def compile_together(count: int) -> InferRequestPool:
        tried.append(count)
        if isinstance(made, Exception):
            raise made
        return cast(InferRequestPool, made)

    network = RequestsSideBySide(cast(InferRequestPool, _Adding(0)), streams, compile_together)
    for _ in range(20):
        for count in (1, 2, 3, 4):
            found = network.run_several(np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1))
            assert found is not None
            assert [outputs[0].item() for outputs in found] == list(range(count))
    assert tried == {1: [], 2: [1, 3], 4: [1]}[streams]
    network.close()


def test_an_engine_that_takes_crops_one_by_one_gets_them_from_several_threads() -> None:
    class OneByOne:
        def __init__(self) -> None:
            self.threads: set[int] = set()
            self.both = Barrier(2, timeout=30)

        def run(self, image: np.ndarray) -> list[np.ndarray] | None:
            self.threads.add(get_ident())
            self.both.wait()  # ends only if another thread has a crop as well
            return [np.full((17, 56, 40), image[0, 0, 0, 0], np.float32)]

        def close(self) -> None: ...

    info = EngineInfo(engine="x 1", device="CPU", precision="fp32", float_precision="fp32", threads=2, model="x")
    network = OneByOne()
    backend = EngineBackend(lambda: (network, info), resolve_model("refiner").spec, limit=2)
    crops = np.zeros((6, 224, 160, 3), np.uint8)
    crops[:, 0, 0, 0] = range(6)
    assert [int(maps["heatmaps"][0, 0, 0]) for maps in backend.infer(crops)] == list(range(6))
    assert len(network.threads) == 2
    backend.close()
