"""``featherpose tune-decoder``: what it refuses, and one small search from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featherpose.cli.main import run
from featherpose.zoo.resolve import resolve_model


@pytest.mark.parametrize("name", ["coco-val", "val2017", "test", "person_keypoints_val2017.json", "my.validation"])
def test_data_sets_that_measure_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tune-decoder", str(tmp_path / name)]) == 1
    assert "named like a data set that measures" in capsys.readouterr().err


def test_wrong_usage_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tune-decoder", str(tmp_path / "images"), "--rounds", "0"]) == 2
    assert run(["tune-decoder", str(tmp_path / "images"), "--hold-out-every", "1"]) == 2
    assert run(["tune-decoder", str(tmp_path / "images")]) == 1
    assert "internal error" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_writes_its_path(coco_train: Path, released_int8: Path, tmp_path: Path) -> None:
    out = tmp_path / "rules.json"
    arguments = ["--limit", "6", "--rounds", "1", "--height", "128", "--hold-out-every", "2", "--json", str(out)]
    assert run(["tune-decoder", str(coco_train), "--model", str(released_int8), *arguments]) == 0
    report = json.loads(out.read_text())
    assert report["searched_on"] + report["confirmed_on"] == 6
    assert report["AP_after"] >= report["AP_before"]
    assert report["path"][0]["options"]["peak_threshold"] > 0


@pytest.mark.slow
def test_a_single_person_network_is_shown_the_annotated_boxes(
    coco_train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rules.json"
    arguments = ["--limit", "16", "--hold-out-every", "2", "--rounds", "1", "--json", str(out)]
    assert run(["tune-decoder", str(coco_train), "--model", "refiner-dense", *arguments]) == 0
    report = json.loads(out.read_text())
    assert report["AP_before"] > 0.3  # whole images gave 0.05
    assert report["path"][0]["options"]["smoothing"] == resolve_model("refiner-dense").spec.options.smoothing  # type: ignore[union-attr]
    assert "annotated boxes" in capsys.readouterr().err
