"""INT8 by post-training quantization: NNCF measures the range of every activation on real images.

Sensitive layers can stay in floating point: named by pattern, or found by `sensitive_layers`, which gives one layer
after the other unquantized activations and measures how much nearer the maps come to the original's.
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

from featherpose.errors import MissingExtraError, ModelError, OptionError
from featherpose.export.graph_files import read_graph
from featherpose.export.inputs import ModelInput, read_input
from featherpose.export.quantization.corrections import correct_biases, requantize_per_channel
from featherpose.export.quantization.redundant import remove_redundant_fake_quantize
from featherpose.runtime.backend import ModelSpec
from featherpose.runtime.processor import processor

__all__ = ["QuantizeOptions", "Sensitivity", "calibration_inputs", "layer_names", "quantize_graph", "sensitive_layers"]

_log = logging.getLogger(__name__)
_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_MEANS_OF = 32  # images for the means of a layer's inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """Options of quantization.

    Attributes:
        height: Network input height of the calibration images in pixels.
        images: Calibration images.
        keep: Regular expressions; layers whose name one of them matches stay in floating point.
        keep_depthwise: Whether depthwise convolutions stay in floating point: few values share a filter there, so they
            lose most by rounding, and on small maps many processors run them no faster in INT8.
        keep_sensitive: How many more layers stay, the most sensitive ones.
        ranges: How an activation's range follows from the images: ``whole`` spans every value that was seen,
            ``mean`` the mean of the images' extremes. Keypoints are what is rare and large in a map, so cutting
            extremes costs more here than it gains in resolution.
        range_quantile: Over 0, ranges leave out this share of the smallest and of the largest values of each image; in
            place of ``ranges``, for networks whose widest values are outliers.
        bias_correction: Whether biases are corrected by the mean error of quantized weights.
        weight_bits: ``8``, ``7``, or ``auto``: 8 where this processor has an 8-bit dot product (VNNI). Others add
            pairs of products in 16 bits, which 8-bit weights overflow; 7-bit weights run alike everywhere.

    Raises:
        OptionError: If a value is outside its range.
    """

    height: int = 256
    images: int = 200
    keep: tuple[str, ...] = ()
    keep_depthwise: bool = False
    keep_sensitive: int = 0
    ranges: Literal["whole", "mean"] = "whole"
    range_quantile: float = 0.0
    bias_correction: bool = True
    weight_bits: Literal["auto", "7", "8"] = "auto"

    @property
    def narrow_weights(self) -> bool:
        """Whether all weights have 7 bits, not those of the first layer alone."""
        return self.weight_bits == "7" or (self.weight_bits == "auto" and not processor().int8_dot)

    def __post_init__(self) -> None:
        if self.height < 8 or self.images < 1 or self.keep_sensitive < 0:
            raise OptionError(
                f"height {self.height}, {self.images} images, {self.keep_sensitive} sensitive layers",
                expected="at least 8 pixels, 1 image and 0 layers",
            )
        if not 0 <= self.range_quantile < 0.1:
            raise OptionError(f"a range quantile of {self.range_quantile}", expected="from 0 to under 0.1")
        for pattern in self.keep:
            try:
                re.compile(pattern)
            except re.error as error:
                raise OptionError(f"{pattern!r} is no regular expression ({error})") from error


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Effect of one layer's quantized activations on the maps.

    Attributes:
        layer: Its name in the graph.
        gain: Share of the maps' squared error that vanishes when this layer alone gets unquantized activations.
    """

    layer: str
    gain: float


def layer_names(model: Any, *, kinds: Sequence[str] = _LAYERS) -> list[str]:
    """Return the names of the layers that multiply, or those of some kinds, in the order of the data."""
    return [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in kinds]


def calibration_inputs(
    images: Sequence[ModelInput | Path], spec: ModelSpec, height: int
) -> Iterable[UInt8[np.ndarray, "1 H W 3"]]:
    """Yield network inputs of image files, or of people in them, read on demand.

    Raises:
        SourceError: If an image cannot be read.
    """
    for image in images:
        yield read_input(image, spec, height)[0]


