"""CONTRIBUTING.md's examples, carried out on a copy of the package: one new file and one line each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import featherpose

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(featherpose.__file__).parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

Run = Callable[..., str]


def example(path: str) -> str:
    """The fenced block whose first line names the file."""
    found = re.search(rf"^```\w+\n# src/featherpose/{re.escape(path)}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, path
    return found[1]


def line(beginning: str) -> str:
    """The one line that CONTRIBUTING.md gives in backticks."""
    found = re.search(rf"`({re.escape(beginning)}[^`]*)`", TEXT)
    assert found is not None, beginning
    return found[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one place of all copies: compiled kernels are found again where their files have the same paths and times."""
    return tmp_path_factory.mktemp("extended") / "src/featherpose"


@pytest.fixture
def package(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture
def run(package: Path, tmp_path: Path) -> Run:
    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "featherpose.cli.main", *arguments],
            env={**os.environ, "PYTHONPATH": str(package.parent)},
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command


@pytest.fixture
def photo(astronaut: np.ndarray, tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "photo.png"), astronaut)
    return tmp_path / "photo.png"


def add(package: Path, path: str, table: str = "", opening: str = "", new_line: str = "") -> None:
    """One new file, and one line behind the opening of one tuple or table."""
    target = package / path
    assert not target.exists()
    target.write_text(example(path), encoding="utf-8")
    if table:
        text = (package / table).read_text(encoding="utf-8")
        assert text.count(opening) == 1, opening
        (package / table).write_text(text.replace(opening, f"{opening}\n    {new_line}"), encoding="utf-8")


def test_a_format(package: Path, run: Run, photo: Path, tmp_path: Path) -> None:
    opening = "WRITERS: tuple[type[PoseWriter], ...] = ("
    add(package, "formats/centers.py", "formats/__init__.py", opening, line('__import__("featherpose.formats'))
    assert "--centers" in run("predict", "--help")
    run("predict", str(photo), "--centers", "out.centers", "-q")
    frame, x, y = (tmp_path / "out.centers").read_text().split()
    assert frame == "0"
    assert 100 < float(x) < 350
    assert 100 < float(y) < 500


def test_an_engine(package: Path, run: Run, photo: Path, tmp_path: Path) -> None:
    add(
        package,
        "runtime/zeros.py",
        "runtime/engines.py",
        "ENGINES: tuple[Engine, ...] = (",
        line('Engine(name="zeros"'),
    )
    (tmp_path / "model.zeros").write_bytes(b"nothing")
    (tmp_path / "model.card.json").write_text('{"name": "zeros", "skeleton": "coco_17"}')
    assert '"people":[]' in run(
        "predict", str(photo), "--model", "model.zeros", "--engine", "zeros", "--jsonl", "-", "-q"
    )
    assert "zeros" in run("doctor")


def test_a_skeleton(package: Path, run: Run, tmp_path: Path) -> None:
    add(package, "skeletons/arm.toml")
    code = "from featherpose import load_skeleton; print(load_skeleton('arm').num_limbs)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "2\n"


def test_a_command(package: Path, run: Run, photo: Path) -> None:
    add(package, "cli/commands/count.py", "cli/main.py", "_COMMANDS = {", line('"count":'))
    assert run("count", str(photo)) == "1\n"


def test_a_method(package: Path, run: Run, astronaut: np.ndarray, tmp_path: Path) -> None:
    opening = "METHODS: tuple[Method, ...] = ("
    add(package, "methods/strongest.py", "methods/__init__.py", opening, line('__import__("featherpose.methods'))
    weights = package / "zoo/weights"
    for suffix in (".xml", ".bin"):
        shutil.copy(weights / f"feather{suffix}", tmp_path / f"one{suffix}")
    card = json.loads((weights / "default.card.json").read_text())
    card |= {"method": "strongest", "files": [], "name": "one"}
    (tmp_path / "one.card.json").write_text(json.dumps(card))
    cv2.imwrite(str(tmp_path / "two.png"), np.concatenate([astronaut, astronaut[:, ::-1]], axis=1))
    for model, people in (("one.xml", 1), (str(weights / "feather.xml"), 2)):
        out = run("predict", "two.png", "--model", model, "--quality", "fast", "--jsonl", "-", "-q")
        assert min(len(json.loads(out)["people"]), 2) == people
