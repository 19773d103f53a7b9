"""A size that keeps coming gets a network of its own, and its answers are the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from featherpose.runtime import EngineOptions, ModelSpec, open_backend
from featherpose.runtime.backend import SETTLED_AFTER
from featherpose.runtime.openvino_sizes import FittedNetworks, Requests

if TYPE_CHECKING:
    from tests.runtime.conftest import SmallNetwork

_ROW = SETTLED_AFTER


class _Named:
    """Stands for a compiled network."""

    def __init__(self, name: str) -> None:
        self.name, self.closed = name, 0

    def close(self) -> None:
        self.closed += 1


class _Compiler:
    def __init__(self, *, failing: tuple[int, ...] = ()) -> None:
        self.made: list[tuple[int, ...]] = []
        self.open = _Named("any")
        self.networks = FittedNetworks(cast(Requests, self.open), self._fitted)
        self._failing = failing

    def _fitted(self, shape: tuple[int, ...]) -> Requests:
        self.made.append(shape)
        if shape == self._failing:
            raise RuntimeError("a layer that wants another size")
        return cast(Requests, _Named(str(shape)))

    def ask(self, shape: tuple[int, ...], times: int = 1) -> str:
        return [cast(_Named, self.networks.choose(shape)).name for _ in range(times)][-1]


FILM, OTHER, THIRD = (1, 256, 448, 3), (1, 256, 344, 3), (1, 128, 128, 3)


def test_only_a_row_of_one_size_is_worth_a_compilation() -> None:
    compiler = _Compiler()
    for _ in range(50):
        assert compiler.ask(FILM) == compiler.ask(OTHER) == "any"
    assert compiler.ask(FILM, _ROW - 1) == "any"
    assert compiler.ask(FILM) == str(FILM)
    assert compiler.ask(OTHER) == "any"
    assert compiler.ask(FILM) == str(FILM)
    assert compiler.made == [FILM]


def test_two_sizes_are_kept() -> None:
    compiler = _Compiler()
    for shape in (FILM, OTHER, THIRD):
        assert compiler.ask(shape, _ROW) == str(shape)
    assert compiler.ask(OTHER) == str(OTHER)
    assert compiler.ask(FILM) == "any"  # the longest unused went
    assert compiler.made == [FILM, OTHER, THIRD]


def test_a_size_that_cannot_be_compiled_is_tried_once() -> None:
    compiler = _Compiler(failing=FILM)
    assert compiler.ask(FILM, 3 * _ROW) == "any"
    assert compiler.made == [FILM]
    compiler.networks.close()
    assert compiler.open.closed


def test_one_compilation_however_many_threads_ask() -> None:
    compiler, started = _Compiler(), threading.Barrier(6)

    def work() -> None:
        started.wait(10)
        compiler.ask(FILM, 40)

    with ThreadPoolExecutor(6) as threads:
        for running in [threads.submit(work) for _ in range(6)]:
            running.result()
    assert compiler.made == [FILM]


def test_what_is_closed_compiles_nothing_more() -> None:
    compiler = _Compiler()
    compiler.networks.close()
    assert compiler.ask(FILM, 2 * _ROW) == "any"
    assert compiler.made == []


@pytest.mark.parametrize("requests", [0, 2])
def test_answers_before_and_after(
    small: SmallNetwork, small_ir: Path, small_spec: ModelSpec, pictures: Callable[..., np.ndarray], requests: int
) -> None:
    options = EngineOptions(threads=2, precision="f32", requests=requests)
    backend = open_backend(small_ir, small_spec, options)
    try:
        for seed in range(2 * _ROW):
            images = pictures(1, 64, 96, seed)
            running = backend.submit(images)
            heatmaps, pafs = small.reference(images[0])
            for maps in (*running.result(), *backend.infer(images)):
                np.testing.assert_allclose(maps.heatmaps, heatmaps, atol=2e-3)
                np.testing.assert_allclose(maps.pafs, pafs, atol=2e-3)
                assert maps.heatmaps.flags.c_contiguous
    finally:
        backend.close()


def test_the_bundled_network_finds_the_same_people_before_and_after(astronaut: np.ndarray) -> None:
    from featherpose.estimator import PoseEstimator

    with PoseEstimator(height=128, threads=2) as estimator:
        found = [estimator(astronaut) for _ in range(_ROW + 2)]
    first, last = found[0], found[-1]
    assert len(first) == len(last) == 1
    both = np.isfinite(first.keypoints[..., 0]) & np.isfinite(last.keypoints[..., 0])
    assert both.sum() >= 8
    apart = np.linalg.norm(first.keypoints - last.keypoints, axis=-1)[both]
    assert np.median(apart) < 2
    np.testing.assert_array_equal(found[-1].keypoints, found[-2].keypoints)
