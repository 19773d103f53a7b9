"""Compiled networks are kept where that is possible, replaced when damaged, and never needed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from featherpose.runtime import ModelSpec, open_backend
from featherpose.runtime.compiled_cache import compiled_cache as folder_for


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return tmp_path / "cache" / "openvino"


def test_a_damaged_file_is_replaced(cache: Path, released_int8: Path, released_spec: ModelSpec) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    expected = open_backend(released_int8, released_spec).infer(images)[0]["heatmaps"]
    kept = list(cache.glob("*.blob"))
    assert len(kept) == 1
    whole = kept[0].read_bytes()
    for content in (whole, whole[: len(whole) // 2], b"", b"junk" * 1000):
        kept[0].chmod(0o600)
        kept[0].write_bytes(content)
        np.testing.assert_array_equal(open_backend(released_int8, released_spec).infer(images)[0]["heatmaps"], expected)


def test_small_models_are_not_kept(cache: Path, small_ir: Path, small_spec: ModelSpec) -> None:
    open_backend(small_ir, small_spec)
    assert not cache.exists()


def test_no_place_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"0" * 600_000)
    (tmp_path / "file").touch()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "file")
    assert folder_for(model, "openvino") is None


def test_old_files_are_dropped(cache: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"0" * 600_000)
    cache.mkdir(parents=True)
    for age in range(40):
        file = cache / f"{age}.blob"
        file.touch()
        os.utime(file, (1_000_000 - age, 1_000_000))
    assert folder_for(model, "openvino") == cache
    assert {file.stem for file in cache.glob("*.blob")} == {str(age) for age in range(24)}
