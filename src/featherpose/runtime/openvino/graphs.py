"""Layers and costs of a model file, and the same network without its quantization."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import openvino as ov
from openvino.passes import ConstantFolding, Manager

from featherpose.errors import ModelError, OptionError
from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.core import engine_core, locale_kept

__all__ = ["GraphLayer", "is_quantized", "read_layers", "write_float_copy"]

# Layers that may stand between stored numbers and the layer that multiplies with them.
_WEIGHT_STEPS = frozenset({"Convert", "Subtract", "Multiply", "Reshape", "Transpose", "FakeQuantize", "Squeeze",
                           "Unsqueeze"})  # fmt: skip
_MULTIPLYING = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")


@dataclass(frozen=True, slots=True)
class GraphLayer:
    """A layer that multiplies.

    Attributes:
        name: Its name in the file.
        macs: Multiply-accumulates for one image.
        inputs: Numbers it reads.
        weights: Numbers it multiplies them with.
        outputs: Numbers it writes.
        quantized: Whether its inputs are quantized to 8 bits.
        parameters: Stored numbers: those of the weights that are, and of a bias added right behind.
        stride: Input pixels per output cell; 0 for a matrix product.
    """

    name: str
    macs: int
    inputs: int
    weights: int
    outputs: int
    quantized: bool
    parameters: int
    stride: int


def _read(path: Path) -> Any:
    try:
        with locale_kept():
            return engine_core().read_model(path)
    except Exception as error:  # the engine raises whatever its readers raise
        raise ModelError(
            f"{path} is not a model that OpenVINO can read ({engine_message(error)})",
            expected="an undamaged IR (.xml with its .bin), .onnx or .tflite file",
        ) from error


def is_quantized(path: Path) -> bool:
    """Return whether any layer of a model file is quantized.

    Raises:
        ModelError: If the file cannot be read.
    """
    return any(node.get_type_name() == "FakeQuantize" for node in _read(path).get_ops())


def read_layers(path: Path, size: tuple[int, int]) -> list[GraphLayer]:
    """Return the layers that multiply, in the order of the data, for one image.

    Args:
        path: ``.xml``, ``.onnx`` or ``.tflite``.
        size: (width, height) of the network input in pixels.

    Raises:
        ModelError: If the file cannot be read.
        OptionError: If the network cannot take that size.
    """
    model = _read(path)
    width, height = size
    try:
        shape = model.inputs[0].partial_shape
        channels_first = shape[1].is_static and shape[1].get_length() == 3
        model.reshape([1, 3, height, width] if channels_first else [1, height, width, 3])
    except Exception as error:  # the engine raises whatever its layers raise
        raise OptionError(
            f"{path} cannot take images of {width}x{height} ({engine_message(error)})", hint="try a multiple of 32"
        ) from error
    layers = []
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in _MULTIPLYING:
            continue
        source, kernel = (list(value.get_shape()) for value in node.input_values()[:2])
        target = list(node.output(0).get_shape())
        if kind == "MatMul":
            macs = prod(target) * source[-2 if node.get_attributes()["transpose_a"] else -1]
        elif kind == "Convolution":  # kernel: out, in, rows, columns
            macs = prod(target) * prod(kernel[1:])
        elif kind == "GroupConvolution":  # kernel: groups, out, in, rows, columns
            macs = prod(target) * prod(kernel[2:])
        else:  # transposed: every input number is multiplied with the whole kernel behind its own channel
            macs = prod(source) * prod(kernel[1 if kind == "ConvolutionBackpropData" else 2 :])
        quantized = _comes_from_quantization(node.input_value(0).get_node())
        stride = round(height / target[2]) if len(target) == 4 and kind != "MatMul" else 0
        layers.append(
            GraphLayer(
                node.get_friendly_name(), macs, prod(source), prod(kernel), prod(target), quantized,
                _stored(node, prod(kernel)) + _bias(node, target), stride,
            )
        )  # fmt: skip
    return layers


def _stored(node: Any, count: int) -> int:
    """Return how many of a layer's multipliers are numbers of the file, not the result of another layer."""
    source = node.input_value(1).get_node()
    while source.get_type_name() in _WEIGHT_STEPS:
        source = source.input_value(0).get_node()
    return count if source.get_type_name() == "Constant" else 0


def _bias(node: Any, output: list[int]) -> int:
    """Return how many numbers an addition right behind the layer adds to each channel."""
    channels = output[1] if len(output) == 4 else output[-1]
    for target in node.output(0).get_target_inputs():
        addition = target.get_node()
        if addition.get_type_name() == "Add" and prod(addition.input_value(1).shape) == channels:
            return channels
    return 0


def _comes_from_quantization(node: Any) -> bool:
    """Return whether a value is quantized, possibly before layers that only move or select values."""
    kind = node.get_type_name()
    if kind in ("Reshape", "Transpose", "MaxPool", "Relu"):
        return _comes_from_quantization(node.input_value(0).get_node())
    if kind == "Concat":
        return all(_comes_from_quantization(value.get_node()) for value in node.input_values())
    return bool(kind == "FakeQuantize")


def write_float_copy(source: Path, target: Path) -> None:
    """Write a network without its quantization: the same layers and weights, computed in floating point.

    Weights keep the rounding they have, so this is the network to time and to compare INT8 arithmetic with, not the
    one that was quantized.

    Args:
        source: A quantized model file.
        target: ``.xml`` to write; its ``.bin`` lands beside it.

    Raises:
        ModelError: If the file cannot be read.
    """
    model = _read(source)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(node.input_value(0))
    # Weights are stored as whole numbers with a scale; otherwise they would be scaled anew in every inference.
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    ov.save_model(model, target, compress_to_fp16=False)
