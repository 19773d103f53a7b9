"""8-bit weights on x86 processors without an 8-bit dot product.

Without VNNI or AMX a convolution adds pairs of products of 8 bits in 16 bits (``vpmaddubsw``), and two products of 255
and 127 do not fit: sums saturate, and keypoints vanish. Weights of 7 bits always fit, so there they are rounded once
more when a file is opened. Files stay as they are, and processors with a dot product use all 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from openvino import opset13 as operations

from featherpose.runtime.processor import Processor

__all__ = ["fit_weights", "overflows"]

# 2 * 255 * 64 < 2 ** 15: weights up to this size cannot saturate.
_MOST = 64


def overflows(processor: Processor) -> bool:
    """Return whether sums of 8-bit products saturate on a processor.

    Example:
        >>> (
        ...     overflows(Processor("Zen 3", frozenset({"avx2"}))),
        ...     overflows(Processor("Zen 4", frozenset({"avx512_vnni"}))),
        ... )
        (True, False)
    """
    return "avx2" in processor.features and not processor.int8_dot


def fit_weights(model: Any) -> int:
    """Round the weights of a quantized ``openvino.Model`` to 7 bits, in place, layer by layer where they are larger.

    Returns:
        The number of changed layers.
    """
    changed = 0
    for multiply, convert, integers in list(_quantized_weights(model)):
        steps = np.asarray(integers.data, np.int8)
        if int(np.abs(steps.astype(np.int16)).max(initial=0)) <= _MOST:
            continue
        halves = np.clip(np.rint(steps / 2), -_MOST, _MOST).astype(np.int8)
        scale = multiply.input_value(1).get_node()
        doubled = np.asarray(scale.data) * 2
        convert.input(0).replace_source_output(operations.constant(halves).output(0))
        multiply.input(1).replace_source_output(
            operations.constant(doubled.astype(scale.get_element_type().to_dtype())).output(0)
        )
        changed += 1
    return changed


def _quantized_weights(model: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (multiplication by the scales, conversion, 8-bit constant) of every layer without a zero point."""
    for multiply in model.get_ops():
        if multiply.get_type_name() != "Multiply":
            continue
        convert, scale = (multiply.input_value(i).get_node() for i in (0, 1))
        if convert.get_type_name() != "Convert" or scale.get_type_name() != "Constant":
            continue
        integers = convert.input_value(0).get_node()
        if integers.get_type_name() == "Constant" and integers.get_element_type().get_type_name() == "i8":
            yield multiply, convert, integers
