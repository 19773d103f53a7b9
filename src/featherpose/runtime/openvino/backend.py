"""OpenVINO: the default engine. Only the modules of this folder import ``openvino`` to run networks.

One compiled model serves every image size. Its height and width stay dynamic: a new size costs a cheap preparation of
the kernels, where a static shape for every size would cost a compilation each and unbounded memory
(``benchmarks/engines_shapes.py``). The shapes of ordinary video have networks of their own
(`featherpose.runtime.openvino.static_shapes`). The images of a batch run one after another: a batch costs a CPU the
same time an image, and an image gives the same result alone and among others. Crops of networks of few, large layers
run a few at once (`featherpose.runtime.openvino.batches`), those of small layers with a core each
(`featherpose.runtime.openvino.side_by_side`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as opset
from openvino import preprocess as ov_preprocess

from featherpose.errors import ModelError, OutOfMemoryError
from featherpose.runtime.backend import EngineInfo, EngineOptions, ModelSpec
from featherpose.runtime.checks import (
    SMALLER,
    check_channels,
    check_quantized,
    check_strides,
    engine_message,
    is_out_of_memory,
)
from featherpose.runtime.compiled_cache import compiled_cache
from featherpose.runtime.engine_backend import EngineBackend, Network
from featherpose.runtime.openvino.batches import NetworksByNumber
from featherpose.runtime.openvino.core import engine_core, locale_kept
from featherpose.runtime.openvino.overflow import fit_weights, overflows
from featherpose.runtime.openvino.side_by_side import RequestsSideBySide
from featherpose.runtime.openvino.static_shapes import InferRequestPool, NetworksByShape
from featherpose.runtime.processor import available_cores, processor

__all__ = ["open_openvino", "openvino_devices"]

_logger = logging.getLogger(__name__)
# Kernels that the engine keeps, some 65 for each size of the released network. Its own limit of 5,000 lets a folder of
# images grow the process by 600 MB; with this one the most recent two dozen sizes stay fast.
_KEPT_KERNELS = 1500
_TYPES = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16}
# OpenVINO's spelling of number formats, by release.
_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "f32": "fp32", "bf16": "bf16", "f16": "fp16"}


def openvino_devices() -> dict[str, str]:
    """Return the devices on which OpenVINO can run a model here, with descriptions."""
    return {name: str(engine_core().get_property(name, "FULL_DEVICE_NAME")) for name in engine_core().available_devices}


def open_openvino(path: Path, spec: ModelSpec, options: EngineOptions) -> EngineBackend:
    """Open a model file (IR, ONNX or TensorFlow Lite) on OpenVINO.

    Args:
        path: ``.xml`` with its ``.bin`` beside it, ``.onnx`` or ``.tflite``.
        spec: What the pipeline must know of the model.
        options: How to run it.

    Raises:
        ModelError: If the file cannot be read, is of another architecture than ``spec`` says, or cannot run on the
            device or in the precision asked for.
    """
    # One extra request keeps the engine busy while Python handles results.
    limit = max(1, options.num_streams) + 1
    return EngineBackend(lambda: _load(path, spec, options, limit), spec, limit)


def _load(path: Path, spec: ModelSpec, options: EngineOptions, limit: int) -> tuple[Network, EngineInfo]:
    device = _find_device(options.device)
    try:
        with locale_kept():
            model = engine_core().read_model(path)
    except Exception as error:  # the engine raises whatever its readers raise
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"there is not enough memory to read {path}", hint=SMALLER) from error
        raise ModelError(
            f"{path} is not a model that OpenVINO can read ({engine_message(error)})",
            expected="an undamaged IR (.xml with its .bin), .onnx or .tflite file",
        ) from error
    quantized, all_quantized = _quantization(model)
    _name_and_pad_outputs(model)
    if quantized and device.startswith("CPU") and overflows(processor()):
        fit_weights(model)
    model = _open_sizes(model, spec, path)
    model = _embed_input(model, spec, path)
    precision = _choose_precision(options, device, path, quantized=quantized, all_quantized=all_quantized)
    settings = _settings(options, device, precision, path)
    outputs = [output.graph_name for output in spec.outputs]
    core = engine_core()  # kept by the function below: it must live as long as its networks

    def compile_for(shape: tuple[int, ...], how: dict[str, Any] = settings) -> InferRequestPool:
        sized = model.clone()
        sized.reshape(list(shape))
        return InferRequestPool(_compile(core, sized, device, how), outputs, limit)

    def compile_crops(count: int) -> InferRequestPool:
        assert spec.crop is not None
        on_all_cores = {name: value for name, value in settings.items() if name != "NUM_STREAMS"}
        return compile_for((count, spec.crop.rows, spec.crop.width, 3), on_all_cores)

    try:
        compiled = _compile(core, model, device, settings)
        first = InferRequestPool(compiled, outputs, limit)
        network: Network = first  # one of a single size is static already
        if spec.only_size is None:
            network = NetworksByShape(first, compile_for, spec.size_multiple)
        elif spec.crop is not None and spec.side_by_side:
            network = RequestsSideBySide(first, options.num_streams, compile_crops)
        elif spec.crop is not None:
            network = NetworksByNumber(first, compile_crops)
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"there is not enough memory to prepare {path}", hint=SMALLER) from error
        raise ModelError(f"OpenVINO cannot prepare {path} for {device} ({engine_message(error)})") from error
    float_precision = _NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]
    info = EngineInfo(
        engine=f"openvino {ov.__version__.split('-')[0]}",
        device=str(engine_core().get_property(device, "FULL_DEVICE_NAME")),
        precision="int8" if quantized else float_precision,
        float_precision=float_precision,
        threads=compiled.get_property("INFERENCE_NUM_THREADS") if device.startswith("CPU") else 0,
        model=str(path),
    )
    _logger.debug("opened %s", info)
    return network, info


def _settings(options: EngineOptions, device: str, precision: str, path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _TYPES[precision]}
    if device.startswith("CPU"):
        cores = available_cores()
        if options.threads:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        elif cores < engine_core().get_property(device, "INFERENCE_NUM_THREADS"):
            settings["INFERENCE_NUM_THREADS"] = cores
    kept = compiled_cache(path, "openvino")
    if kept is not None:
        settings["CACHE_DIR"] = str(kept)
    if options.num_streams > 1:
        settings["NUM_STREAMS"] = options.num_streams
    return settings


def _compile(core: ov.Core, model: Any, device: str, settings: dict[str, Any]) -> Any:
    """Compile, without settings that this version or this machine rejects: none is needed for a correct result."""
    limit: dict[str, Any] = {}
    if device.startswith("CPU"):
        # Threads bound to cores are slower as soon as anything else runs, and in a stream something always does.
        limit = {"CPU_RUNTIME_CACHE_CAPACITY": str(_KEPT_KERNELS), "ENABLE_CPU_PINNING": False}
    without_cache = {name: value for name, value in settings.items() if name != "CACHE_DIR"}
    for attempt in ({**settings, **limit}, {**without_cache, **limit}):
        try:
            with locale_kept():
                return core.compile_model(model, device, attempt)
        except RuntimeError as error:
            _logger.debug("%s: %s", sorted(attempt), engine_message(error))
    with locale_kept():
        return core.compile_model(model, device, without_cache)


def _find_device(wanted: str) -> str:
    """Return the engine's spelling of a device, or raise an error that lists the devices."""
    available: list[str] = engine_core().available_devices
    for device in available:
        if wanted.upper() in (device.upper(), device.upper().partition(".")[0]):
            return device
    if not available:  # the plug-ins did not load, and the engine does not state the reason
        raise OutOfMemoryError("OpenVINO finds no device at all, most often for want of memory", hint=SMALLER)
    raise ModelError(f"there is no device {wanted!r} for OpenVINO here", expected=f"one of {', '.join(available)}")


