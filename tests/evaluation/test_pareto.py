"""Accuracy against cost: the front, and every model measured on the same images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from featherpose.cli.main import run
from featherpose.errors import OptionError
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.performance.pareto import CostPoint, measure_pareto, pareto_front
from featherpose.evaluation.performance.timing import Timing
from featherpose.runtime.backend import EngineOptions
from featherpose.zoo.resolve import resolve_model


def point(ms: float, ap: float) -> CostPoint:
    return CostPoint("model", 256, (344, 256), "int8", ap, 10, Timing.of([ms]), 10**9)


def test_front_keeps_what_nothing_beats() -> None:
    cheap, poor, good, dear, tied = point(1, 0.1), point(2, 0.05), point(3, 0.3), point(4, 0.3), point(1, 0.05)
    assert pareto_front([dear, good, tied, poor, cheap], lambda p: p.network.median_ms) == [cheap, good]
    assert pareto_front([], lambda p: p.network.median_ms) == []


def test_nothing_to_compare_is_refused(coco_val: Path) -> None:
    with pytest.raises(OptionError, match="0 models"):
        measure_pareto([], read_coco_dataset(coco_val), [128])


def test_model_named_twice_is_refused(released_int8: Path, coco_val: Path) -> None:
    model = resolve_model(released_int8)
    with pytest.raises(OptionError, match="named twice"):
        measure_pareto([model, model], read_coco_dataset(coco_val).first(1), [64])


def test_more_pixels_cost_more(released_int8: Path, coco_val: Path) -> None:
    data = read_coco_dataset(coco_val).first(6)
    engine = EngineOptions(threads=1)
    low, high = measure_pareto([resolve_model(released_int8)], data, [64, 192], engine=engine, rounds=1)
    assert (low.height, high.height) == (64, 192)
    assert low.precision == high.precision == "int8"
    assert high.macs == pytest.approx(9 * low.macs, rel=0.05)
    assert high.AP > low.AP
    assert low.images == high.images == 6


def test_command(released_int8: Path, coco_val: Path, tmp_path: Path) -> None:
    command = ["analyze", "pareto", str(coco_val), "--models", str(released_int8), "--heights", "64", "128"]
    more = ["--limit", "4", "--rounds", "1", "--threads", "1", "--json", str(tmp_path / "p.json")]
    assert run([*command, *more, "--plot", str(tmp_path / "p")]) == 0
    report = json.loads((tmp_path / "p.json").read_text())
    assert [p["height"] for p in report["points"]] == [64, 128]
    assert report["images"] == 4
    assert cv2.imread(str(tmp_path / "p.png")) is not None


def test_command_refuses_an_impossible_height(coco_val: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "pareto", str(coco_val), "--heights", "4"]) == 2
    assert "--heights 4" in capsys.readouterr().err
