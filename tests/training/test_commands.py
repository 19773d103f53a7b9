"""``featherpose train`` and ``featherpose data check`` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featherpose.cli.main import run
from featherpose.nn.checkpoints import read_checkpoint
from featherpose.training import config as configuration
from featherpose.training.config import load_config
from featherpose.training.loop import TrainResult
from featherpose.training.smoke import draw_scenes


def test_data_check_reports_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_scenes(tmp_path / "scenes", count=3)
    sheet, report = tmp_path / "sheet.jpg", tmp_path / "report.json"
    assert run(["data", "check", str(tmp_path / "scenes"), "--sheet", str(sheet), "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "3 images, 4 people" in out
    assert "left_hip" in out
    assert sheet.stat().st_size > 1000
    assert json.loads(report.read_text())["readable"] == 3


def test_data_check_fails_on_broken_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_scenes(tmp_path / "scenes", count=2)
    (tmp_path / "scenes/images/1.png").write_bytes(b"")
    assert run(["data", "check", str(tmp_path / "scenes")]) == 1
    assert "1 unreadable" in capsys.readouterr().out


def test_data_check_of_real_images(coco_train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads((coco_train / "annotations.json").read_text())
    data["images"] = data["images"][:30]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    (tmp_path / "some.json").write_text(json.dumps(data))
    assert run(["data", "check", str(tmp_path / "some.json"), "--images", str(coco_train / "images")]) == 0
    assert "30 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "nothing to train"),
        (["train", "absent.toml"], 1, "absent.toml is no file"),
        (["train", "x.toml", "--smoke"], 2, "takes no configuration"),
        (["data", "check", "absent"], 1, "there is no absent"),
        (["train", "own-skeleton", "--set", "run.steps"], 2, "KEY=VALUE"),
        (["train", "own-skeleton", "--set", "run.step=3"], 1, "run.step is unknown"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_configuration_runs_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw_scenes(tmp_path / "scenes", count=2)
    (tmp_path / "run.toml").write_text(
        f'[network]\narch = "feather"\nchannels = 8\nblocks = 1\n[data]\nskeleton = "coco_17"\n'
        f'sources = [{{ images = "{scenes.parent / "images"}", annotations = "{scenes}" }}]\n'
        "augment = { size_px = 64, base_px = 64 }\n[run]\nsteps = 2\nbatch_size = 1\nsave_every = 1\n"
    )
    arguments = ["train", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run")]
    assert run([*arguments, "--json", str(tmp_path / "result.json")]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed["steps"] == 2
    assert printed["metric"] is None
    assert json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail) == printed
    facts = read_checkpoint(tmp_path / "run/best.safetensors").facts
    assert facts["step"] == "2"
    assert float(facts["minutes"]) >= 0
    assert "ap" not in facts
    assert run([*arguments, "--resume"]) == 0
    finished = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (finished["loss"], finished["metric"]) == (None, None)


def test_of_several_processes_one_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def done(*arguments: object, **options: object) -> TrainResult:
        return TrainResult(folder=tmp_path, steps=1, loss=None, metric=None, images_per_s=0.0)

    monkeypatch.setattr("featherpose.training.loop.train", done)
    monkeypatch.chdir(tmp_path)
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert run(["train", "own-skeleton"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == lines


def test_a_result_that_cannot_be_kept_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def done(*arguments: object, **options: object) -> TrainResult:
        return TrainResult(folder=tmp_path, steps=1, loss=0.5, metric=0.25, images_per_s=1.0)

    monkeypatch.setattr("featherpose.training.loop.train", done)
    monkeypatch.chdir(tmp_path)
    assert run(["train", "own-skeleton", "--json", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["metric"] == 0.25
    assert "cannot be written: it is a folder" in captured.err


def test_an_interrupted_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: object, **options: object) -> TrainResult:
        raise KeyboardInterrupt

    monkeypatch.setattr("featherpose.training.loop.train", stopped)
    monkeypatch.chdir(tmp_path)
    assert run(["train", "own-skeleton"]) == 130
    assert capsys.readouterr().err.strip() == "featherpose: interrupted"


@pytest.mark.slow
def test_smoke_run_finds_the_people_of_its_own_images(tmp_path: Path) -> None:
    assert run(["train", "--smoke", "--out", str(tmp_path / "smoke")]) == 0
    assert (tmp_path / "smoke/preview.jpg").is_file()


def test_a_shipped_configuration_is_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", "own-skeleton", "--copy"]) == 0
    names = ["own-skeleton.toml", "own-skeleton.skeleton.toml"]
    assert capsys.readouterr().out.split() == names
    config = load_config(tmp_path / names[0])
    assert config.network.init_from == "bundled"
    assert config.skeleton.name == "limbs_12"
    (tmp_path / names[0]).write_text("mine")
    assert run(["train", "own-skeleton.toml", "--copy"]) == 1
    assert "is here already" in capsys.readouterr().err
    assert (tmp_path / names[0]).read_text() == "mine"


def test_every_shipped_configuration_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [p for p in (Path(configuration.__file__).parent / "configs").glob("*.toml") if p.suffixes == [".toml"]]
    assert len(files) >= 7
    for file in files:
        # Named, not copied: its data lie in this folder, its skeleton beside it.
        config = load_config(file, folder=tmp_path)
        assert config.data.sources[0].images.is_relative_to(tmp_path)
        assert config.skeleton.num_limbs > 0