def _quantization(model: Any) -> tuple[bool, bool]:
    """Return (some, all) of the layers that multiply have quantized inputs."""
    layers = [op for op in model.get_ops() if op.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")]
    quantized = sum(_is_quantized(layer.input_value(0).get_node()) for layer in layers)
    return quantized > 0, 0 < quantized == len(layers)


def _is_quantized(source: Any) -> bool:
    """Return whether an activation is quantized, possibly before layers that only move or select values."""
    match source.get_type_name():
        case "FakeQuantize":
            return True
        case "Concat":
            return all(_is_quantized(value.get_node()) for value in source.input_values())
        case "Reshape" | "Transpose" | "MaxPool" | "Relu":
            return _is_quantized(source.input_value(0).get_node())
    return False


def _name_and_pad_outputs(model: Any) -> None:
    """Give nameless outputs the name of their layer, and outputs of three axes a fourth: B C N becomes B C 1 N."""
    for port in model.outputs:
        result = port.get_node()
        source = result.input_value(0)
        names = source.get_tensor().get_names() or {result.get_friendly_name().split("/sink_port_")[0]}
        if source.get_partial_shape().rank == 3:
            wide = opset.unsqueeze(source, np.array([2], np.int64))
            source.get_tensor().set_names(set())
            result.input(0).replace_source_output(wide.output(0))
            source = wide.output(0)
        source.get_tensor().set_names(names)
    model.validate_nodes_and_infer_types()


def _open_sizes(model: Any, spec: ModelSpec, path: Path) -> Any:
    """Make batch, height and width dynamic, after checking that the graph has the promised architecture."""
    if (
        len(model.inputs) != 1
        or model.inputs[0].partial_shape.rank.is_dynamic
        or len(model.inputs[0].partial_shape) != 4
    ):
        shapes = ", ".join(str(port.partial_shape) for port in model.inputs)
        raise ModelError(f"{path} takes inputs of shape {shapes}", expected="one input of four axes: a batch of images")
    names = {name for port in model.outputs for name in port.get_names()}
    for output in spec.outputs:
        if output.graph_name not in names:
            raise ModelError(
                f"{path} has no output {output.graph_name!r}",
                expected=f"a pose network like {spec.name}, here are {', '.join(sorted(names))}",
            )
    shape = model.inputs[0].partial_shape
    channels = [axis for axis in (1, 3) if shape[axis].is_static and shape[axis].get_length() == 3]
    if not channels:
        raise ModelError(f"{path} takes an input of shape {shape}", expected="three color channels")
    axis = channels[0]
    width, rows = spec.only_size or (16 * spec.size_multiple, 8 * spec.size_multiple)
    try:
        # First one size, to see the shapes of the outputs; then any, which leaves the outputs' sizes dynamic as well.
        # Crops have one size for ever, and some files take no other.
        model.reshape([1, 3, rows, width] if axis == 1 else [1, rows, width, 3])
        for output in spec.outputs:
            shape_found = model.output(output.graph_name).partial_shape
            found = [size.get_length() if size.is_static else None for size in shape_found]
            check_channels(found, output, spec, path)
            check_strides(found, (rows, width), output, spec, path)
        if spec.only_size is None:
            model.reshape([-1, 3, -1, -1] if axis == 1 else [-1, -1, -1, 3])
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{path} is bound to inputs of shape {shape} ({engine_message(error)})",
            expected="a network whose height and width can change",
            hint="export it with dynamic axes",
        ) from error
    return model


