"""Rounding of activations that no 8-bit layer reads.

NNCF rounds both sides of every sum and what comes out of it, and goes on doing so between layers that stay in floating
point. An engine gains from rounded values only where a layer multiplies them: every other rounding is a pass over a
map, often with a change of its memory layout, and an error for nothing.
"""

from __future__ import annotations

from typing import Any

__all__ = ["drop_needless_rounding"]

_MULTIPLYING = ("Convolution", "GroupConvolution", "MatMul")
# What hands values on as they are, or means of them, so that 8 bits stay 8 bits.
_HANDING_ON = ("Concat", "Interpolate", "MaxPool", "Pad", "Relu", "Reshape", "Slice", "StridedSlice", "Transpose")
_INTEGERS = ("i8", "u8", "i4", "u4")


def drop_needless_rounding(quantised: Any) -> int:
    """Let whoever reads rounded values without multiplying them by 8-bit weights read them unrounded.

    Args:
        quantised: An ``openvino.Model`` with 8-bit weights; changed in place.

    Returns:
        How many roundings went.
    """
    dropped = 0
    # From the end, so that what only feeds a rounding that goes is seen to feed nothing.
    for node in reversed(list(quantised.get_ordered_ops())):
        if node.get_type_name() == "FakeQuantize" and not _is_multiplied(node.output(0)):
            for reader in list(node.output(0).get_target_inputs()):
                reader.replace_source_output(node.input_value(0))
            dropped += 1
    return dropped


def _is_multiplied(values: Any) -> bool:
    """Whether an 8-bit layer reads these values, possibly through layers that only hand them on."""
    for reader in values.get_target_inputs():
        node = reader.get_node()
        kind = node.get_type_name()
        if kind in _MULTIPLYING and (reader.get_index() == 1 or _has_integers(node.input_value(1).get_node())):
            return True
        if kind in _HANDING_ON and _is_multiplied(node.output(0)):
            return True
    return False


def _has_integers(weights: Any) -> bool:
    """Whether weights are stored as integers times scales, or rounded where they stand."""
    while weights.get_type_name() in ("Convert", "Multiply", "Reshape", "Subtract", "Transpose"):
        weights = weights.input_value(0).get_node()
    return weights.get_type_name() == "FakeQuantize" or weights.get_element_type().get_type_name() in _INTEGERS
