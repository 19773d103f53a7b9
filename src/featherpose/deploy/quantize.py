"""INT8 by post-training quantisation: NNCF measures the range of every activation on real pictures.

Layers that suffer can stay in floating point: named by pattern, or found by `sensitive_layers`, which lets one layer
after the other see unrounded activations and asks how much nearer the maps come to the original's.
"""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from featherpose.deploy.graph_files import read_graph
from featherpose.deploy.needless_rounding import drop_needless_rounding
from featherpose.deploy.rounding_errors import correct_biases, give_each_filter_its_scale
from featherpose.errors import MissingExtraError, ModelError, OptionError
from featherpose.media.images import read_image
from featherpose.preprocess import prepare
from featherpose.runtime.backend import ModelSpec

__all__ = ["QuantizeOptions", "Sensitivity", "calibration_inputs", "layer_names", "quantize_graph", "sensitive_layers"]

_log = logging.getLogger(__name__)
_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_MEANS_OF = 32  # pictures that tell the means of a layer's inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """How a network is quantised.

    Attributes:
        height: Network input height of the calibration pictures in pixels.
        pictures: Calibration pictures.
        keep: Regular expressions; layers whose name one of them matches stay in floating point.
        keep_sensitive: How many more layers stay, the most sensitive ones.
        ranges: How an activation's range follows from the pictures: ``whole`` spans every value that was seen,
            ``mean`` the mean of the pictures' extremes. Keypoints are what is rare and large in a map, so cutting
            extremes costs more here than it gains in resolution.
        bias_correction: Whether biases make up for the mean error of rounded weights.

    Raises:
        OptionError: If a value is outside its range.
    """

    height: int = 256
    pictures: int = 200
    keep: tuple[str, ...] = ()
    keep_sensitive: int = 0
    ranges: Literal["whole", "mean"] = "whole"
    bias_correction: bool = True

    def __post_init__(self) -> None:
        if self.height < 8 or self.pictures < 1 or self.keep_sensitive < 0:
            raise OptionError(
                f"height {self.height}, {self.pictures} pictures, {self.keep_sensitive} sensitive layers",
                expected="at least 8 pixels, 1 picture and 0 layers",
            )
        for pattern in self.keep:
            try:
                re.compile(pattern)
            except re.error as error:
                raise OptionError(f"{pattern!r} is no regular expression ({error})") from error


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one layer's rounded activations do to the maps.

    Attributes:
        layer: Its name in the graph.
        gain: Share of the maps' squared error that goes away when this layer alone sees unrounded activations.
    """

    layer: str
    gain: float


def layer_names(model: Any) -> list[str]:
    """Names of the layers that multiply, in the order of the data."""
    return [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in _LAYERS]


def calibration_inputs(
    pictures: Sequence[Path], spec: ModelSpec, height: int
) -> Iterable[UInt8[np.ndarray, "1 H W 3"]]:
    """Network inputs of picture files, read when they are needed.

    Raises:
        SourceError: If a picture cannot be read.
    """
    for path in pictures:
        yield prepare(read_image(path), height=height, size_multiple=spec.size_multiple, pad_value=spec.pad_value)[0]


def graph_input(model: Any, spec: ModelSpec) -> Callable[[UInt8[np.ndarray, "B H W 3"]], np.ndarray]:
    """How a prepared picture becomes this graph's input: nothing for ours, layout and scale for others.

    Raises:
        ModelError: If the graph does not take pictures.
    """
    port = model.inputs[0]
    shape = port.partial_shape
    if len(model.inputs) != 1 or shape.rank.is_dynamic or len(shape) != 4:
        raise ModelError("the graph takes other inputs than pictures", expected="one input of four axes")
    channels_first = shape[1].is_static and shape[1].get_length() == 3
    kind = port.element_type.to_dtype()

    def convert(images: UInt8[np.ndarray, "B H W 3"]) -> np.ndarray:
        values: np.ndarray = images[..., ::-1] if spec.rgb else images
        if spec.mean or spec.scale:
            mean, scale = spec.mean or (0.0, 0.0, 0.0), spec.scale or (1.0, 1.0, 1.0)
            values = (values - np.asarray(mean, np.float32)) / np.asarray(scale, np.float32)
        if channels_first:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=kind)

    return convert


