"""What the wheels hold, and that they work beside each other without a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import featherpose

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "packages/featherpose-weights"


def build(project: Path, folder: Path) -> Path:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(ROOT, tmp_path_factory.mktemp("main")), build(WEIGHTS, tmp_path_factory.mktemp("weights"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_the_wheel_has_what_prediction_needs_and_nothing_of_training_weights(wheels: tuple[Path, Path]) -> None:
    found = names(wheels[0])
    package = ROOT / "src/featherpose"
    wanted = {
        f"featherpose/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= found
    for name in (
        "__init__.pyi",
        "py.typed",
        "zoo/weights/feather.bin",
        "zoo/weights/accurate.bin",
        "zoo/weights/refiner.xml",
    ):
        assert f"featherpose/{name}" in found
    assert not [name for name in found if name.endswith((".safetensors", ".pyc"))]
    assert not [name for name in found if name.split("/")[0] not in ("featherpose", f"{wheels[0].stem[:17]}.dist-info")]
    assert wheels[0].stat().st_size < 16_000_000  # what the bundled networks may take
    assert f"-{featherpose.__version__}-" in wheels[0].name


@pytest.mark.slow
def test_the_weights_are_a_package_of_their_own(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("feather-openpose18", "accurate-openpose18", "refiner", "refiner-dense"):
        assert f"featherpose_weights/{name}.safetensors" in names(wheels[1])
    assert f"-{featherpose.__version__}-" in wheels[1].name
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / "installed")
    pytest.importorskip("torch")
    program = (
        "from featherpose.training.networks import bundled_weights as b; from featherpose.nn.checkpoints import *; "
        "print(b()); print(len(read_checkpoint(b()).tensors))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    path, tensors = done.stdout.split()
    assert Path(path).is_relative_to(tmp_path)
    assert int(tensors) > 50


def test_a_checkout_finds_the_weights_without_installing_them() -> None:
    pytest.importorskip("torch")
    from featherpose.training.networks import bundled_weights

    assert bundled_weights().is_file()


def test_weights_that_are_missing_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from featherpose import zoo
    from featherpose.errors import MissingExtraError
    from featherpose.training.networks import bundled_weights

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "a/b/featherpose/zoo/__init__.py"))
    with pytest.raises(MissingExtraError, match=r"featherpose\[weights\]"):
        bundled_weights()


def test_licenses_of_both_packages_are_the_same() -> None:
    for name in ("LICENSE", "NOTICE"):
        assert (WEIGHTS / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_version_is_stated_once() -> None:
    for folder in (ROOT, WEIGHTS):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert "version" in project["dynamic"]
        assert "version" not in project
    assert f"\nversion: {featherpose.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_continuous_integration_runs_the_tasks_that_exist() -> None:
    script = (ROOT / "scripts/task").read_text(encoding="utf-8")
    for path in (ROOT / ".ci/run", *(ROOT / ".github/workflows").glob("*.yml")):
        for task in re.findall(r"scripts/task ([\w-]+)", path.read_text(encoding="utf-8")):
            assert f"\n  {task})" in script, f"{path.name} calls {task}"


def test_the_lock_pins_what_development_installs() -> None:
    """Every package that an extra of ours names has a version in the lock; without it CI would take the newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(line for lines in extras for line in lines)]
    wanted = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in requirements}
    lines = (ROOT / ".ci/requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert wanted - pinned == {"featherpose", "featherpose-weights"}
