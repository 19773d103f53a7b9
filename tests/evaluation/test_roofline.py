"""The machine's limits and what is measured against them: layers counted from the file, INT8 products that are INT8."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.cli.untrained import untrained_variant
from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.performance.roofline import (
    measure_bandwidth,
    measure_decoding,
    measure_limits,
    measure_networks,
)
from featherpose.evaluation.performance.variants import Variant, expand_precisions
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.runtime.openvino.graphs import read_layers, write_float_copy
from featherpose.runtime.openvino.matmul import measure_matmul, native_formats
from featherpose.zoo.resolve import resolve_model


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    return untrained_variant("lightweight-openpose", tmp_path_factory.mktemp("untrained"))


def test_layers_of_an_exported_network_are_the_published_ones(untrained: Variant) -> None:
    layers = read_layers(untrained.path, (368, 368))
    assert sum(layer.macs for layer in layers) / 1e9 == pytest.approx(9.0, rel=0.015)
    assert sum(layer.weights for layer in layers) / 1e6 == pytest.approx(4.1, rel=0.02)
    assert not any(layer.quantized for layer in layers)
    stem = layers[0]
    assert (stem.inputs, stem.weights, stem.outputs) == (3 * 368 * 368, 32 * 27, 32 * 184 * 184)
    assert stem.macs == stem.outputs * 27


def test_layers_of_the_released_file(released_int8: Path) -> None:
    layers = read_layers(released_int8, (368, 368))
    assert sum(layer.macs for layer in layers) / 1e9 == pytest.approx(9.0, rel=0.015)
    assert all(layer.quantized for layer in layers)


def test_unreadable_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.xml").write_text("<net")
    with pytest.raises(ModelError, match=r"broken\.xml"):
        read_layers(tmp_path / "broken.xml", (64, 64))


def test_float_copy_says_the_same(released_int8: Path, astronaut: np.ndarray, tmp_path: Path) -> None:
    model = resolve_model(released_int8)
    write_float_copy(released_int8, tmp_path / "float.xml")
    image = np.ascontiguousarray(astronaut[None, :256, :256])
    maps = []
    for path in (released_int8, tmp_path / "float.xml"):
        backend = open_backend(path, model.spec, EngineOptions(precision="fp32", threads=1))
        maps.append(backend.infer(image)[0])
        backend.close()
    # What is left between them is the rounding of activations to 8 bits.
    for name in ("heatmaps", "pafs"):
        int8, exact = maps[0][name], maps[1][name]
        assert np.abs(int8 - exact).mean() < 0.01
        assert np.corrcoef(int8.ravel(), exact.ravel())[0, 1] > 0.97


def test_products_run_in_the_format_asked_for() -> None:
    kernels = {f: measure_matmul(f, size=256, threads=1, seconds=0.02) for f in native_formats()}
    assert "i8" in kernels["int8"].kernel.lower()
    assert "f32" in kernels["fp32"].kernel  # as OpenVINO spells it
    assert all(peak.gflops >= peak.median_gflops > 0 for peak in kernels.values())


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(OptionError):
        measure_matmul("fp32", size=0)
    with pytest.raises(OptionError):
        measure_bandwidth(0)


def test_points_under_the_roof(released_int8: Path, astronaut: np.ndarray, tmp_path: Path) -> None:
    limits = measure_limits(threads=1, seconds=0.05, sizes=(128, 256))
    variants = expand_precisions(resolve_model(released_int8), tmp_path)
    exact, *_, int8 = measure_networks(variants, astronaut, limits, height=96, rounds=1)
    assert exact.macs == int8.macs
    assert exact.bytes == 4 * int8.bytes
    assert int8.intensity == pytest.approx(4 * exact.intensity)
    assert int8.fraction == pytest.approx(int8.gflops / (limits.peak("int8") or 0))
    decoding = measure_decoding(variants[-1], astronaut, limits, height=96, repeats=3)
    assert decoding.people >= 1
    assert decoding.map_bytes == (19 + 38) * 12 * 12 * 4
    assert 0 < decoding.floor_ms < decoding.decoding.best_ms


def test_command(released_int8: Path, grace_hopper: Path, tmp_path: Path) -> None:
    command = ["analyze", "roofline", str(grace_hopper), "--models", str(released_int8), "--height", "96", "--quick"]
    assert run([*command, "--threads", "1", "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert {point["precision"] for point in report["networks"]} == set(native_formats())
    assert report["decoding"]["floor_ms"] > 0
    assert cv2.imread(str(tmp_path / "r.png")) is not None
    assert (tmp_path / "r.svg").is_file()
