"""The compiled network that answers is a function of the input's shape, and the same image gives the same answer."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from featherpose.estimator import PoseEstimator
from featherpose.media.sources.find import open_source
from featherpose.poses import Poses
from featherpose.runtime import EngineOptions, ModelSpec, open_backend
from featherpose.runtime.openvino import backend as openvino_backend
from featherpose.runtime.openvino.static_shapes import InferRequestPool, NetworksByShape, is_video_shape
from featherpose.stream import process_stream
from featherpose.zoo.resolve import resolve_model

if TYPE_CHECKING:
    from tests.runtime.conftest import SmallNetwork


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
        self.networks = NetworksByShape(cast(InferRequestPool, self.open), self._compile, 8)
        self._failing = failing

    def _compile(self, shape: tuple[int, ...]) -> InferRequestPool:
        self.made.append(shape)
        if shape == self._failing:
            raise RuntimeError("a layer that needs another size")
        return cast(InferRequestPool, _Named(str(shape)))

    def ask(self, shape: tuple[int, ...], times: int = 1) -> str:
        return [cast(_Named, self.networks.choose(shape)).name for _ in range(times)][-1]


VIDEO, PORTRAIT, OLD, PHOTO = (1, 256, 456, 3), (1, 256, 144, 3), (1, 256, 344, 3), (1, 256, 384, 3)


@pytest.mark.parametrize("height", [96, 128, 184, 256, 368, 544])
def test_video_shapes_are_those_of_common_sizes(height: int) -> None:
    from featherpose.preprocess import fit

    for size in ((1920, 1080), (1280, 720), (3840, 2160), (640, 360), (1080, 1920), (640, 480), (1024, 768)):
        width, rows = fit(size, height=height, size_multiple=8).network_size
        assert is_video_shape((1, rows, width, 3), 8)
        assert not is_video_shape((2, rows, width, 3), 8)
        assert not is_video_shape((1, rows, width + 40, 3), 8)


def test_the_choice_does_not_depend_on_what_was_asked_before() -> None:
    compiler = _Compiler()
    for _ in range(50):
        for shape in (VIDEO, PHOTO, PORTRAIT, OLD):
            assert compiler.ask(shape) == ("any" if shape == PHOTO else str(shape))
    assert compiler.made == [VIDEO, PORTRAIT, OLD]


def test_shapes_of_one_height_are_kept() -> None:
    compiler = _Compiler()
    for shape in (VIDEO, OLD, (1, 128, 232, 3), VIDEO):
        assert compiler.ask(shape, 3) == str(shape)
    assert compiler.made == [VIDEO, OLD, (1, 128, 232, 3), VIDEO]


def test_a_shape_that_cannot_be_compiled_is_tried_once() -> None:
    compiler = _Compiler(failing=VIDEO)
    assert compiler.ask(VIDEO, 9) == "any"
    assert compiler.made == [VIDEO]
    compiler.networks.close()
    assert compiler.open.closed


def test_one_compilation_however_many_threads_ask() -> None:
    compiler, started = _Compiler(), threading.Barrier(6)

    def work() -> None:
        started.wait(10)
        compiler.ask(VIDEO, 40)

    with ThreadPoolExecutor(6) as threads:
        for running in [threads.submit(work) for _ in range(6)]:
            running.result()
    assert compiler.made == [VIDEO]


def test_what_is_closed_compiles_nothing_more() -> None:
    compiler = _Compiler()
    compiler.networks.close()
    assert compiler.ask(VIDEO, 2) == "any"
    assert compiler.made == []


def test_what_is_closed_keeps_no_network() -> None:
    compiler = _Compiler()
    compiler.ask(VIDEO)
    networks, left = compiler.networks, weakref.ref(compiler)  # a server's application is kept by FastAPI's caches
    networks.close()
    del compiler
    assert left() is None


@pytest.mark.parametrize("num_streams", [0, 2])
@pytest.mark.parametrize("width", [96, 88])
def test_both_kinds_give_the_network_s_output(
    small: SmallNetwork,
    small_ir: Path,
    small_spec: ModelSpec,
    random_images: Callable[..., np.ndarray],
    num_streams: int,
    width: int,
) -> None:
    options = EngineOptions(threads=2, precision="fp32", num_streams=num_streams)
    backend = open_backend(small_ir, small_spec, options)
    try:
        for seed in range(6):
            images = random_images(1, 64, width, seed)
            running = backend.submit(images)
            heatmaps, pafs = small.reference(images[0])
            for maps in (*running.result(), *backend.infer(images)):
                np.testing.assert_allclose(maps["heatmaps"], heatmaps, atol=2e-3)
                np.testing.assert_allclose(maps["pafs"], pafs, atol=2e-3)
                assert maps["heatmaps"].flags.c_contiguous
    finally:
        backend.close()


def _same(a: Poses, b: Poses) -> bool:
    return (
        np.array_equal(a.keypoints, b.keypoints, equal_nan=True)
        and np.array_equal(a.keypoint_scores, b.keypoint_scores)
        and np.array_equal(a.scores, b.scores)
    )


@pytest.mark.parametrize("size", [(480, 270), (512, 512), (301, 400)], ids=["video", "square", "odd"])
@pytest.mark.parametrize("num_streams", [0, 2])
def test_the_same_image_gives_the_same_poses_whatever_ran_before(
    astronaut: np.ndarray, size: tuple[int, int], num_streams: int, tmp_path: Path
) -> None:
    """Alone, 30 times in a row, in a list among others, and as frames of a lossless video."""
    import cv2

    image = cv2.resize(astronaut, size)
    others = [np.ascontiguousarray(astronaut[:, ::-1]), np.ascontiguousarray(image[:, ::-1]), image[:-9, :-7]]
    frames = [image, others[1], image, image]
    path = tmp_path / "lossless.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25, size)
    for frame in frames:
        writer.write(frame)
    writer.release()
    with PoseEstimator(height=128, engine=EngineOptions(threads=2, num_streams=num_streams)) as estimator:
        alone = estimator(image)
        assert len(alone)
        assert all(_same(alone, estimator(image)) for _ in range(30))
        assert [_same(alone, poses) for poses in estimator([image, *others, image] * 3)] == [
            *[True, False, False, False, True] * 3
        ]
        with open_source(path) as source:
            read = [(frame.frame.image, frame.poses) for frame in process_stream(source, estimator)]
    # FFV1 is lossless in YUV: what is compared is the frame that was read, alone in a new estimator.
    with PoseEstimator(height=128, engine=EngineOptions(threads=2, num_streams=num_streams)) as fresh:
        assert len(read) == len(frames)
        for pixels, poses in read:
            assert _same(poses, fresh(pixels))
    assert all(_same(read[0][1], read[i][1]) for i in (2, 3))


@pytest.mark.parametrize("name", ["refiner", "refiner-fast", "refiner-dense"])
def test_a_network_of_one_size_is_compiled_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops of 128x192 have the shape of a portrait video."""
    resolved, compiled = resolve_model(name), []
    original = openvino_backend._compile

    def count(*arguments: Any) -> Any:
        compiled.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(openvino_backend, "_compile", count)
    assert resolved.spec.only_size is not None
    width, rows = resolved.spec.only_size
    crop = np.zeros((1, rows, width, 3), np.uint8)
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(threads=1))
    try:
        assert len(backend.infer(crop)) == 1
    finally:
        backend.close()
    assert len(compiled) == 1
