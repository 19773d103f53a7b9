"""Crops at once have the outputs that they have alone; networks for several are compiled when they are worth it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from featherpose import PoseEstimator, RefineOptions
from featherpose.errors import ModelError, OptionError
from featherpose.runtime import open_backend
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engine_backend import EngineBackend
from featherpose.runtime.openvino.batches import NetworksByNumber
from featherpose.runtime.openvino.static_shapes import InferRequestPool
from featherpose.topdown.person_estimator import open_person_estimator
from featherpose.zoo.resolve import resolve_model


@pytest.fixture(scope="module")
def network() -> Iterator[EngineBackend]:
    known = resolve_model("refiner-dense")
    backend = open_backend(known.path, known.spec)
    yield cast(EngineBackend, backend)
    backend.close()


@pytest.fixture(scope="module")
def crops(network: EngineBackend, astronaut: np.ndarray) -> np.ndarray:
    """Return inputs; the rows under the crops hold anything."""
    shape = network.spec.crop
    assert shape is not None
    starts = range(0, 90, 10)
    return np.stack([astronaut[i : i + shape.rows, 150 + i : 150 + i + shape.width] for i in starts])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_a_crop_has_the_same_outputs_alone_and_among_others(
    count: int, network: EngineBackend, crops: np.ndarray
) -> None:
    for turn in range(10):  # the first ones run one by one
        found = network.infer(crops[:count])
        if turn in (0, 9):
            assert len(found) == count
            for i, maps in enumerate(found):
                (alone,) = network.infer(crops[i : i + 1])
                assert alone["heatmaps"].max() > 0.05
                np.testing.assert_array_equal(maps["heatmaps"], alone["heatmaps"])
    several = cast(NetworksByNumber, network._here().network)._of_several
    assert not several._unfit
    assert several._networks or count == 1


def test_people_have_the_same_poses_alone_and_among_others(astronaut: np.ndarray) -> None:
    boxes = np.array([[30, 20, 350, 510], [100, 0, 400, 300], [0, 0, 512, 512], [60, 60, 300, 400], [9, 9, 99, 99]])
    with open_person_estimator("refiner-dense") as estimator:
        together = estimator(astronaut, boxes.astype(np.float32))
        for i in range(len(boxes)):
            alone = estimator(astronaut, boxes[i : i + 1].astype(np.float32))
            np.testing.assert_array_equal(alone.keypoints[0], together.keypoints[i])
            np.testing.assert_array_equal(alone.keypoint_scores[0], together.keypoint_scores[i])
        assert not len(estimator(astronaut, np.empty((0, 4), np.float32)))


def test_refining_a_mosaic_of_many_gives_each_the_pose_that_the_order_of_runs_does_not_change(
    astronaut: np.ndarray,
) -> None:
    mosaic = np.tile(astronaut[:400, 100:400], (2, 3, 1))
    with PoseEstimator(refine=RefineOptions(mode="all", model="refiner-dense"), height=368) as estimator:
        first = estimator(mosaic)
        estimator(astronaut)
        again = estimator(mosaic)
    assert len(first) >= 5
    np.testing.assert_array_equal(first.keypoints, again.keypoints)


class _Pool:
    """Stands for the requests of a network that was compiled for some crops."""

    def __init__(self, count: int) -> None:
        self.count, self.closed = count, False

    def run(self, image: np.ndarray) -> list[np.ndarray] | None:
        found = self.run_several(image)
        return None if found is None else found[0]

    def run_several(self, images: np.ndarray) -> list[list[np.ndarray]] | None:
        assert len(images) == self.count
        return None if self.closed else [[image.astype(np.float32)] for image in images]

    def close(self) -> None:
        self.closed = True


def _networks(made: list[int], unfit: int = 0) -> NetworksByNumber:
    def compile_for(count: int) -> InferRequestPool:
        made.append(count)
        if count == unfit:
            raise RuntimeError("a layer that is bound to one image")
        return cast(InferRequestPool, _Pool(count))

    return NetworksByNumber(cast(InferRequestPool, _Pool(1)), compile_for)


def _values(networks: NetworksByNumber, count: int) -> list[int]:
    found = networks.run_several(np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1))
    assert found is not None
    return [int(outputs[0].item()) for outputs in found]


def test_a_number_is_compiled_once_when_it_has_come_several_times() -> None:
    made: list[int] = []
    networks = _networks(made)
    for turn in range(12):
        for count in (1, 3, 2, 11):
            assert _values(networks, count) == list(range(count))
        assert len(made) == (0 if turn < 3 else 1 if turn < 7 else 3)  # of 11 crops the last 3 are a number as well
    assert made == [3, 2, 8]


def test_a_network_that_takes_one_crop_alone_gets_one_by_one() -> None:
    made: list[int] = []
    networks = _networks(made, unfit=3)
    for _ in range(20):
        assert _values(networks, 3) == [0, 1, 2]
    assert made == [3]
    networks.close()
    assert networks.run_several(np.zeros((3, 1, 1, 1), np.uint8)) is None


def test_crops_whose_outputs_among_others_differ_run_one_by_one() -> None:
    class Other(_Pool):
        def run_several(self, images: np.ndarray) -> list[list[np.ndarray]] | None:
            found = super().run_several(images)
            return None if found is None else [[outputs[0] + 1] for outputs in found]

    def compile_for(count: int) -> InferRequestPool:
        made.append(count)
        return cast(InferRequestPool, Other(count))

    made: list[int] = []
    networks = NetworksByNumber(cast(InferRequestPool, _Pool(1)), compile_for)
    for _ in range(20):
        assert _values(networks, 4) == [0, 1, 2, 3]
    assert made == [4]


def test_what_is_closed_compiles_nothing_more() -> None:
    made: list[int] = []
    networks, images = _networks(made), np.zeros((2, 1, 1, 1), np.uint8)
    networks.close()
    networks.close()
    assert networks.run_several(images) is None
    assert made == []


@pytest.mark.parametrize("name", ["refiner", "refiner-dense"])
def test_a_closed_backend_says_so_for_several_crops(name: str) -> None:
    known = resolve_model(name)
    assert known.spec.crop is not None
    backend = open_backend(known.path, known.spec, EngineOptions(num_streams=2))
    crops = np.zeros((3, known.spec.crop.rows, known.spec.crop.width, 3), np.uint8)
    backend.infer(crops[:2])
    backend.close()
    for count in (1, 2, 3):
        with pytest.raises(ModelError, match="was closed"):
            backend.infer(crops[:count])


def test_a_crop_without_the_rows_under_it_is_refused() -> None:
    known = resolve_model("refiner-dense")
    backend = open_backend(known.path, known.spec)
    with pytest.raises(OptionError, match="209"):
        backend.infer(np.zeros((1, 192, 128, 3), np.uint8))
    backend.close()
