"""ONNX Runtime: the second engine. The only module that imports ``onnxruntime``.

The file's graph is extended in memory, so that it takes uint8 pictures of any size and normalises them itself.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from jaxtyping import UInt8
from onnx import TensorProto, helper, numpy_helper

from featherpose.codecs.paf.maps import Maps
from featherpose.errors import ModelError
from featherpose.runtime.backend import EngineInfo, EngineOptions, ModelSpec
from featherpose.runtime.inflight import InFlight
from featherpose.runtime.processor import available_cores, processor
from featherpose.runtime.validation import check_channels, check_images, check_strides, engine_message

__all__ = ["OnnxRuntimeBackend", "onnxruntime_devices"]

_logger = logging.getLogger(__name__)
_INPUT = "featherpose_pictures"
_PROVIDERS = {
    "CPU": ("CPUExecutionProvider",),
    "GPU": ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider", "CoreMLExecutionProvider"),
}
_QUANTISED = frozenset({"QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})
_FATAL_ONLY = 4  # what goes wrong is raised; the engine need not write it to stderr as well


def onnxruntime_devices() -> dict[str, str]:
    """Execution providers of this ONNX Runtime, and the device that `EngineOptions` names them by."""
    names = {provider: device for device, providers in _PROVIDERS.items() for provider in providers}
    return {provider: names.get(provider, provider) for provider in ort.get_available_providers()}


class OnnxRuntimeBackend:
    """One ONNX file on ONNX Runtime; see `featherpose.runtime.backend.Backend`.

    Args:
        path: ``.onnx`` file; weights in further files must lie in its folder.
        spec: What the pipeline must know of the model.
        options: How to run it.

    Raises:
        ModelError: If the file cannot be read, is of another architecture than ``spec`` says, or cannot run on the
            device or in the precision asked for.
    """

    def __init__(self, path: Path, spec: ModelSpec, options: EngineOptions) -> None:
        self._spec = spec
        self._closed = False
        provider = _find_provider(options.device)
        model = _load(path)
        quantised = any(node.op_type in _QUANTISED for node in model.graph.node)
        float_precision = _embed_input(model, spec, path)
        _check_precision(options, float_precision, path, quantised=quantised)
        settings = ort.SessionOptions()
        settings.log_severity_level = _FATAL_ONLY
        # A plan of all buffers pays off at one size only, and is kept for every size ever seen.
        settings.enable_mem_pattern = False
        cores = available_cores()
        threads = options.threads or (cores if cores < (os.cpu_count() or 1) else 0)
        side_by_side = max(1, options.requests)
        settings.intra_op_num_threads = max(1, (threads or cores) // side_by_side) if options.requests else threads
        try:
            self._session: Any = ort.InferenceSession(model.SerializeToString(), settings, providers=[provider])
        except Exception as error:  # the engine raises many types, none of them public
            raise ModelError(f"ONNX Runtime cannot prepare {path} ({engine_message(error)})") from error
        self._info = EngineInfo(
            engine=f"onnxruntime {ort.__version__}",
            device=processor().name if provider == "CPUExecutionProvider" else provider,
            precision="int8" if quantised else float_precision,
            float_precision=float_precision,
            threads=threads or cores,
            model=str(path),
        )
        self._in_flight = InFlight(max(2, options.requests))
        self._probe(path)
        _logger.debug("opened %s", self._info)

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self._spec

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._info

    def infer(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[Maps]:
        """Run the network now; the input is read in place, the result owns its arrays.

        Raises:
            OptionError: If the network cannot take a picture of this size.
            ModelError: If the engine failed or was closed.
        """
        heatmaps, pafs = self._run(check_images(images, self._spec))
        strides = self._spec.heatmap_stride, self._spec.paf_stride
        return [Maps(heatmap, paf, *strides) for heatmap, paf in zip(heatmaps, pafs, strict=True)]

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Future[list[Maps]]:
        """Start the network and return at once; blocks only while all requests are busy."""
        return self._in_flight.submit(partial(self.infer, images))

    def close(self) -> None:
        """Wait for running inferences and release the engine's memory; calling it again does nothing."""
        self._in_flight.close()
        self._session = None  # threads that are inside `infer` hold it until they are done

    def _run(self, images: UInt8[np.ndarray, "B H W 3"]) -> tuple[np.ndarray, np.ndarray]:
        session = self._session
        if session is None:
            raise ModelError(f"the model {self._info.model} was closed", hint="open it again")
        try:
            outputs = session.run([self._spec.heatmap_output, self._spec.paf_output], {_INPUT: images})
        except Exception as error:
            raise ModelError(
                f"ONNX Runtime failed on an input of shape {images.shape} ({engine_message(error)})"
            ) from error
        heatmaps, pafs = (np.asarray(output, np.float32) for output in outputs)
        return heatmaps, pafs

    def _probe(self, path: Path) -> None:
        """Run a tiny picture: the only proof that the graph takes any size and gives maps of the right one."""
        rows, width = 8 * self._spec.size_multiple, 16 * self._spec.size_multiple
        try:
            heatmaps, pafs = self._run(np.zeros((1, rows, width, 3), np.uint8))
        except ModelError as error:
            raise ModelError(
                f"{path} does not run on another picture size ({error.given})",
                expected="a network whose height and width can change",
                hint="export it with dynamic axes",
            ) from error
        for found, role in ((heatmaps, "heatmaps"), (pafs, "pafs")):
            check_channels(found.shape, role, self._spec, path)
            check_strides(found.shape, (rows, width), role, self._spec, path)


def _find_provider(device: str) -> str:
    available: list[str] = ort.get_available_providers()
    for provider in _PROVIDERS.get(device.upper(), (device,)):
        if provider in available:
            return provider
    names = [name for name, providers in _PROVIDERS.items() if set(providers) & set(available)]
    raise ModelError(f"there is no device {device!r} for ONNX Runtime here", expected=f"one of {', '.join(names)}")


def _load(path: Path) -> Any:
    """Read the file and its weights; refuse weights from anywhere but its own folder."""
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
    """Put everything between the resize and the first layer into the graph; returns the graph's number format."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise ModelError(f"{path} takes {len(inputs)} inputs", expected="one input of four axes: a batch of pictures")
    names = [value.name for value in graph.output]
    for name in (spec.heatmap_output, spec.paf_output):
        if name not in names:
            raise ModelError(
                f"{path} has no output {name!r}",
                expected=f"a pose network like {spec.name}, here are {', '.join(sorted(names))}",
            )
    original = inputs[0]
    number = original.type.tensor_type.elem_type
    sizes = [dim.dim_value for dim in original.type.tensor_type.shape.dim]
    if number not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8) or 3 not in (sizes[1], sizes[3]):
        raise ModelError(
            f"{path} takes {TensorProto.DataType.Name(number)} of shape {sizes}",
            expected="float or uint8 pictures with three colour channels",
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
    return "f16" if number == TensorProto.FLOAT16 else "f32"


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


def _check_precision(options: EngineOptions, float_precision: str, path: Path, *, quantised: bool) -> None:
    """ONNX Runtime computes in the file's own format: a wish for another one cannot be met."""
    wanted = options.precision
    if wanted == "int8" and not quantised:
        raise ModelError(
            f"{path} is not quantised, so it cannot run in INT8",
            expected="a file with quantised layers",
            hint="quantise it first, or choose another precision",
        )
    if wanted not in ("auto", "int8", float_precision):
        raise ModelError(
            f"ONNX Runtime cannot run {path} in {wanted}",
            expected=f"auto or {float_precision}, the file's own format",
            hint="OpenVINO can change it: engine openvino",
        )
