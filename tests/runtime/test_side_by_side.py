"""Crops in streams of their own have the outputs that they have on all cores, whatever other threads run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

from featherpose.runtime import open_backend
from featherpose.runtime.backend import EngineOptions
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


def test_crops_alone_have_another_network_from_the_eighth_on_with_the_same_outputs(astronaut: np.ndarray) -> None:
    crop = astronaut[None, 50:274, 150:310]
    backend = _open(2)
    network = cast(RequestsSideBySide, backend._here().network)
    first = backend.infer(crop)[0]["heatmaps"]
    assert first.max() > 0.05
    for count in (1, 3, 1, 5, 1, 2, 1, 1, 1):
        backend.infer(np.tile(crop, (count, 1, 1, 1)))
    assert network._alone is network._in_streams
    backend.infer(crop)
    assert network._alone is not network._in_streams
    np.testing.assert_array_equal(backend.infer(crop)[0]["heatmaps"], first)
    for maps in backend.infer(np.tile(crop, (5, 1, 1, 1))):
        np.testing.assert_array_equal(maps["heatmaps"], first)
    backend.close()
    backend.close()


class _Adding:
    """Stands for requests whose outputs are the input and a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def run(self, image: np.ndarray) -> list[np.ndarray] | None:
        return [image[0].astype(np.float32) + self.number]

    def run_side_by_side(self, images: np.ndarray) -> list[list[np.ndarray] | None]:
        return [self.run(images[i : i + 1]) for i in range(len(images))]

    def close(self) -> None: ...


@pytest.mark.parametrize("made", [_Adding(1), RuntimeError("no memory")])
def test_a_network_for_a_crop_alone_that_fails_or_differs_is_not_used(made: Any) -> None:
    tried: list[int] = []

    def compile_alone() -> InferRequestPool:
        tried.append(1)
        if isinstance(made, Exception):
            raise made
        return cast(InferRequestPool, made)

    network = RequestsSideBySide(cast(InferRequestPool, _Adding(0)), 2, compile_alone)
    for _ in range(20):
        for count in (1, 3):
            found = network.run_several(np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1))
            assert found is not None
            assert [outputs[0].item() for outputs in found] == list(range(count))
    assert tried == [1]
    network.close()
