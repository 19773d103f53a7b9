"""Corrects weight-quantization error: per-channel scales and biases.

Two errors that NNCF leaves, found on a network with folded batch norms:

Scales. NNCF keeps every filter's range at a hundredth of its layer's widest or more. One filter of a depthwise layer
can be a thousand times as large as the others (an almost constant channel, divided by its spread); all others then use
a few of the 255 steps. Engines take one scale a filter, so each filter gets its own.

Biases. A quantized filter has a mean error on its output: the error of its weights times the mean of its input. The
bias is corrected by it (Nagel et al. 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from featherpose.export.quantization.weights import QuantizedLayer, quantized_layers

__all__ = ["correct_biases", "requantize_per_channel"]

# The first layer has 7 bits on purpose, twice the scale of 8 bits; it is left unchanged.
_TOO_WIDE = 2.5
_MOST = {7: 63, 8: 127}


def requantize_per_channel(quantized: Any, original: Any, *, bits: Literal[7, 8] = 8) -> int:
    """Requantize the filters whose scale is far wider than necessary.

    Args:
        quantized: An ``openvino.Model`` with 8-bit weights; changed in place.
        original: The same in floating point, its layers with the same names.
        bits: Of the weights; 7-bit weights cannot overflow sums of 16 bits.

    Returns:
        The number of requantized filters.
    """
    changed, most = 0, _MOST[bits]
    for layer in list(quantized_layers(quantized, original)):
        filters = layer.weights.reshape(len(layer.weights), -1)
        needed = (np.abs(filters).max(axis=1) / most).astype(np.float32)
        wide = (layer.scales > _TOO_WIDE * needed) & (needed > 0)
        if not wide.any():
            continue
        scales = np.where(wide, needed, layer.scales).astype(np.float32)
        steps = layer.steps.reshape(filters.shape).copy()
        steps[wide] = np.clip(np.rint(filters[wide] / scales[wide, None]), -most, most)
        layer.round_to(steps, scales)
        changed += int(wide.sum())
    return changed


def correct_biases(quantized: Any, original: Any, inputs: Iterable[np.ndarray]) -> int:
    """Correct the biases by the mean error that the quantized weights cause.

    Args:
        quantized: An ``openvino.Model`` with 8-bit weights; changed in place.
        original: The same in floating point, its layers with the same names.
        inputs: What the graph takes, of some calibration images.

    Returns:
        The number of corrected layers; layers without a bias are left unchanged.
    """
    from openvino import opset13 as operations

    layers = list(quantized_layers(quantized, original))
    means = _mean_inputs(original, layers, inputs)
    corrected = 0
    for layer, mean in zip(layers, means, strict=True):
        bias = _bias_after(layer.node)
        if bias is None:
            continue
        constant = bias.get_source_output().get_node()
        scales = layer.scales.reshape(-1, *[1] * (layer.weights.ndim - 1))
        error = (layer.steps * scales - layer.weights).reshape(len(scales), -1, *layer.weights.shape[-2:])
        summed = error.sum(axis=(2, 3))  # D by the channels that a filter reads
        shift = summed[:, 0] * mean if layer.node.get_type_name() == "GroupConvolution" else summed @ mean
        values = np.array(constant.data, np.float32)
        moved = (values.ravel() - shift).reshape(values.shape).astype(constant.get_element_type().to_dtype())
        # This layer's alone: equal constants may be one node that other layers read, too.
        bias.replace_source_output(operations.constant(moved).output(0))
        corrected += 1
    return corrected


def _mean_inputs(
    original: Any, layers: list[QuantizedLayer], inputs: Iterable[np.ndarray]
) -> list[Float32[np.ndarray, " C"]]:
    """Return the mean of every layer's input channels over images and pixels, in floating point."""
    import openvino as ov
    from openvino import opset13 as operations

    from featherpose.runtime.openvino.core import engine_core

    axes = operations.constant(np.array([0, 2, 3]))
    results = [operations.result(operations.reduce_mean(layer.twin.input_value(0), axes)) for layer in layers]
    asked = ov.Model(results, original.get_parameters(), "means")
    compiled = engine_core().compile_model(asked, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    sums: list[np.ndarray] = [np.zeros(())] * len(layers)
    count = 0
    for images in inputs:
        found = compiled(images)
        sums = [total + found[i] for i, total in enumerate(sums)]
        count += 1
    return [np.asarray(total / max(1, count), np.float32) for total in sums]


def _bias_after(node: Any) -> Any:
    """Return where the sum behind a convolution reads its constant; None without one."""
    readers = list(node.output(0).get_target_inputs())
    if len(readers) != 1 or readers[0].get_node().get_type_name() != "Add":
        return None
    for given in readers[0].get_node().inputs():
        if given.get_source_output().get_node().get_type_name() == "Constant":
            return given
    return None
