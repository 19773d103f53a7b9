"""Removes quantization of activations that no 8-bit layer reads.

NNCF quantizes both inputs and the output of every sum, also between layers that stay in floating point. An engine gains
from 8-bit values only where a layer multiplies them: every other FakeQuantize node is a pass over a map, often with a
change of its memory layout, and an error without benefit.
"""

from __future__ import annotations

from typing import Any

__all__ = ["remove_redundant_fake_quantize"]

_MULTIPLYING = ("Convolution", "GroupConvolution", "MatMul")
# Layers that pass on values, or means of them, so that 8 bits stay 8 bits.
_HANDING_ON = ("Concat", "Interpolate", "MaxPool", "Pad", "Relu", "Reshape", "Slice", "StridedSlice", "Transpose")
_INTEGERS = ("i8", "u8", "i4", "u4")


def remove_redundant_fake_quantize(quantized: Any) -> int:
    """Bypass FakeQuantize nodes whose consumers are not INT8 layers.

    Args:
        quantized: An ``openvino.Model`` with 8-bit weights; changed in place.

    Returns:
        The number of removed nodes.
    """
    dropped = 0
    # From the end, so that a node that only feeds a removed one is seen to feed nothing.
    for node in reversed(list(quantized.get_ordered_ops())):
        if node.get_type_name() == "FakeQuantize" and not _is_multiplied(node.output(0)):
            for reader in list(node.output(0).get_target_inputs()):
                reader.replace_source_output(node.input_value(0))
            dropped += 1
    return dropped


def _is_multiplied(values: Any) -> bool:
    """Return whether an 8-bit layer reads these values, possibly through layers that only pass them on."""
    for reader in values.get_target_inputs():
        node = reader.get_node()
        kind = node.get_type_name()
        if kind in _MULTIPLYING and (reader.get_index() == 1 or _has_integers(node.input_value(1).get_node())):
            return True
        if kind in _HANDING_ON and _is_multiplied(node.output(0)):
            return True
    return False


def _has_integers(weights: Any) -> bool:
    """Return whether weights are stored as integers times scales, or quantized by a node."""
    while weights.get_type_name() in ("Convert", "Multiply", "Reshape", "Subtract", "Transpose"):
        weights = weights.input_value(0).get_node()
    return weights.get_type_name() == "FakeQuantize" or weights.get_element_type().get_type_name() in _INTEGERS
