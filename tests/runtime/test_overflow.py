"""Weights that fit where a processor has no 8-bit dot product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from featherpose.runtime.openvino import overflow
from featherpose.runtime.processor import Processor
from featherpose.zoo.resolve import resolve_model


@pytest.mark.parametrize(
    ("features", "expected"),
    [({"avx2"}, True), ({"avx2", "avx512f"}, True), ({"avx2", "avx_vnni"}, False), ({"asimd"}, False)],
)
def test_only_x86_without_dot_product_overflows(features: set[str], expected: bool) -> None:
    assert overflow.overflows(Processor("some", frozenset(features))) is expected


def test_weights_of_the_bundled_network_fit_and_are_nearly_the_same() -> None:
    path = resolve_model(None).path
    model, before = ov.Core().read_model(path), ov.Core().read_model(path)
    changed = overflow.fit_weights(model)
    assert changed > 30
    pairs = zip(overflow._quantized_weights(model), overflow._quantized_weights(before), strict=True)
    for (multiply, _, integers), (old_multiply, _, old_integers) in pairs:
        new, old = np.asarray(integers.data, np.int8), np.asarray(old_integers.data, np.int8)
        filters = new.reshape(-1, *new.shape[new.ndim - 3 :]) if new.ndim > 4 else new
        assert overflow.pair_excess(filters).max() <= 1
        scale = np.asarray(multiply.input_value(1).get_node().data, np.float32)
        old_scale = np.asarray(old_multiply.input_value(1).get_node().data, np.float32)
        assert (np.abs(new * scale - old * old_scale) <= 1.01 * np.abs(old_scale)).all()
    assert overflow.fit_weights(model) == 0


def _convolution(weights: np.ndarray) -> ov.Model:
    """A quantized 1x1 convolution: inputs 0 to 255 and weights in steps of one."""
    image = ops.parameter([1, weights.shape[1], 8, 8], np.float32)
    low, high = np.float32(0), np.float32(255)
    steps = ops.fake_quantize(image, low, high, low, high, 256)
    filters = ops.multiply(
        ops.convert(ops.constant(weights[..., None, None]), np.float32), np.ones((len(weights), 1, 1, 1), np.float32)
    )
    return ov.Model([ops.convolution(steps, filters, [1, 1], [0, 0], [0, 0], [1, 1])], [image])


def test_no_sum_of_the_largest_inputs_saturates() -> None:
    """On a processor without a dot product this shows which weights the engine multiplies as a pair."""
    rng = np.random.default_rng(0)
    weights = np.clip(rng.normal(0, 50, (32, 64)), -127, 127).astype(np.int8)
    model = _convolution(weights)
    assert overflow.fit_weights(model) == 1
    ((multiply, _, integers),) = overflow._quantized_weights(model)
    exact = (np.asarray(integers.data, np.float32) * np.asarray(multiply.input_value(1).get_node().data))[..., 0, 0]
    network = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = np.full((1, 64, 8, 8), 255, np.float32)
    expected = exact @ image[0].reshape(64, -1)
    found = next(iter(network(image).values())).reshape(32, -1)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_filters_of_groups_are_fitted_one_by_one() -> None:
    weights = np.full((2, 3, 4, 1, 1), 10, np.int8)
    weights[1, 2] = 100
    assert overflow.pair_excess(weights.reshape(6, 4, 1, 1)).tolist() == [0.15625] * 5 + [1.5625]


@pytest.mark.slow
def test_people_are_still_found(coco_val: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featherpose.estimator import PoseEstimator
    from featherpose.media.images import read_image
    from featherpose.runtime.openvino import backend

    images = [read_image(path) for path in sorted((coco_val / "images").iterdir())[:6]]
    with PoseEstimator(quality="fast") as estimator:
        plain = [len(estimator(image)) for image in images]
    monkeypatch.setattr(backend, "overflows", lambda _: True)
    with PoseEstimator(quality="fast") as estimator:
        fitted = [len(estimator(image)) for image in images]
    assert sum(abs(a - b) for a, b in zip(plain, fitted, strict=True)) <= 3
