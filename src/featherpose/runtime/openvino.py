"""OpenVINO: the default engine. The only module that imports ``openvino``.

One compiled model serves every picture size. Its batch, height and width stay open: a new size costs a cheap
preparation of the kernels, where a compiled shape for every size costs a compilation each and memory without end
(``benchmarks/engines_shapes.py``). A size that comes many times in a row gets a network of its own
(`featherpose.runtime.openvino_sizes`).
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from jaxtyping import UInt8
from openvino import preprocess as ov_preprocess

from featherpose.codecs.paf.maps import Maps
from featherpose.errors import ModelError
from featherpose.runtime.backend import EngineInfo, EngineOptions, ModelSpec
from featherpose.runtime.compiled_cache import compiled_cache
from featherpose.runtime.inflight import InFlight
from featherpose.runtime.openvino_sizes import FittedNetworks, Requests
from featherpose.runtime.processor import available_cores, processor
from featherpose.runtime.validation import check_channels, check_images, check_strides, engine_message

__all__ = ["OpenVinoBackend", "openvino_devices"]

_logger = logging.getLogger(__name__)
# Kernels that the engine keeps, some 65 for each size of the released network. Its own limit of 5,000 lets a folder of
# pictures grow the process by 600 MB; with this one the most recent two dozen sizes stay fast.
_KEPT_KERNELS = 1500
_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}
_NAMES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "f32": "f32", "bf16": "bf16", "f16": "f16"}


@cache
def _core() -> ov.Core:
    """One per process: the device plug-ins are loaded once."""
    return ov.Core()


def openvino_devices() -> dict[str, str]:
    """Devices that OpenVINO can run a model on here, and what they are."""
    return {name: str(_core().get_property(name, "FULL_DEVICE_NAME")) for name in _core().available_devices}


class OpenVinoBackend:
    """One model file (IR, ONNX or TensorFlow Lite) on OpenVINO; see `featherpose.runtime.backend.Backend`.

    Args:
        path: ``.xml`` with its ``.bin`` beside it, ``.onnx`` or ``.tflite``.
        spec: What the pipeline must know of the model.
        options: How to run it.

    Raises:
        ModelError: If the file cannot be read, is of another architecture than ``spec`` says, or cannot run on the
            device or in the precision asked for.
    """

    def __init__(self, path: Path, spec: ModelSpec, options: EngineOptions) -> None:
        self._spec = spec
        device = _find_device(options.device)
        try:
            model = _core().read_model(path)
        except Exception as error:  # the engine raises whatever its readers raise
            raise ModelError(
                f"{path} is not a model that OpenVINO can read ({engine_message(error)})",
                expected="an undamaged IR (.xml with its .bin), .onnx or .tflite file",
            ) from error
        quantised, all_quantised = _quantisation(model)
        model = _open_sizes(model, spec, path)
        model = _embed_input(model, spec, path)
        precision = _choose_precision(options, device, path, quantised=quantised, all_quantised=all_quantised)
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _TYPES[precision]}
        if device.startswith("CPU"):
            cores = available_cores()
            if options.threads:
                settings["INFERENCE_NUM_THREADS"] = options.threads
            elif cores < _core().get_property(device, "INFERENCE_NUM_THREADS"):
                settings["INFERENCE_NUM_THREADS"] = cores
        kept = compiled_cache(path, "openvino")
        if kept is not None:
            settings["CACHE_DIR"] = str(kept)
        if options.requests > 1:
            settings["NUM_STREAMS"] = options.requests
        outputs = spec.heatmap_output, spec.paf_output
        # One more than run at once: it waits with its input in place, and no core waits for this side's threads.
        limit = max(1, options.requests) + 1

        def fitted_to(shape: tuple[int, ...]) -> Requests:
            sized = model.clone()
            sized.reshape(list(shape))
            return Requests(_compile(sized, device, settings), outputs, limit)

        try:
            compiled = _compile(model, device, settings)
            self._networks = FittedNetworks(Requests(compiled, outputs, limit), fitted_to)
        except Exception as error:
            raise ModelError(f"OpenVINO cannot prepare {path} for {device} ({engine_message(error)})") from error
        self._in_flight = InFlight(limit)
        float_precision = _NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]
        self._info = EngineInfo(
            engine=f"openvino {ov.__version__.split('-')[0]}",
            device=str(_core().get_property(device, "FULL_DEVICE_NAME")),
            precision="int8" if quantised else float_precision,
            float_precision=float_precision,
            threads=compiled.get_property("INFERENCE_NUM_THREADS") if device.startswith("CPU") else 0,
            model=str(path),
        )
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
            ModelError: If the picture has a size that the network cannot take, or the engine failed.
        """
        return self._run(self._networks.choose(images.shape), images)

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Future[list[Maps]]:
        """Start the network and return at once; blocks only while all requests are busy."""
        return self._in_flight.submit(partial(self._run, self._networks.choose(images.shape), images))

    def close(self) -> None:
        """Wait for running inferences and release the engine's memory; calling it again does nothing."""
        self._in_flight.close()
        self._networks.close()

    def _run(self, requests: Requests, images: UInt8[np.ndarray, "B H W 3"]) -> list[Maps]:
        images = check_images(images, self._spec)
        try:
            found = requests.run(images)
        except Exception as error:
            raise ModelError(
                f"OpenVINO failed on an input of shape {images.shape} ({engine_message(error)})"
            ) from error
        if found is None:
            raise ModelError(f"the model {self._info.model} was closed", hint="open it again")
        strides = self._spec.heatmap_stride, self._spec.paf_stride
        return [Maps(heatmaps, pafs, *strides) for heatmaps, pafs in found]


