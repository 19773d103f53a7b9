"""The trade-off of accuracy and time: systems of every kind, and the slides' rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featherpose.cli.main import run
from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.performance.tradeoff import SLIDES, parse_system


def test_slides_table() -> None:
    assert len(SLIDES) == 9
    assert max(SLIDES.values(), key=lambda row: row.ap).system == "Megvii"
    assert SLIDES["multiposenet"].fps == 23


def test_systems_are_read() -> None:
    alone, refined = parse_system("a=feather"), parse_system("b=feather+refiner")
    assert alone.refiner is None
    assert refined.refiner is not None
    assert refined.refiner.spec.crop is not None
    behind = parse_system("c=refiner@feather")
    assert behind.detector is not None
    with pytest.raises(OptionError, match="NAME=MODEL"):
        parse_system("feather")
    with pytest.raises(ModelError, match="sees whole images"):
        parse_system("d=feather@refiner")
    with pytest.raises(ModelError, match="one person behind"):
        parse_system("e=feather+feather")


@pytest.mark.slow
def test_command_measures_writes_and_draws(
    coco_val: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = shared / "models"
    arguments = [
        "analyze", "tradeoff", str(coco_val), "--systems", "feather=feather",
        f"cpn=refiner@{models / 'picodet-s-320/picodet-s-320.xml'}", "--people", "1", "4", "--limit", "4",
        "--rounds", "1", "--height", "128", "--json", str(tmp_path / "trade.json"), "--plot", str(tmp_path / "trade"),
    ]  # fmt: skip
    assert run(arguments) == 0
    printed = capsys.readouterr().out
    assert "73.0" in printed  # the slides' row of that name
    assert "MultiPoseNet" in printed
    facts = json.loads((tmp_path / "trade.json").read_text())
    assert [system["name"] for system in facts["systems"]] == ["feather", "cpn"]
    assert set(facts["systems"][0]["times"]) == {"1", "4"}
    assert facts["systems"][1]["slides"]["AP"] == 73.0
    assert facts["systems"][0]["parameters"] > 4e6
    assert facts["systems"][0]["training_minutes"] is None  # its card does not say
    assert (tmp_path / "trade.png").stat().st_size > 1000
