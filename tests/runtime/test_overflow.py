"""Weights that fit where a processor has no 8-bit dot product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

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
    assert changed > 50
    pairs = zip(overflow._quantized_weights(model), overflow._quantized_weights(before), strict=True)
    for (multiply, _, integers), (old_multiply, _, old_integers) in pairs:
        new, old = np.asarray(integers.data, np.float32), np.asarray(old_integers.data, np.float32)
        assert np.abs(new).max() <= 64
        scale = np.asarray(multiply.input_value(1).get_node().data, np.float32)
        old_scale = np.asarray(old_multiply.input_value(1).get_node().data, np.float32)
        assert (np.abs(new * scale - old * old_scale) <= 1.01 * np.abs(old_scale)).all()
    assert overflow.fit_weights(model) == 0


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