def _compile(model: Any, device: str, settings: dict[str, Any]) -> Any:
    """Compile, without what this version or this machine does not take: neither is needed for a right answer."""
    limit: dict[str, Any] = {}
    if device.startswith("CPU"):
        # Threads bound to cores lose to free ones as soon as anything else runs, and in a stream something always does.
        limit = {"CPU_RUNTIME_CACHE_CAPACITY": str(_KEPT_KERNELS), "ENABLE_CPU_PINNING": False}
    without_cache = {name: value for name, value in settings.items() if name != "CACHE_DIR"}
    for attempt in ({**settings, **limit}, {**without_cache, **limit}):
        try:
            return _core().compile_model(model, device, attempt)
        except RuntimeError as error:
            _logger.debug("%s: %s", sorted(attempt), engine_message(error))
    return _core().compile_model(model, device, without_cache)


def _find_device(wanted: str) -> str:
    """The engine's spelling of a device, or an error that lists what there is."""
    available: list[str] = _core().available_devices
    for device in available:
        if wanted.upper() in (device.upper(), device.upper().partition(".")[0]):
            return device
    raise ModelError(f"there is no device {wanted!r} for OpenVINO here", expected=f"one of {', '.join(available)}")


def _quantisation(model: Any) -> tuple[bool, bool]:
    """(some, all) of the layers that multiply have quantised inputs."""
    layers = [op for op in model.get_ops() if op.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")]
    quantised = sum(_is_quantised(layer.input_value(0).get_node()) for layer in layers)
    return quantised > 0, 0 < quantised == len(layers)


def _is_quantised(source: Any) -> bool:
    """Whether an activation comes from a quantisation, possibly through layers that only move or select values."""
    match source.get_type_name():
        case "FakeQuantize":
            return True
        case "Concat":
            return all(_is_quantised(value.get_node()) for value in source.input_values())
        case "Reshape" | "Transpose" | "MaxPool" | "Relu":
            return _is_quantised(source.input_value(0).get_node())
    return False


def _open_sizes(model: Any, spec: ModelSpec, path: Path) -> Any:
    """Leave batch, height and width open, after checking that the graph is of the architecture that was promised."""
    if (
        len(model.inputs) != 1
        or model.inputs[0].partial_shape.rank.is_dynamic
        or len(model.inputs[0].partial_shape) != 4
    ):
        shapes = ", ".join(str(port.partial_shape) for port in model.inputs)
        raise ModelError(
            f"{path} takes inputs of shape {shapes}", expected="one input of four axes: a batch of pictures"
        )
    names = {name for port in model.outputs for name in port.get_names()}
    for name in (spec.heatmap_output, spec.paf_output):
        if name not in names:
            raise ModelError(
                f"{path} has no output {name!r}",
                expected=f"a pose network like {spec.name}, here are {', '.join(sorted(names))}",
            )
    shape = model.inputs[0].partial_shape
    channels = [axis for axis in (1, 3) if shape[axis].is_static and shape[axis].get_length() == 3]
    if not channels:
        raise ModelError(f"{path} takes an input of shape {shape}", expected="three colour channels")
    axis = channels[0]
    rows, width = 8 * spec.size_multiple, 16 * spec.size_multiple
    try:
        # First one size, to see what comes out; then any, which leaves the outputs' sizes open as well.
        model.reshape([1, 3, rows, width] if axis == 1 else [1, rows, width, 3])
        for name, role in ((spec.heatmap_output, "heatmaps"), (spec.paf_output, "pafs")):
            found = [size.get_length() if size.is_static else None for size in model.output(name).partial_shape]
            check_channels(found, role, spec, path)
            check_strides(found, (rows, width), role, spec, path)
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
    for name in (spec.heatmap_output, spec.paf_output):
        # Its layers keep channels last: turning them round is left to `Requests.run`, which does it faster.
        steps.output(name).model().set_layout(ov.Layout("NCHW"))
        steps.output(name).tensor().set_layout(ov.Layout("NHWC")).set_element_type(ov.Type.f32)
    return steps.build()


def _choose_precision(options: EngineOptions, device: str, path: Path, *, quantised: bool, all_quantised: bool) -> str:
    """Number format of the layers that are not quantised.

    Where every convolution is quantised the rest costs the same in any format, and float32 is exact and the same on
    every machine.
    """
    wanted = options.precision
    if wanted == "int8" and not quantised:
        raise ModelError(
            f"{path} is not quantised, so it cannot run in INT8",
            expected="a file with quantised layers",
            hint="quantise it first, or choose another precision",
        )
    if wanted == "f32" or (all_quantised and wanted in ("auto", "int8")):
        return "f32"
    native = _native_formats(device)
    if wanted in ("bf16", "f16"):
        if wanted not in native:
            raise ModelError(
                f"{processor().name if device.startswith('CPU') else device} does not compute in {wanted} natively",
                expected=f"one of {', '.join(['f32', *native])}",
                hint="--precision auto chooses the fastest",
            )
        return wanted
    return native[0] if native else "f32"


def _native_formats(device: str) -> list[str]:
    """Half-size formats that the device has and OpenVINO uses there, the faster first."""
    supported = _core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    if not device.startswith("CPU"):
        return ["f16"] if "FP16" in supported else []
    # OpenVINO reports BF16 as well where it is emulated: the processor has the last word.
    facts = processor()
    candidates = (("bf16", "BF16", facts.bf16), ("f16", "FP16", facts.f16))
    return [name for name, capability, native in candidates if native and capability in supported]