def graph_input(model: Any, spec: ModelSpec) -> Callable[[UInt8[np.ndarray, "B H W 3"]], np.ndarray]:
    """Return how a prepared image becomes this graph's input: unchanged for ours, layout and scale for others.

    Raises:
        ModelError: If the graph does not take images.
    """
    port = model.inputs[0]
    shape = port.partial_shape
    if len(model.inputs) != 1 or shape.rank.is_dynamic or len(shape) != 4:
        raise ModelError("the graph takes other inputs than images", expected="one input of four axes")
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
    path: Path,
    spec: ModelSpec,
    images: Sequence[ModelInput | Path],
    options: QuantizeOptions,
    *,
    kept: Sequence[str] = (),
) -> Any:
    """Quantize a model file.

    Args:
        path: OpenVINO IR or ONNX in floating point.
        spec: Facts of the model.
        images: Calibration images.
        options: Options of quantization.
        kept: Names of more layers that stay in floating point.

    Returns:
        An ``openvino.Model`` with 8-bit weights and quantized activations.

    Raises:
        MissingExtraError: If NNCF is not installed.
        ModelError: If the file cannot be read or is quantized already.
        OptionError: If a pattern of ``keep`` matches no layer.
    """
    nncf = _nncf()
    model = read_graph(path)
    if any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        raise ModelError(f"{path} is quantized already", expected="a model in floating point")
    names = layer_names(model)
    depthwise = layer_names(model, kinds=("GroupConvolution",)) if options.keep_depthwise else []
    ignored = list(dict.fromkeys([*kept, *_matching(names, options.keep), *depthwise]))
    convert = graph_input(model, spec)
    seen = [convert(images) for images in calibration_inputs(images, spec, options.height)]
    # NNCF's own bias correction would come too early: filters are requantized below.
    overflow = nncf.OverflowFix.ENABLE if options.narrow_weights else nncf.OverflowFix.FIRST_LAYER
    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=overflow, disable_bias_correction=True, **_range_estimator(options)
    )
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        # NNCF draws progress bars on standard output and warns of its own dependencies.
        warnings.simplefilter("ignore")
        quantized = nncf.quantize(
            model, nncf.Dataset(seen), subset_size=len(images), target_device=nncf.TargetDevice.CPU,
            # ELU and the maps themselves take both signs, ReLU one: asymmetric activations, symmetric weights.
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None, advanced_parameters=advanced,
        )  # fmt: skip
    original = read_graph(path)
    remove_redundant_fake_quantize(quantized)
    requantize_per_channel(quantized, original, bits=7 if options.narrow_weights else 8)
    if options.bias_correction:
        correct_biases(quantized, original, seen[:: max(1, len(seen) // _MEANS_OF)])
    return quantized


def _range_estimator(options: QuantizeOptions) -> dict[str, Any]:
    """Return NNCF's keyword arguments for the ranges; its own choice is the mean of the images' extremes."""
    if options.ranges == "mean" and not options.range_quantile:
        return {}
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    if cut := options.range_quantile:
        low, high = (
            StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=cut)
            for _ in range(2)
        )
        return {"activations_range_estimator_params": RangeEstimatorParameters(min=low, max=high)}
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
    path: Path, quantized: Any, spec: ModelSpec, inputs: Sequence[UInt8[np.ndarray, "1 H W 3"]]
) -> list[Sensitivity]:
    """Rank the layers of a quantized model by the error of their quantized inputs, the largest first.

    Args:
        path: The model in floating point.
        quantized: The same, quantized; it is changed and changed back.
        spec: Facts of the model.
        inputs: A few network inputs.
    """
    original = read_graph(path)
    convert = graph_input(original, spec)
    values = [convert(images) for images in inputs]
    wanted = _run(original, spec, values)
    whole = _error(wanted, _run(quantized, spec, values), len(spec.outputs))
    ranking = []
    for node in quantized.get_ordered_ops():
        if node.get_type_name() not in _LAYERS:
            continue
        source = node.input_value(0)
        quantizer = source.get_node()
        if quantizer.get_type_name() != "FakeQuantize":
            continue
        node.input(0).replace_source_output(quantizer.input_value(0))
        error = _error(wanted, _run(quantized, spec, values), len(spec.outputs))
        node.input(0).replace_source_output(source)
        ranking.append(Sensitivity(node.get_friendly_name(), (whole - error) / max(whole, 1e-30)))
        _log.debug("%s: gain %.4f", ranking[-1].layer, ranking[-1].gain)
    return sorted(ranking, key=lambda s: -s.gain)


def _run(model: Any, spec: ModelSpec, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    from featherpose.runtime.openvino.core import engine_core

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = engine_core().compile_model(model, "CPU", settings)
    maps = []
    for value in values:
        result = compiled(value)
        maps += [np.array(result[output.graph_name]) for output in spec.outputs]
    return maps


def _error(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray], outputs: int) -> float:
    """Return the squared error of each output relative to its own square, so that all count alike."""
    total = 0.0
    for first in range(outputs):
        pairs = list(zip(wanted[first::outputs], found[first::outputs], strict=True))
        power = sum(float(np.square(a).sum()) for a, _ in pairs)
        total += sum(float(np.square(a - b).sum()) for a, b in pairs) / max(power, 1e-30)
    return total


def _nncf() -> Any:
    # Quantizing sends nothing: NNCF's own switch for build and test machines.
    os.environ.setdefault("NNCF_CI", "1")
    logger_class = logging.getLoggerClass()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nncf
    except ImportError as error:
        raise MissingExtraError("quantizing", "int8") from error
    finally:
        logging.setLoggerClass(logger_class)  # importing NNCF makes its own class the class of all loggers
    # NNCF's set_log_level would change the level of every handler, including those of other loggers.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf
