"""ONNX Runtime: the second engine. The only module that imports ``onnxruntime``.

The file's graph is extended in memory, so that it takes uint8 images of any size and normalizes them itself.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from jaxtyping import UInt8
from onnx import TensorProto, helper, numpy_helper

from featherpose.errors import ModelError
from featherpose.runtime.backend import EngineInfo, EngineOptions, ModelSpec
from featherpose.runtime.checks import check_channels, check_quantized, check_strides, engine_message
from featherpose.runtime.engine_backend import EngineBackend
from featherpose.runtime.processor import available_cores, processor

__all__ = ["onnxruntime_devices", "open_onnxruntime"]

ort.disable_telemetry_events()  # of its builds for Windows

_logger = logging.getLogger(__name__)
_INPUT = "featherpose_images"
_PROVIDERS = {
    "CPU": ("CPUExecutionProvider",),
    "GPU": ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider", "CoreMLExecutionProvider"),
}
_QUANTIZED = frozenset({"QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})
_FATAL_ONLY = 4  # errors are raised; the engine need not write them to stderr as well


def onnxruntime_devices() -> dict[str, str]:
    """Return the execution providers of this ONNX Runtime, and the device names of `EngineOptions` for them."""
    names = {provider: device for device, providers in _PROVIDERS.items() for provider in providers}
    return {provider: names.get(provider, provider) for provider in ort.get_available_providers()}


class _Session:
    """A session and its requested outputs."""

    def __init__(self, session: Any, outputs: list[str]) -> None:
        self._session: Any = session
        self._outputs = outputs

    def run(self, image: UInt8[np.ndarray, "1 H W 3"]) -> list[np.ndarray] | None:
        """Return the outputs for one image; None once closed."""
        session = self._session
        if session is None:
            return None
        found = [np.asarray(output[0], np.float32) for output in session.run(self._outputs, {_INPUT: image})]
        # Outputs of three axes get a fourth, as in every engine: C N becomes C 1 N.
        return [output[:, None] if output.ndim == 2 else output for output in found]

    def close(self) -> None:
        """Release the session; threads that are inside `run` hold it until they are done."""
        self._session = None


def open_onnxruntime(path: Path, spec: ModelSpec, options: EngineOptions) -> EngineBackend:
    """Open an ONNX file on ONNX Runtime.

    Args:
        path: ``.onnx``.
        spec: What the pipeline must know of the model.
        options: How to run it.

    Raises:
        ModelError: If the file cannot be read, is of another architecture than ``spec`` says, or cannot run on the
            device or in the precision asked for.
    """
    return EngineBackend(lambda: _load(path, spec, options), spec, limit=max(2, options.num_streams))


def _load(path: Path, spec: ModelSpec, options: EngineOptions) -> tuple[_Session, EngineInfo]:
    provider = _find_provider(options.device)
    model = _read(path)
    quantized = any(node.op_type in _QUANTIZED for node in model.graph.node)
    float_precision = _embed_input(model, spec, path)
    _check_precision(options, float_precision, path, quantized=quantized)
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL_ONLY
    # A plan of all buffers pays off at one size only, and is kept for every size ever seen.
    settings.enable_mem_pattern = False
    cores = available_cores()
    threads = options.threads or (cores if cores < (os.cpu_count() or 1) else 0)
    side_by_side = max(1, options.num_streams)
    settings.intra_op_num_threads = max(1, (threads or cores) // side_by_side) if options.num_streams else threads
    try:
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=[provider])
    except Exception as error:  # the engine raises many types, none of them public
        raise ModelError(f"ONNX Runtime cannot prepare {path} ({engine_message(error)})") from error
    info = EngineInfo(
        engine=f"onnxruntime {ort.__version__}",
        device=processor().name if provider == "CPUExecutionProvider" else provider,
        precision="int8" if quantized else float_precision,
        float_precision=float_precision,
        threads=threads or cores,
        model=str(path),
    )
    network = _Session(session, [output.graph_name for output in spec.outputs])
    _probe(network, spec, path)
    _logger.debug("opened %s", info)
    return network, info


def _probe(network: _Session, spec: ModelSpec, path: Path) -> None:
    """Run a tiny image: the only proof that the graph takes any size and returns maps of the right one."""
    width, rows = spec.only_size or (16 * spec.size_multiple, 8 * spec.size_multiple)
    try:
        found = network.run(np.zeros((1, rows, width, 3), np.uint8)) or []
    except Exception as error:
        raise ModelError(
            f"{path} does not run on another image size ({engine_message(error)})",
            expected="a network whose height and width can change",
            hint="export it with dynamic axes",
        ) from error
    for array, output in zip(found, spec.outputs, strict=True):
        shape = (1, *array.shape)
        check_channels(shape, output, spec, path)
        check_strides(shape, (rows, width), output, spec, path)


def _find_provider(device: str) -> str:
    available: list[str] = ort.get_available_providers()
    for provider in _PROVIDERS.get(device.upper(), (device,)):
        if provider in available:
            return provider
    names = [name for name, providers in _PROVIDERS.items() if set(providers) & set(available)]
    raise ModelError(f"there is no device {device!r} for ONNX Runtime here", expected=f"one of {', '.join(names)}")


def _read(path: Path) -> Any:
    """Read the file and its weights; reject weights outside its own folder."""
    try:
        model = onnx.load(path, load_external_data=False)
        folder = path.resolve().parent
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                place = (folder / entry.value).resolve()
                if entry.key == "location" and not (place.is_relative_to(folder) and place.is_file()):
                    raise ModelError(
                        f"{path} wants its weights from {entry.value}", expected="a file in its own folder"
                    )
        onnx.load_external_data_for_model(model, str(folder))
        onnx.checker.check_model(model)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{path} is not a model that ONNX can read ({engine_message(error)})", expected="an undamaged .onnx file"
        ) from error
    return model


def _embed_input(model: Any, spec: ModelSpec, path: Path) -> str:
    """Put everything between the resize and the first layer into the graph; return the graph's number format."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise ModelError(f"{path} takes {len(inputs)} inputs", expected="one input of four axes: a batch of images")
    names = [value.name for value in graph.output]
    for output in spec.outputs:
        if output.graph_name not in names:
            raise ModelError(
                f"{path} has no output {output.graph_name!r}",
                expected=f"a pose network like {spec.name}, here are {', '.join(sorted(names))}",
            )
    original = inputs[0]
    number = original.type.tensor_type.elem_type
    sizes = [dim.dim_value for dim in original.type.tensor_type.shape.dim]
    if number not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8) or 3 not in (sizes[1], sizes[3]):
        raise ModelError(
            f"{path} takes {TensorProto.DataType.Name(number)} of shape {sizes}",
            expected="float or uint8 images with three color channels",
        )
    if number == TensorProto.UINT8 and (spec.mean or spec.scale):
        raise ModelError(f"{path} takes whole numbers, yet mean and scale are given", expected="neither of them")
    channels_first = sizes[1] == 3
    axis = 1 if channels_first else 3
    per_channel = [3 if i == axis else 1 for i in range(4)]
    steps: list[tuple[str, list[Any], dict[str, Any]]] = []
    if channels_first:
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    if spec.rgb:
        steps.append(("Gather", [np.array([2, 1, 0], np.int64)], {"axis": axis}))
    if number != TensorProto.UINT8:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
        if spec.mean:
            mean = spec.mean[::-1] if spec.rgb else spec.mean
            steps.append(("Sub", [np.array(mean, np.float32).reshape(per_channel)], {}))
        if spec.scale:
            scale = spec.scale[::-1] if spec.rgb else spec.scale
            steps.append(("Div", [np.array(scale, np.float32).reshape(per_channel)], {}))
        if number == TensorProto.FLOAT16:
            steps.append(("Cast", [], {"to": TensorProto.FLOAT16}))
    _prepend(graph, original, steps)
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    return "fp16" if number == TensorProto.FLOAT16 else "fp32"


def _prepend(graph: Any, original: Any, steps: list[tuple[str, list[Any], dict[str, Any]]]) -> None:
    """Put nodes between a new uint8[B, H, W, 3] input and the graph's own."""
    source = _INPUT
    nodes = []
    for number, (operation, constants, attributes) in enumerate(steps or [("Identity", [], {})]):
        target = original.name if number == max(len(steps), 1) - 1 else f"{_INPUT}_{number}"
        names = [f"{_INPUT}_{number}_{i}" for i in range(len(constants))]
        graph.initializer.extend(numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True))
        nodes.append(helper.make_node(operation, [source, *names], [target], **attributes))
        source = target
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    graph.input.remove(original)
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    graph.input.insert(0, helper.make_tensor_value_info(_INPUT, TensorProto.UINT8, shape))


def _check_precision(options: EngineOptions, float_precision: str, path: Path, *, quantized: bool) -> None:
    """Reject other precisions: ONNX Runtime computes in the file's own format."""
    wanted = options.precision
    check_quantized(path, wanted, quantized=quantized)
    if wanted not in ("auto", "int8", float_precision):
        raise ModelError(
            f"ONNX Runtime cannot run {path} in {wanted}",
            expected=f"auto or {float_precision}, the file's own format",
            hint="OpenVINO can change it: --engine openvino",
        )
