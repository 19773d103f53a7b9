"""``featherpose doctor`` says what is there, what is missing and how to get it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from featherpose import __version__
from featherpose.cli.main import run


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    assert run(["doctor", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["featherpose"] == __version__
    assert report["packages"]["numpy"]
    assert "CPU" in report["engines"]["openvino"]
    assert report["machine"]["cores"] >= 1
    assert report["video"]["ffmpeg"] is True
    out = capsys.readouterr().out
    assert f"featherpose  {__version__}" in out
    assert "ok " in out


def test_missing_extras_say_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ("av", "pyarrow", "nncf")
    monkeypatch.setattr(
        "featherpose.cli.commands.doctor.find_spec", lambda name: None if name in missing else find_spec(name)
    )
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    for extra in ("video", "parquet", "int8"):
        assert f'pip install "featherpose[{extra}]"' in out
    assert "MPEG-4 Part 2 without sound" in out


def test_a_broken_engine_is_a_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "featherpose.runtime.openvino.backend", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert run(["doctor"]) == 1
    assert "PROBLEM      openvino does not load here" in capsys.readouterr().out
