"""Roundings that nobody multiplies go; those that 8-bit layers read stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as operations

from featherpose.export.quantization.redundant import remove_redundant_fake_quantize

_CHANCES = np.random.default_rng(1)


def _rounded(values: Any, name: str) -> Any:
    low, high = (operations.constant(np.float32(v)) for v in (-4.0, 4.0))
    node = operations.fake_quantize(values, low, high, low, high, 256)
    node.set_friendly_name(name)
    return node


def _layer(values: Any, *, quantized: bool) -> Any:
    weights = _CHANCES.integers(-127, 128, (3, 3, 1, 1)).astype(np.int8)
    floats = operations.constant(weights.astype(np.float32) / 127)
    if quantized:
        integers = operations.convert(operations.constant(weights), "f32")
        floats = operations.multiply(integers, operations.constant(np.full((3, 1, 1, 1), 1 / 127, np.float32)))
    return operations.convolution(values, floats, [1, 1], [0, 0], [0, 0], [1, 1])


def _names(model: ov.Model) -> set[str]:
    return {n.get_friendly_name() for n in model.get_ops() if n.get_type_name() == "FakeQuantize"}


def test_only_what_is_multiplied_is_rounded(astronaut: np.ndarray) -> None:
    images = operations.parameter([1, 3, -1, -1], ov.Type.f32)
    first = _layer(_rounded(images, "read by an 8-bit layer"), quantized=True)
    summed = operations.add(_rounded(first, "only added"), _rounded(images, "only added too"))
    pooled = operations.relu(_rounded(summed, "handed on to an 8-bit layer"))
    second = _layer(pooled, quantized=True)
    last = _layer(_rounded(second, "read by a layer in floating point"), quantized=False)
    model = ov.Model([_rounded(last, "an output")], [images], "five roundings too many")

    assert remove_redundant_fake_quantize(model) == 4
    assert _names(model) == {"read by an 8-bit layer", "handed on to an 8-bit layer"}

    image = np.ascontiguousarray(astronaut[None].transpose(0, 3, 1, 2), np.float32) / 255
    found = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]
    assert np.isfinite(found).all()
    assert np.ptp(found) > 0.1


def test_weights_rounded_where_they_stand_are_left() -> None:
    images = operations.parameter([1, 3, 8, 8], ov.Type.f32)
    weights = _rounded(operations.constant(_CHANCES.normal(size=(3, 3, 1, 1)).astype(np.float32)), "weights")
    layer = operations.convolution(_rounded(images, "input"), weights, [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([layer], [images], "weights rounded in place")
    assert remove_redundant_fake_quantize(model) == 0
    assert _names(model) == {"weights", "input"}
