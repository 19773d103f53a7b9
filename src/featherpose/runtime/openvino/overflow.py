"""8-bit weights on x86 processors without an 8-bit dot product.

Without VNNI or AMX a convolution multiplies two neighboring input channels at a time and adds both products in 16 bits
(``vpmaddubsw``). Two products of 255 and 127 do not fit: the sum saturates, and keypoints vanish. A pair of weights of
one sign that add up to at most 128 always fits. Most filters have only such pairs; the others are rounded once more,
with a step that is just large enough, when a file is opened. Files stay as they are, and processors with a dot product
use all 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64, Int8
from openvino import opset13 as operations

from featherpose.runtime.processor import Processor

__all__ = ["fit_weights", "overflows", "pair_excess"]

# 255 * 128 < 2 ** 15: the products of a pair that adds up to this much cannot saturate.
_MOST = 128


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
    """Round filters of a quantized ``openvino.Model`` in place, those of which a pair of weights is too large.

    Returns:
        The number of changed layers.
    """
    changed = 0
    for multiply, convert, integers in list(_quantized_weights(model)):
        steps = np.asarray(integers.data, np.int8)
        scale = multiply.input_value(1).get_node()
        scales = np.asarray(scale.data)
        # Filters of a grouped convolution are (groups, filters of a group, ...).
        leading = steps.ndim - 3 if steps.ndim > 3 else 1
        excess = pair_excess(steps.reshape(-1, *steps.shape[leading:])).reshape(steps.shape[:leading])
        if excess.max(initial=0) <= 1:
            continue
        if scales.size == 1:
            excess = np.full_like(excess, excess.max())
        wider = _wider(excess).reshape(steps.shape[:leading] + (1,) * (steps.ndim - leading))
        fitting = np.rint(steps / wider).astype(np.int8)
        convert.input(0).replace_source_output(operations.constant(fitting).output(0))
        multiply.input(1).replace_source_output(
            operations.constant((scales * wider).astype(scale.get_element_type().to_dtype())).output(0)
        )
        changed += 1
    return changed


def pair_excess(filters: Int8[np.ndarray, "O I ..."]) -> Float64[np.ndarray, " O"]:
    """Return how many times the largest pair of each filter is as large as one that fits.

    Args:
        filters: Weights of O filters over I input channels; pairs are channels 0 and 1, 2 and 3, and so on.

    Example:
        >>> pair_excess(np.int8([[[100], [-100], [90], [102]], [[64], [64], [0], [-64]]])).tolist()
        [1.5, 1.0]
    """
    count, channels = filters.shape[:2]
    flat = filters.reshape(count, channels, -1).astype(np.int32)
    if channels == 1:  # nothing is added in 16 bits
        return np.zeros(count)
    flat = np.pad(flat, ((0, 0), (0, channels % 2), (0, 0)))
    pairs = flat.reshape(count, -1, 2, flat.shape[2])
    # Inputs are not negative, so only weights of one sign add up.
    positive, negative = (np.maximum(sign * pairs, 0).sum(axis=2).max(axis=(1, 2), initial=0) for sign in (1, -1))
    return np.asarray(np.maximum(positive, negative) / _MOST, np.float64)


def _wider(excess: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Return the steps that fit, in present steps: both weights of a pair may be rounded up by half a step."""
    return np.where(excess > 1, excess * _MOST / (_MOST - 1), 1.0)


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
