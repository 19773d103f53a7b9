"""``featherpose analyze`` with requests that cannot be met: one clear line each, before anything is measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from featherpose.cli.main import run
from featherpose.files import check_writable


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grace_hopper: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATHERPOSE_DEBUG", raising=False)
    shutil.copy(grace_hopper, "photo.jpg")
    Path("file").touch()
    Path("folder.json").mkdir()
    Path("images/images").mkdir(parents=True)
    Path("weights.safetensors").write_bytes(b"no weights")
    Path("damaged.xml").write_text("<net><layers>")
    Path("damaged.bin").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("complexity nonsense", 2, "there is no network 'nonsense'"),
        ("complexity feather --size big", 2, "expected width x height"),
        ("complexity feather --size 0x0", 2, "at least 8x8"),
        ("complexity missing.onnx", 1, "there is no model file missing.onnx"),
        ("complexity damaged.xml", 1, "damaged.xml is damaged or no OpenVINO IR"),
        ("complexity weights.safetensors", 1, "no model file whose layers can be counted"),
        ("complexity feather --json file/x.json", 1, "is a file; expected a folder"),
        ("complexity feather --json folder.json", 1, "folder.json cannot be written: it is a folder"),
        ("complexity feather --plot file/deeper/x", 1, "is a file; expected a folder"),
        ("stages images --checkpoint weights.safetensors --height 0", 2, "--height 0; expected 8 to 8192"),
        ("stages images --checkpoint weights.safetensors --limit 0", 2, "--limit 0; expected at least 1"),
        ("stages images --checkpoint weights.safetensors --precision int8", 2, "floating-point weights"),
        ("stages images --checkpoint weights.safetensors", 1, "has no annotations.json"),
        ("stages nowhere --checkpoint none.pth --json file/x", 1, "is a file; expected a folder"),
        ("postprocessing images --height 9000", 2, "--height 9000; expected 8 to 8192"),
        ("postprocessing images --repeats 0", 2, "--repeats 0; expected at least 1"),
        ("postprocessing nowhere --plot file/x", 1, "is a file; expected a folder"),
        ("postprocessing images", 1, "annotations.json does not exist"),
        ("postprocessing images --model damaged.xml", 1, "damaged.xml is damaged"),
        ("pipeline nowhere.mp4", 1, "there is no video nowhere.mp4; expected"),
        ("pipeline photo.jpg --people -1", 2, "--people -1; expected at least 0"),
        ("pipeline photo.jpg --cores 0", 2, "--cores 0; expected at least 1"),
        ("pipeline photo.jpg --frames 1", 2, "--frames 1; expected at least 2"),
        ("pipeline photo.jpg --height 4", 2, "--height 4; expected 8 to 8192"),
        ("pipeline photo.jpg --plot file/x", 1, "is a file; expected a folder"),
        ("pipeline photo.jpg --model feather --device GPU.7", 1, "there is no device 'GPU.7'"),
        ("pareto images --heights 256 9000", 2, "--heights 256 9000; expected 8 to 8192"),
        ("pareto images --heights", 2, "--heights; expected 8 to 8192"),
        ("pareto images --rounds 0", 2, "--rounds 0; expected at least 1"),
        ("pareto images --threads -1", 2, "-1 threads"),
        ("pareto nowhere --json file/x.json", 1, "is a file; expected a folder"),
        ("roofline nowhere.jpg", 1, "there is no file nowhere.jpg"),
        ("roofline images", 1, "images is a folder; expected an image"),
        ("roofline photo.jpg --height 1", 2, "--height 1; expected 8 to 8192"),
        ("roofline photo.jpg --models feather nope", 1, "there is no model named 'nope'"),
        ("roofline nowhere.jpg --plot file/x", 1, "is a file; expected a folder"),
        ("roofline photo.jpg --threads -2", 2, "--threads -2; expected at least 0"),
    ],
)
def test_one_clear_line(here: Path, arguments: str, code: int, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    assert run(["analyze", *arguments.split()]) == code
    out, error = capfd.readouterr()
    assert out == ""
    assert message in error
    assert error.count("\n") == 1, error
    assert sorted(here.rglob("*")) == before


def test_other_commands_that_take_long_look_at_their_outputs_first(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["evaluate", "nowhere", "--json", "file/x"],
        ["evaluate", "nowhere", "--save-results", "file/x"],
        ["bench", "--model", "nowhere.xml", "--json", "file/x"],
        ["quantize", "nowhere.xml", "--calibration", "nowhere", "--json", "file/x"],
    ):
        assert run(arguments) == 1
        assert "is a file; expected a folder" in capsys.readouterr().err


def test_a_new_folder_is_no_hindrance(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deeper" / "x.json")
    assert list(tmp_path.iterdir()) == []