def _embed_input(model: Any, spec: ModelSpec, path: Path) -> Any:
    """Put everything between the resize and the first layer into the graph: layout, type, channel order, scale."""
    port = model.inputs[0]
    layout = "NCHW" if port.partial_shape[1].is_static and port.partial_shape[1].get_length() == 3 else "NHWC"
    takes_u8 = port.element_type == ov.Type.u8
    if takes_u8 and (spec.mean or spec.scale):
        raise ModelError(f"{path} takes whole numbers, yet mean and scale are given", expected="neither of them")
    steps = ov_preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout(layout))
    if spec.mean or spec.scale:
        steps.input().preprocess().convert_element_type(ov.Type.f32)
    if spec.mean:
        steps.input().preprocess().mean(list(spec.mean))
    if spec.scale:
        steps.input().preprocess().scale(list(spec.scale))
    if spec.rgb:
        steps.input().preprocess().reverse_channels()  # behind the others, whose numbers are in BGR order
    for output in spec.outputs:
        # Its layers keep channels last: the transposition is left to `InferRequestPool.run`, which is faster.
        steps.output(output.graph_name).model().set_layout(ov.Layout("NCHW"))
        steps.output(output.graph_name).tensor().set_layout(ov.Layout("NHWC")).set_element_type(ov.Type.f32)
    names = [port.get_names() for port in model.outputs]
    built = steps.build()
    for port, known in zip(built.outputs, names, strict=True):
        if not port.get_names():  # a name that equals the layer's is lost on the way
            port.get_tensor().set_names(known)
    return built


def _choose_precision(options: EngineOptions, device: str, path: Path, *, quantized: bool, all_quantized: bool) -> str:
    """Return the number format of the layers that are not quantized.

    Where every convolution is quantized the rest costs the same in any format, and float32 is exact and the same on
    every machine.
    """
    wanted = options.precision
    check_quantized(path, wanted, quantized=quantized)
    if wanted == "fp32" or (all_quantized and wanted in ("auto", "int8")):
        return "fp32"
    native = _native_formats(device)
    if wanted in ("bf16", "fp16"):
        if wanted not in native:
            raise ModelError(
                f"{processor().name if device.startswith('CPU') else device} does not compute in {wanted} natively",
                expected=f"one of {', '.join(['fp32', *native])}",
                hint="--precision auto chooses the fastest",
            )
        return wanted
    return native[0] if native else "fp32"


def _native_formats(device: str) -> list[str]:
    """Return the half-size formats that the device has and OpenVINO uses there, the faster first."""
    supported = engine_core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    if not device.startswith("CPU"):
        return ["fp16"] if "FP16" in supported else []
    # OpenVINO reports BF16 as well where it is emulated; the processor's flags decide.
    facts = processor()
    candidates = (("bf16", "BF16", facts.bf16), ("fp16", "FP16", facts.fp16))
    return [name for name, capability, native in candidates if native and capability in supported]
