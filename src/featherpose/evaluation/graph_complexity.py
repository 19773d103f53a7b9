"""Multiply-accumulates and parameters of a model file, from its own layers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.complexity import Complexity, Part

__all__ = ["graph_complexity"]

_MULTIPLYING = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
# What may stand between stored numbers and the layer that multiplies with them.
_WEIGHT_STEPS = frozenset({"Convert", "Subtract", "Multiply", "Reshape", "Transpose", "FakeQuantize", "Squeeze",
                           "Unsqueeze"})  # fmt: skip


def graph_complexity(path: Path, size: tuple[int, int] = (368, 368)) -> Complexity:
    """Count the layers of an OpenVINO IR, ONNX or TFLite file, by the stride that they run at.

    Args:
        path: The file.
        size: Input (width, height) in pixels.

    Returns:
        One part for each stride; parameters are weights of convolutions and matrix products, and what is added to
        their results.

    Raises:
        ModelError: If the file cannot be read.
        OptionError: If the network cannot take this size.
    """
    import openvino as ov

    try:
        model = ov.Core().read_model(path)
    except Exception as error:
        raise ModelError(f"{path} cannot be read as a model", expected="an .xml, .onnx or .tflite file") from error
    width, height = size
    try:
        shape = model.inputs[0].partial_shape
        channels_last = shape.rank.is_static and shape[len(shape) - 1].is_static and shape[3].get_length() == 3
        model.reshape([1, height, width, 3] if channels_last else [1, 3, height, width])
    except Exception as error:
        raise OptionError(f"{path} cannot take an input of {width}x{height}", hint="try a multiple of 32") from error
    macs: dict[int, int] = {}
    parameters: dict[int, int] = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in _MULTIPLYING:
            continue
        output = [int(size) for size in node.output(0).shape]
        stride = round(height / output[2]) if len(output) == 4 and kind != "MatMul" else 0
        macs[stride] = macs.get(stride, 0) + _macs(node, kind, output)
        parameters[stride] = parameters.get(stride, 0) + _weights(node) + _bias(node, output)
    parts, total = [], 0
    for stride in sorted(macs, key=lambda s: (s == 0, s)):
        total += macs[stride]
        parts.append(Part(f"stride {stride}" if stride else "matrix products", macs[stride], parameters[stride], total))
    return Complexity(str(path), size, tuple(parts))


def _macs(node: Any, kind: str, output: list[int]) -> int:
    """Output cells times the products behind each."""
    inputs = [int(size) for size in node.input_value(0).shape]
    if kind == "MatMul":
        inner = inputs[-2] if node.get_attributes().get("transpose_a") else inputs[-1]
        return math.prod(output) * inner
    weights = [int(size) for size in node.input_value(1).shape]
    # Convolutions: [out, in, kernel]; grouped: [groups, out, in, kernel]. Transposed ones spread their input instead.
    if "Backprop" in kind:
        return math.prod(inputs[2:]) * math.prod(weights)
    return math.prod(output[2:]) * math.prod(weights)


def _weights(node: Any) -> int:
    value = node.input_value(1)
    source = value.get_node()
    while source.get_type_name() in _WEIGHT_STEPS:
        source = source.input_value(0).get_node()
    return math.prod(value.shape) if source.get_type_name() == "Constant" else 0


def _bias(node: Any, output: list[int]) -> int:
    """Numbers that an addition right behind the layer adds to each channel."""
    channels = output[1] if len(output) == 4 else output[-1]
    for target in node.output(0).get_target_inputs():
        addition = target.get_node()
        if addition.get_type_name() == "Add" and math.prod(addition.input_value(1).shape) == channels:
            return channels
    return 0
