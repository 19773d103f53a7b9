"""What rounding the weights does, and how it is made good, where one filter is far above the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as operations

from featherpose.export.quantization.corrections import correct_biases, requantize_per_channel
from featherpose.export.quantization.weights import quantized_layers

_LOUD = np.array([0.2, 500.0, 0.4], np.float32)


def _graph(weights: Any, bias: np.ndarray) -> ov.Model:
    images = operations.parameter([1, 3, -1, -1], ov.Type.f32)
    depthwise = len(weights.get_output_shape(0)) == 5
    convolve = operations.group_convolution if depthwise else operations.convolution
    layer = convolve(images, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    layer.set_friendly_name("layer")
    return ov.Model([operations.add(layer, operations.constant(bias))], [images], "one layer")


@pytest.fixture
def filters() -> np.ndarray:
    chances = np.random.default_rng(4)
    shapes = chances.uniform(-1, 1, (3, 1, 1, 3, 3)).astype(np.float32)
    shapes /= np.abs(shapes).max(axis=(3, 4), keepdims=True)
    return np.asarray(shapes * _LOUD[:, None, None, None, None], np.float32)


@pytest.fixture
def bias() -> np.ndarray:
    return np.array([0.5, -2, 1], np.float32).reshape(1, 3, 1, 1)


def _rounded(filters: np.ndarray, scales: np.ndarray, bias: np.ndarray) -> ov.Model:
    """The same layer as NNCF writes it."""
    shaped = scales.astype(np.float32).reshape(3, *[1] * (filters.ndim - 1))
    steps = np.clip(np.rint(filters / shaped), -127, 127).astype(np.int8)
    integers = operations.convert(operations.constant(steps), "f32")
    return _graph(operations.multiply(integers, operations.constant(shaped)), bias)


def _image(astronaut: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(astronaut[None].transpose(0, 3, 1, 2), np.float32) / 255


def _answer(model: ov.Model, image: np.ndarray) -> np.ndarray:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.asarray(ov.Core().compile_model(model, "CPU", settings)(image)[0])


def test_quiet_filters_get_their_scale_back(filters: np.ndarray, bias: np.ndarray, astronaut: np.ndarray) -> None:
    original = _graph(operations.constant(filters), bias)
    wide = np.maximum(_LOUD, _LOUD.max() / 100) / 127  # no range under a hundredth of the widest
    quantized = _rounded(filters, wide, bias)
    truth = _answer(original, _image(astronaut))
    before = np.abs(_answer(quantized, _image(astronaut)) - truth).mean(axis=(0, 2, 3))
    assert requantize_per_channel(quantized, original) == 2
    (layer,) = quantized_layers(quantized, original)
    np.testing.assert_allclose(layer.scales, _LOUD / 127, rtol=1e-5)
    error = np.abs(layer.steps * layer.scales[:, None, None, None, None] - filters).max(axis=(1, 2, 3, 4))
    assert (error <= 0.5001 * layer.scales).all()
    after = np.abs(_answer(quantized, _image(astronaut)) - truth).mean(axis=(0, 2, 3))
    assert (after[[0, 2]] < 0.3 * before[[0, 2]]).all()
    assert after[1] == pytest.approx(before[1])
    assert requantize_per_channel(quantized, original) == 0


def test_the_seven_bits_of_a_first_layer_are_left(filters: np.ndarray, bias: np.ndarray) -> None:
    original = _graph(operations.constant(filters), bias)
    assert requantize_per_channel(_rounded(filters, 2 * _LOUD / 127, bias), original) == 0


@pytest.mark.parametrize("kind", ["depthwise", "dense"])
def test_biases_take_back_the_mean_error(
    kind: str, filters: np.ndarray, bias: np.ndarray, astronaut: np.ndarray
) -> None:
    image = _image(astronaut)
    if kind == "dense":
        filters = np.concatenate([filters[:, 0], 0.5 * filters[:, 0, :, ::-1], filters[:, 0, :, :, ::-1]], axis=1)
    original, quantized = _graph(operations.constant(filters), bias), _rounded(filters, _LOUD / 31, bias)
    truth = _answer(original, image).mean(axis=(0, 2, 3))
    before = np.abs(_answer(quantized, image).mean(axis=(0, 2, 3)) - truth)
    assert correct_biases(quantized, original, [image]) == 1
    after = np.abs(_answer(quantized, image).mean(axis=(0, 2, 3)) - truth)
    # What is left are borders, where the layer sees less than the mean of the whole image.
    assert (after < 0.05 * before + 1e-4 * _LOUD).all()


def test_a_graph_in_floating_point_has_nothing_to_mend(filters: np.ndarray, bias: np.ndarray) -> None:
    original = _graph(operations.constant(filters), bias)
    assert list(quantized_layers(_graph(operations.constant(filters), bias), original)) == []
