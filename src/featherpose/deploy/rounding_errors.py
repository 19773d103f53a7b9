"""What rounding the weights does to a graph, made good where that costs nothing.

Two things that NNCF leaves, found on a network whose batch norms are folded away:

A scale of its own for each filter. NNCF lets no filter's range fall below a hundredth of its layer's widest. One filter
of a depthwise layer can be a thousand times as large as the others (a channel that hardly ever speaks, divided by its
spread), and then all others are left a few of the 255 steps. Engines do not ask for that: a scale a filter is what they
work with.

Biases that take back the mean error. A rounded filter answers a constant picture a little too strongly or weakly; what
that comes to is the error of its weights times the mean of its input (Nagel et al. 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float32

from featherpose.deploy.graph_weights import QuantisedLayer, quantised_layers

__all__ = ["correct_biases", "give_each_filter_its_scale"]

# The first layer has 7 bits on purpose, twice the scale that 8 bits would have; that is left.
_TOO_WIDE = 2.5
_MOST = 127


def give_each_filter_its_scale(quantised: Any, original: Any) -> int:
    """Round the filters anew whose scale is far wider than they need.

    Args:
        quantised: An ``openvino.Model`` with 8-bit weights; changed in place.
        original: The same in floating point, its layers with the same names.

    Returns:
        How many filters were rounded anew.
    """
    changed = 0
    for layer in list(quantised_layers(quantised, original)):
        filters = layer.weights.reshape(len(layer.weights), -1)
        needed = (np.abs(filters).max(axis=1) / _MOST).astype(np.float32)
        wide = (layer.scales > _TOO_WIDE * needed) & (needed > 0)
        if not wide.any():
            continue
        scales = np.where(wide, needed, layer.scales).astype(np.float32)
        steps = layer.steps.reshape(filters.shape).copy()
        steps[wide] = np.clip(np.rint(filters[wide] / scales[wide, None]), -_MOST, _MOST)
        layer.round_to(steps, scales)
        changed += int(wide.sum())
    return changed


def correct_biases(quantised: Any, original: Any, inputs: Iterable[np.ndarray]) -> int:
    """Shift the biases by the mean error that the rounded weights cause.

    Args:
        quantised: An ``openvino.Model`` with 8-bit weights; changed in place.
        original: The same in floating point, its layers with the same names.
        inputs: What the graph takes, of some calibration pictures.

    Returns:
        How many layers were corrected; one without a bias is left.
    """
    from openvino import opset13 as operations

    layers = list(quantised_layers(quantised, original))
    means = _mean_inputs(original, layers, inputs)
    corrected = 0
    for layer, mean in zip(layers, means, strict=True):
        bias = _bias_after(layer.node)
        if bias is None:
            continue
        constant = bias.get_source_output().get_node()
        scales = layer.scales.reshape(-1, *[1] * (layer.weights.ndim - 1))
        error = (layer.steps * scales - layer.weights).reshape(len(scales), -1, *layer.weights.shape[-2:])
        summed = error.sum(axis=(2, 3))  # D by the channels that a filter sees
        shift = summed[:, 0] * mean if layer.node.get_type_name() == "GroupConvolution" else summed @ mean
        values = np.array(constant.data, np.float32)
        moved = (values.ravel() - shift).reshape(values.shape).astype(constant.get_element_type().to_dtype())
        # This layer's alone: equal constants may be one node that other layers read, too.
        bias.replace_source_output(operations.constant(moved).output(0))
        corrected += 1
    return corrected


def _mean_inputs(
    original: Any, layers: list[QuantisedLayer], inputs: Iterable[np.ndarray]
) -> list[Float32[np.ndarray, " C"]]:
    """The mean of every layer's input channels over pictures and pixels, in floating point."""
    import openvino as ov
    from openvino import opset13 as operations

    axes = operations.constant(np.array([0, 2, 3]))
    results = [operations.result(operations.reduce_mean(layer.twin.input_value(0), axes)) for layer in layers]
    asked = ov.Model(results, original.get_parameters(), "means")
    compiled = ov.Core().compile_model(asked, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    sums: list[np.ndarray] = [np.zeros(())] * len(layers)
    count = 0
    for images in inputs:
        found = compiled(images)
        sums = [total + found[i] for i, total in enumerate(sums)]
        count += 1
    return [np.asarray(total / max(1, count), np.float32) for total in sums]


def _bias_after(node: Any) -> Any:
    """Where the sum behind a convolution reads its constant; None without one."""
    readers = list(node.output(0).get_target_inputs())
    if len(readers) != 1 or readers[0].get_node().get_type_name() != "Add":
        return None
    for given in readers[0].get_node().inputs():
        if given.get_source_output().get_node().get_type_name() == "Constant":
            return given
    return None
