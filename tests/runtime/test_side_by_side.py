"""Crops in streams of their own have the outputs that they have on all cores, whatever other threads run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np

from featherpose.runtime import open_backend
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engine_backend import EngineBackend
from featherpose.runtime.openvino.side_by_side import RequestsSideBySide
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
