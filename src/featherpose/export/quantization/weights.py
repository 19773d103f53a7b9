"""Weights of convolutions in OpenVINO graphs, floating or quantized."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

__all__ = ["QuantizedLayer", "quantized_layers"]

_CONVOLUTIONS = ("Convolution", "GroupConvolution")


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A convolution with quantized weights, and its floating-point counterpart.

    Attributes:
        node: The convolution.
        twin: The same convolution in the graph in floating point.
        multiply: The node that multiplies integers and scales.
        weights: float32[D, ...] before rounding; a depthwise layer's are [D, 1, 1, k, k].
        steps: int8, of the same shape.
        scales: One a filter.
    """

    node: Any
    twin: Any
    multiply: Any
    weights: Float32[np.ndarray, "D *rest"]
    steps: np.ndarray
    scales: Float32[np.ndarray, " D"]

    def round_to(self, steps: np.ndarray, scales: Float32[np.ndarray, " D"]) -> None:
        """Replace integers and scales."""
        from openvino import opset13 as operations

        old = self.multiply.input_value(1).get_node()
        kind, shape = old.get_element_type().to_dtype(), list(old.get_output_shape(0))
        integers = operations.constant(steps.astype(np.int8).reshape(self.weights.shape))
        self.multiply.input_value(0).get_node().input(0).replace_source_output(integers.output(0))
        self.multiply.input(1).replace_source_output(operations.constant(scales.reshape(shape).astype(kind)).output(0))


def quantized_layers(quantized: Any, original: Any) -> Iterator[QuantizedLayer]:
    """Return the convolutions with 8-bit weights and a scale a filter, in the order of the data.

    Args:
        quantized: An ``openvino.Model``.
        original: The same in floating point, its layers with the same names.
    """
    floating = {node.get_friendly_name(): node for node in original.get_ops() if node.get_type_name() in _CONVOLUTIONS}
    for node in quantized.get_ordered_ops():
        if node.get_type_name() not in _CONVOLUTIONS or node.get_friendly_name() not in floating:
            continue
        twin = floating[node.get_friendly_name()]
        multiply = node.input_value(1).get_node()
        weights = _values(twin.input_value(1).get_node())
        integers = _integers(multiply)
        if weights is None or integers is None or integers.shape != weights.shape:
            continue
        scales = np.array(multiply.input_value(1).get_node().data, np.float32).ravel()
        if len(scales) == len(weights):
            yield QuantizedLayer(node, twin, multiply, weights, integers, scales)


def _integers(multiply: Any) -> np.ndarray | None:
    if multiply.get_type_name() != "Multiply":
        return None
    convert, scales = (multiply.input_value(i).get_node() for i in (0, 1))
    if convert.get_type_name() != "Convert" or scales.get_type_name() != "Constant":
        return None
    integers = convert.input_value(0).get_node()
    if integers.get_type_name() != "Constant" or integers.get_element_type().get_type_name() != "i8":
        return None
    return np.array(integers.data, np.int8)


def _values(node: Any) -> Float32[np.ndarray, "..."] | None:
    """Return the value of constant weights, independent of storage format and reshapes."""
    kind = node.get_type_name()
    if kind == "Constant":
        return np.asarray(node.data, np.float32)
    if kind not in ("Convert", "Reshape"):
        return None
    inner = _values(node.input_value(0).get_node())
    return inner.reshape(list(node.get_output_shape(0))) if inner is not None and kind == "Reshape" else inner
