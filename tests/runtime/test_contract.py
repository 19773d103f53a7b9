"""What every engine promises, on a small network that numpy answers as well and on the whole released network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import psutil
import pytest
from paf_models import paf_spec

from featherpose.errors import ModelError, OptionError
from featherpose.preprocess import prepare
from featherpose.runtime import Backend, EngineOptions, ModelSpec, open_backend

if TYPE_CHECKING:
    from tests.runtime.conftest import SmallNetwork

ENGINES = ("openvino-ir", "openvino-onnx", "onnxruntime-onnx")
RandomImages = Callable[..., np.ndarray]


def engine_of(kind: str, **options: object) -> EngineOptions:
    return EngineOptions(engine=kind.partition("-")[0], **{"threads": 2, **options})  # type: ignore[arg-type]


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def small_file(kind: str, small_ir: Path, small_onnx: Path) -> Path:
    return small_ir if kind.endswith("ir") else small_onnx


@pytest.fixture
def backend(kind: str, small_file: Path, small_spec: ModelSpec) -> Iterator[Backend]:
    opened = open_backend(small_file, small_spec, engine_of(kind, precision="fp32"))
    yield opened
    opened.close()


def test_same_answer_as_numpy(backend: Backend, small: SmallNetwork, random_images: RandomImages) -> None:
    for rows, width in ((64, 128), (8, 8), (128, 40), (256, 456)):
        images = random_images(2, rows, width)
        found = backend.infer(images)
        assert len(found) == 2
        for image, maps in zip(images, found, strict=True):
            heatmaps, pafs = small.reference(image)
            np.testing.assert_allclose(maps["heatmaps"], heatmaps, atol=2e-3)
            np.testing.assert_allclose(maps["pafs"], pafs, atol=2e-3)
            assert maps["heatmaps"].dtype == np.float32
            assert maps["heatmaps"].flags.c_contiguous
            assert list(maps) == ["heatmaps", "pafs"]


def test_input_is_not_changed(backend: Backend, random_images: RandomImages) -> None:
    images = random_images(1, 64, 64)
    before = images.copy()
    backend.infer(images)
    backend.submit(images).result()
    np.testing.assert_array_equal(images, before)


def test_results_outlive_later_inferences(backend: Backend, random_images: RandomImages) -> None:
    first = backend.infer(random_images(1, 64, 64))[0]
    kept = first["heatmaps"].copy()
    for seed in range(1, 6):
        backend.infer(random_images(1, 64, 64, seed))
        backend.submit(random_images(1, 64, 64, seed)).result()
    np.testing.assert_array_equal(first["heatmaps"], kept)


def test_views_that_are_not_contiguous(backend: Backend, random_images: RandomImages) -> None:
    wide = random_images(1, 64, 128)
    view = wide[:, :, :64]
    np.testing.assert_array_equal(backend.infer(view)[0]["pafs"], backend.infer(view.copy())[0]["pafs"])


def test_many_submitted_before_the_first_result(backend: Backend, random_images: RandomImages) -> None:
    inputs = [random_images(1, 64, 64 + 8 * (seed % 3), seed) for seed in range(20)]
    pending = [backend.submit(images) for images in inputs]
    for images, result in reversed(list(zip(inputs, pending, strict=True))):
        np.testing.assert_array_equal(result.result()[0]["heatmaps"], backend.infer(images)[0]["heatmaps"])


def test_any_thread_may_submit_and_wait(backend: Backend, random_images: RandomImages) -> None:
    inputs = [random_images(1 + seed % 2, 64, 64 + 8 * (seed % 4), seed) for seed in range(24)]
    expected = [[maps["pafs"] for maps in backend.infer(images)] for images in inputs]

    def work(index: int) -> None:
        found = backend.infer(inputs[index]) if index % 3 else backend.submit(inputs[index]).result()
        for maps, pafs in zip(found, expected[index], strict=True):
            np.testing.assert_array_equal(maps["pafs"], pafs)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(24)))


def test_side_by_side(kind: str, small_file: Path, small_spec: ModelSpec, random_images: RandomImages) -> None:
    backend = open_backend(small_file, small_spec, engine_of(kind, num_streams=2, precision="fp32"))
    images = random_images(1, 64, 64)
    expected = backend.infer(images)[0]["heatmaps"]
    for pending in [backend.submit(images) for _ in range(8)]:
        np.testing.assert_array_equal(pending.result()[0]["heatmaps"], expected)
    backend.close()


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 60, 64, 3), np.uint8),
        np.zeros((1, 64, 60, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 4), np.uint8),
    ],
)
def test_wrong_inputs_are_refused(backend: Backend, images: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"uint8\[B, H, W, 3\]"):
        backend.infer(images)
    with pytest.raises(OptionError, match=r"uint8\[B, H, W, 3\]"):
        backend.submit(images).result()


def test_closing(kind: str, small_file: Path, small_spec: ModelSpec, random_images: RandomImages) -> None:
    backend = open_backend(small_file, small_spec, engine_of(kind))
    images = random_images(1, 256, 256)
    pending = [backend.submit(images) for _ in range(6)]
    backend.close()
    backend.close()
    assert all(len(result.result()) == 1 for result in pending)
    with pytest.raises(ModelError, match="closed"):
        backend.infer(images)
    with pytest.raises(ModelError, match="closed"):
        backend.submit(images)


def test_closing_under_load(kind: str, small_file: Path, small_spec: ModelSpec, random_images: RandomImages) -> None:
    """Threads that keep inferring while another one closes end with an error, not with a hang or a crash."""
    backend = open_backend(small_file, small_spec, engine_of(kind))
    images = random_images(1, 64, 64)
    ended = []

    def work() -> None:
        try:
            while True:
                backend.infer(images)
        except ModelError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    backend.close()
    for thread in threads:
        thread.join(30)
    assert len(ended) == 4


def test_layouts_types_and_normalization(
    kind: str, small: SmallNetwork, random_images: RandomImages, tmp_path: Path
) -> None:
    """Graphs that take NHWC, uint8, RGB or normalized values all get the same image."""
    import onnx
    import openvino as ov

    images = random_images(1, 64, 72)
    bgr = images[0].astype(np.float32)
    mean, scale = (10.0, 20.0, 30.0), (50.0, 60.0, 70.0)
    cases: dict[str, tuple[Any, dict[str, Any], np.ndarray]] = {
        "NHWC": (small.onnx(layout="NHWC"), {}, bgr),
        "uint8": (small.onnx(layout="NHWC", uint8=True), {}, bgr),
        "RGB": (small.onnx(), {"rgb": True}, bgr[..., ::-1]),
        "normalized": (small.onnx(), {"mean": mean, "scale": scale}, (bgr - mean) / scale),
        "normalized RGB": (
            small.onnx(layout="NHWC"),
            {"mean": mean, "scale": scale, "rgb": True},
            ((bgr - mean) / scale)[..., ::-1],
        ),
    }
    from featherpose.skeleton import OPENPOSE_18

    for name, (graph, fields, seen) in cases.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(graph, path)
        if kind.endswith("ir"):
            ov.save_model(ov.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
            path = path.with_suffix(".xml")
        spec = paf_spec(name="small", skeleton=OPENPOSE_18, **fields)
        backend = open_backend(path, spec, engine_of(kind, precision="fp32"))
        heatmaps, pafs = small.reference(seen)
        found = backend.infer(images)[0]
        np.testing.assert_allclose(found["heatmaps"], heatmaps, atol=2e-3, err_msg=name)
        np.testing.assert_allclose(found["pafs"], pafs, atol=2e-3, err_msg=name)
        backend.close()


def test_a_graph_of_fixed_size_is_opened(
    kind: str, small: SmallNetwork, random_images: RandomImages, tmp_path: Path
) -> None:
    """Files often name one size where the network would take any."""
    import onnx
    import openvino as ov

    from featherpose.skeleton import OPENPOSE_18

    path = tmp_path / "fixed.onnx"
    onnx.save(small.onnx(size=(256, 456), batch=1), path)
    if kind.endswith("ir"):
        ov.save_model(ov.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
        path = path.with_suffix(".xml")
    backend = open_backend(path, paf_spec(name="small", skeleton=OPENPOSE_18), engine_of(kind, precision="fp32"))
    images = random_images(3, 64, 40)
    np.testing.assert_allclose(backend.infer(images)[2]["pafs"], small.reference(images[2])[1], atol=2e-3)


# The whole released network.


@pytest.fixture
def released_file(kind: str, request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue("released_int8" if kind.endswith("ir") else "released_onnx"))


@pytest.fixture
def photographs(coco_val: Path) -> list[np.ndarray]:
    """Three real photographs as network inputs of three sizes."""
    found = []
    for path in sorted((coco_val / "images").glob("*.jpg"))[:3]:
        image = cv2.imread(str(path))
        assert image is not None
        found.append(prepare(np.asarray(image, np.uint8), height=184)[0])
    return found


def test_released_network_against_pytorch(
    kind: str, released_file: Path, released_spec: ModelSpec, shared: Path, photographs: list[np.ndarray]
) -> None:
    torch = pytest.importorskip("torch")
    import sys

    sys.path.insert(0, str(shared / "tools"))
    try:
        from teacher_net import TeacherNet  # type: ignore[import-not-found]  # lies outside the project
    finally:
        sys.path.remove(str(shared / "tools"))
    from safetensors.torch import load_file

    network = TeacherNet()
    weights = load_file(shared / "models/human-pose-estimation-0001/human-pose-estimation-0001-fp16.safetensors")
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    backend = open_backend(released_file, released_spec, engine_of(kind, precision="fp32"))
    for images in photographs:
        with torch.inference_mode():
            heatmaps, pafs = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        maps = backend.infer(images)[0]
        if kind.endswith("ir"):  # activations are rounded to 8 bits: alike, not equal
            assert np.abs(maps["heatmaps"] - heatmaps[0].numpy()).mean() < 0.005
            assert np.abs(maps["pafs"] - pafs[0].numpy()).mean() < 0.01
        else:
            np.testing.assert_allclose(maps["heatmaps"], heatmaps[0], atol=1e-4)
            np.testing.assert_allclose(maps["pafs"], pafs[0], atol=1e-4)
    backend.close()


def test_released_network_in_batches(
    kind: str, released_file: Path, released_spec: ModelSpec, photographs: list[np.ndarray]
) -> None:
    backend = open_backend(released_file, released_spec, engine_of(kind, precision="fp32"))
    image = photographs[0]
    batch = np.concatenate([image, image[:, ::-1], image[:, :, ::-1]])
    for alone, together in zip(batch, backend.infer(batch), strict=True):
        maps = backend.infer(alone[None])[0]
        np.testing.assert_allclose(together["heatmaps"], maps["heatmaps"], atol=1e-5)
        np.testing.assert_allclose(together["pafs"], maps["pafs"], atol=1e-5)
    backend.close()


@pytest.mark.slow
def test_seventy_sizes_cost_few_compilations_and_bounded_memory(
    kind: str,
    released_file: Path,
    released_spec: ModelSpec,
    random_images: RandomImages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compilations: list[str] = []
    if kind.startswith("openvino"):
        import openvino as ov

        compile_model = ov.Core.compile_model

        def compile_and_count(*given: Any, **named: Any) -> Any:
            compilations.append(kind)
            return compile_model(*given, **named)

        monkeypatch.setattr(ov.Core, "compile_model", compile_and_count)
    else:
        import onnxruntime as ort

        session = ort.InferenceSession

        def open_and_count(*given: Any, **named: Any) -> Any:
            compilations.append(kind)
            return session(*given, **named)

        monkeypatch.setattr(ort, "InferenceSession", open_and_count)
    backend = open_backend(released_file, released_spec, engine_of(kind))
    widths = np.random.default_rng(0).permutation(np.arange(64, 64 + 8 * 70, 8))
    process = psutil.Process()
    memory = []
    for width in widths:
        assert backend.infer(random_images(1, 128, int(width)))[0]["heatmaps"].shape == (19, 16, width // 8)
        memory.append(process.memory_info().rss / 2**20)
    backend.close()
    # One of any size, and on OpenVINO one each for the three shapes of video.
    assert len(compilations) == (4 if kind.startswith("openvino") else 1)
    # The first sizes fill the engine's caches; from then on nothing may grow in step with the number of sizes
    # (35 more sizes of an unbounded cache of kernels are 150 MB, of compiled shapes 600 MB).
    assert memory[-1] - memory[34] < 100, memory