def quantize_graph(
    path: Path, spec: ModelSpec, pictures: Sequence[Path], options: QuantizeOptions, *, kept: Sequence[str] = ()
) -> Any:
    """Quantise a model file.

    Args:
        path: OpenVINO IR or ONNX in floating point.
        spec: What it is.
        pictures: Calibration pictures.
        options: How.
        kept: Names of more layers that stay in floating point.

    Returns:
        An ``openvino.Model`` with 8-bit weights and quantised activations.

    Raises:
        MissingExtraError: If NNCF is not installed.
        ModelError: If the file cannot be read or is quantised already.
        OptionError: If a pattern of ``keep`` matches no layer.
    """
    nncf = _nncf()
    model = read_graph(path)
    if any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        raise ModelError(f"{path} is quantised already", expected="a model in floating point")
    names = layer_names(model)
    ignored = list(dict.fromkeys([*kept, *_matching(names, options.keep)]))
    convert = graph_input(model, spec)
    seen = [convert(images) for images in calibration_inputs(pictures, spec, options.height)]
    # Its bias correction comes too early: filters are rounded anew below.
    advanced = nncf.AdvancedQuantizationParameters(disable_bias_correction=True, **_range_estimator(options))
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        # NNCF draws progress bars on standard output and warns of its own dependencies.
        warnings.simplefilter("ignore")
        quantised = nncf.quantize(
            model, nncf.Dataset(seen), subset_size=len(pictures), target_device=nncf.TargetDevice.CPU,
            # ELU and the maps themselves take both signs, ReLU one: asymmetric activations, symmetric weights.
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None, advanced_parameters=advanced,
        )  # fmt: skip
    original = read_graph(path)
    drop_needless_rounding(quantised)
    give_each_filter_its_scale(quantised, original)
    if options.bias_correction:
        correct_biases(quantised, original, seen[:: max(1, len(seen) // _MEANS_OF)])
    return quantised


def _range_estimator(options: QuantizeOptions) -> dict[str, Any]:
    """The keyword by which NNCF is told the ranges; its own choice is the mean of the pictures' extremes."""
    if options.ranges == "mean":
        return {}
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return {"activations_range_estimator_params": RangeEstimatorParametersSet.MINMAX}


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        matches = [name for name in names if re.search(pattern, name)]
        if not matches:
            raise OptionError(
                f"no layer matches {pattern!r}", expected=f"part of a name such as {', '.join(names[-3:])}"
            )
        found += matches
    return found


def sensitive_layers(
    path: Path, quantised: Any, spec: ModelSpec, inputs: Sequence[UInt8[np.ndarray, "1 H W 3"]]
) -> list[Sensitivity]:
    """Rank the layers of a quantised model by what their rounded inputs cost, the most expensive first.

    Args:
        path: The model in floating point.
        quantised: The same, quantised; it is changed and changed back.
        spec: What it is.
        inputs: A few network inputs.
    """
    original = read_graph(path)
    convert = graph_input(original, spec)
    values = [convert(images) for images in inputs]
    wanted = _run(original, spec, values)
    whole = _error(wanted, _run(quantised, spec, values))
    ranking = []
    for node in quantised.get_ordered_ops():
        if node.get_type_name() not in _LAYERS:
            continue
        source = node.input_value(0)
        quantiser = source.get_node()
        if quantiser.get_type_name() != "FakeQuantize":
            continue
        node.input(0).replace_source_output(quantiser.input_value(0))
        error = _error(wanted, _run(quantised, spec, values))
        node.input(0).replace_source_output(source)
        ranking.append(Sensitivity(node.get_friendly_name(), (whole - error) / max(whole, 1e-30)))
        _log.debug("%s: gain %.4f", ranking[-1].layer, ranking[-1].gain)
    return sorted(ranking, key=lambda s: -s.gain)


def _run(model: Any, spec: ModelSpec, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(model, "CPU", settings)
    maps = []
    for value in values:
        result = compiled(value)
        maps += [np.array(result[spec.heatmap_output]), np.array(result[spec.paf_output])]
    return maps


def _error(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Squared error of each kind of map over its own square, so that neither drowns the other."""
    total = 0.0
    for first in (0, 1):
        pairs = list(zip(wanted[first::2], found[first::2], strict=True))
        power = sum(float(np.square(a).sum()) for a, _ in pairs)
        total += sum(float(np.square(a - b).sum()) for a, b in pairs) / max(power, 1e-30)
    return total


def _nncf() -> Any:
    # Quantising sends nothing anywhere: NNCF's own switch for machines that build and test.
    os.environ.setdefault("NNCF_CI", "1")
    logger_class = logging.getLoggerClass()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nncf
    except ImportError as error:
        raise MissingExtraError("quantising", "int8") from error
    finally:
        logging.setLoggerClass(logger_class)  # importing NNCF makes its own the class of everybody's loggers
    # NNCF's set_log_level would change the level of every handler too, and those may be other loggers' as well.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf
