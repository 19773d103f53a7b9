"""Networks for the contract tests: the released one, and a small one whose answer plain numpy gives as well."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from paf_models import paf_spec

from featherpose.runtime import ModelSpec
from featherpose.skeleton import OPENPOSE_18

RELEASED = paf_spec(
    name="human-pose-estimation-0001",
    skeleton=OPENPOSE_18,
    heatmap_output="Mconv7_stage2_L2",
    paf_output="Mconv7_stage2_L1",
)


def _export_released(shared: Path, target: Path) -> Path:
    """The released network from its PyTorch definition and FP16 weights, as ONNX with open sizes."""
    import torch
    from safetensors.torch import load_file

    sys.path.insert(0, str(shared / "tools"))
    try:
        from teacher_net import TeacherNet  # type: ignore[import-not-found]  # lies outside the project
    finally:
        sys.path.remove(str(shared / "tools"))
    weights = load_file(shared / "models/human-pose-estimation-0001/human-pose-estimation-0001-fp16.safetensors")
    network = TeacherNet()
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    network.eval()
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        # The newer exporter needs a further package; this one says that it will go.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 64, 128),),
            str(target),
            dynamo=False,
            input_names=["data"],
            output_names=[RELEASED.outputs[0].graph_name, RELEASED.outputs[1].graph_name],
            dynamic_axes={"data": axes, RELEASED.outputs[0].graph_name: axes, RELEASED.outputs[1].graph_name: axes},
        )
    return target


class SmallNetwork:
    """One convolution of 8x8 pixels to 64 features and a ReLU, then one 1x1 convolution for each output."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.patches = (rng.normal(size=(64, 3, 8, 8)) / 64).astype(np.float32)
        self.heatmaps = (rng.normal(size=(19, 64)) / 8).astype(np.float32)
        self.pafs = (rng.normal(size=(38, 64)) / 8).astype(np.float32)

    def reference(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heatmaps and PAFs of float32[H, W, 3], by numpy."""
        rows, columns = bgr.shape[0] // 8, bgr.shape[1] // 8
        blocks = bgr.astype(np.float32).reshape(rows, 8, columns, 8, 3)
        features = np.maximum(np.einsum("yjxic,fcji->fyx", blocks, self.patches), 0)
        return (
            np.einsum("kf,fyx->kyx", self.heatmaps, features),
            np.einsum("kf,fyx->kyx", self.pafs, features),
        )

    def onnx(
        self,
        *,
        layout: str = "NCHW",
        uint8: bool = False,
        size: tuple[int | str, int | str] = ("height", "width"),
        batch: int | str = "batch",
        stride: int = 8,
        paf_channels: int = 38,
    ) -> onnx.ModelProto:
        """The graph in ONNX, with inputs and faults as asked."""
        nodes = []
        source = "data"
        if uint8:
            nodes.append(helper.make_node("Cast", [source], ["real"], to=TensorProto.FLOAT))
            source = "real"
        if layout == "NHWC":
            nodes.append(helper.make_node("Transpose", [source], ["planes"], perm=[0, 3, 1, 2]))
            source = "planes"
        nodes += [
            helper.make_node("Conv", [source, "w0"], ["features"], kernel_shape=[8, 8], strides=[stride, stride]),
            helper.make_node("Relu", ["features"], ["active"]),
            helper.make_node("Conv", ["active", "w1"], ["heatmaps"], kernel_shape=[1, 1]),
            helper.make_node("Conv", ["active", "w2"], ["pafs"], kernel_shape=[1, 1]),
        ]
        weights = {
            "w0": self.patches,
            "w1": self.heatmaps[..., None, None],
            "w2": self.pafs[:paf_channels, :, None, None],
        }
        shape = [batch, 3, *size] if layout == "NCHW" else [batch, *size, 3]
        number = TensorProto.UINT8 if uint8 else TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("data", number, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("heatmaps", "pafs")],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SMALL = paf_spec(name="small", skeleton=OPENPOSE_18)


def _write_ir(source: Path, target: Path) -> Path:
    """An ONNX file as OpenVINO IR."""
    import openvino as ov

    ov.save_model(ov.Core().read_model(source), target, compress_to_fp16=False)
    return target


@pytest.fixture(scope="session")
def released_onnx(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole released network in ONNX."""
    return _export_released(shared, tmp_path_factory.mktemp("released") / "released.onnx")


@pytest.fixture(scope="session")
def small() -> SmallNetwork:
    return SmallNetwork()


@pytest.fixture(scope="session")
def small_onnx(small: SmallNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(small.onnx(), path)
    return path


@pytest.fixture(scope="session")
def small_ir(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_ir(small_onnx, tmp_path_factory.mktemp("small") / "small.xml")


@pytest.fixture(scope="session")
def released_spec() -> ModelSpec:
    return RELEASED


@pytest.fixture(scope="session")
def small_spec() -> ModelSpec:
    return SMALL


@pytest.fixture(scope="session")
def random_images() -> Callable[..., np.ndarray]:
    """Makes uint8[count, rows, width, 3] of noise."""

    def make(count: int, rows: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, rows, width, 3), np.uint8)

    return make
