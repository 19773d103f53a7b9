"""The Dockerfile: linted, and its steps run in a fresh virtual environment, without root and a place to write."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

from featherpose.demo import PHOTOGRAPH

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Stage:
    """What one stage of the Dockerfile says."""

    image: str
    copies: list[tuple[str, list[str], str]] = field(default_factory=list)  # stage, sources, target
    runs: list[tuple[str, str]] = field(default_factory=list)  # user, command
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    health: list[str] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)


def stages() -> list[Stage]:
    found: list[Stage] = []
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, rest = line.split(None, 1)
        if word == "FROM":
            found.append(Stage(rest.split()[0]))
        elif word == "COPY":
            words = shlex.split(rest)
            origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
            found[-1].copies.append((origin, words[:-1], words[-1]))
        elif word == "RUN":
            found[-1].runs.append((found[-1].user, rest))
        elif word == "ENV":
            found[-1].environment.update(
                (key, value) for key, _, value in (p.partition("=") for p in shlex.split(rest))
            )
        elif word == "USER":
            found[-1].user = rest
        elif word == "HEALTHCHECK":
            found[-1].health = json.loads(rest.partition("CMD ")[2])
        elif word == "ENTRYPOINT":
            found[-1].entry = json.loads(rest)
        else:
            assert word == "EXPOSE", line
    return found


def test_hadolint_has_no_complaint() -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not here: scripts/task setup installs it where it is built for the system")
    done = subprocess.run([linter, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_slim_and_its_user_is_nobody_special() -> None:
    build, last = stages()
    for stage in (build, last):
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", stage.image), "a small base, of a named version"
    assert last.user == "10001:10001"
    assert last.health
    assert last.entry[:2] == ["featherpose", "serve"]
    assert last.copies == [("build", ["/opt/featherpose"], "/opt/featherpose")], "no compiler, no source in the result"
    assert all("--no-cache-dir" in run for _, run in build.runs if "pip install" in run)
    assert last.environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_only_what_is_copied_goes_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    copied = [source for _, sources, _ in stages()[0].copies for source in sources]
    assert "*" in ignored
    assert sorted(kept) == sorted(copied)
    assert not any(fnmatch(name, pattern) for name in (".git", "shared", ".env") for pattern in kept)


@dataclass
class Container:
    """A folder that stands for the root of the image."""

    root: Path
    environment: dict[str, str]

    def local(self, text: str) -> str:
        """The text with the folders of the image replaced by those that stand for them."""
        for name in ("/opt/featherpose", "/source", "/var/cache/featherpose", "/tmp/demo"):
            text = re.sub(rf"(?<![\w./]){re.escape(name)}", str(self.root) + name, text)
        return text

    def command(self, words: list[str], *, network: bool) -> list[str]:
        """The command with a file system that can be read only but for its cache, where this user may ask for that."""
        if os.name != "posix" or os.geteuid() != 0 or shutil.which("unshare") is None:
            return words
        cache = shlex.quote(str(self.root / "var/cache/featherpose"))
        script = f"mount --bind {cache} {cache} && mount -o remount,ro,bind / && exec {shlex.join(words)}"
        options = ["--mount"] if network else ["--mount", "--net"]
        allowed = subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode == 0
        return ["unshare", *options, "sh", "-c", script] if allowed else words


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """The image's files, made by the steps of the Dockerfile."""
    root = tmp_path_factory.mktemp("image")
    build, last = stages()
    container = Container(root, {})
    for _, sources, target in build.copies:
        for source in sources:
            place = root / target.strip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    (root / "var/cache/featherpose").mkdir(parents=True)
    (root / "opt").mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FEATHERPOSE", "NUMBA"))}
    base = Path(sys.executable).resolve().parent
    for _, run in build.runs:
        step = container.local(run).replace("python -m venv", f"{sys.executable} -m venv")
        subprocess.run(["sh", "-ec", step], check=True, capture_output=True, text=True, env=clean, timeout=1500)
    environment = {key: container.local(value) for key, value in last.environment.items()}
    environment["PATH"] = environment["PATH"].replace("$PATH", f"{base}:/usr/bin:/bin")
    container.environment = {**{k: clean[k] for k in ("LANG", "TMPDIR") if k in clean}, **environment}
    for user, run in last.runs:
        if user != "root":  # the others make folders and give them away
            subprocess.run(
                ["sh", "-ec", container.local(run)], check=True, capture_output=True, text=True,
                env=container.environment, timeout=600,
            )  # fmt: skip
    yield container
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.thorough
def test_kernels_are_compiled_while_the_image_is_built(container: Container) -> None:
    assert list((container.root / "var/cache/featherpose").rglob("*.nbi"))


@pytest.mark.slow
@pytest.mark.thorough
def test_the_first_command_of_the_readme_runs_without_a_network(container: Container, tmp_path: Path) -> None:
    words = [str(container.root / "opt/featherpose/bin/featherpose"), "demo", "-o", "result"]
    if os.geteuid() == 0 and subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0:
        words = ["unshare", "--net", *words]
    done = subprocess.run(
        words, cwd=tmp_path, env={**container.environment, "HOME": str(tmp_path)}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "result/people.poses.jpg") in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result"], "nothing is left in the home folder"


@pytest.mark.slow
@pytest.mark.thorough
def test_the_server_answers_is_healthy_and_ends(container: Container) -> None:
    last = stages()[-1]
    port = "8943"
    entry = [container.local(word) for word in last.entry]
    entry[entry.index("--port") + 1] = port
    environment = {**container.environment, "FEATHERPOSE_TOKEN": TOKEN}
    entry[0] = str(container.root / "opt/featherpose/bin" / entry[0])
    server = subprocess.Popen(
        container.command(entry, network=True), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd="/",
    )  # fmt: skip
    try:
        health = [str(container.root / "opt/featherpose/bin/python"), *last.health[1:]]
        health = [word.replace("8000", port) for word in health]
        for _ in range(120):
            time.sleep(0.5)
            if subprocess.run(health, env=environment, capture_output=True, check=False).returncode == 0:
                break
            assert server.poll() is None, server.stdout and server.stdout.read()
        else:
            pytest.fail("the health check never succeeds")
        address = f"http://127.0.0.1:{port}/v1/poses"
        request = urllib.request.Request(address, PHOTOGRAPH.read_bytes(), {"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert len(json.load(answer)["people"]) >= 3
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(address, b"x"), timeout=10)
    finally:
        server.terminate()
        output = server.communicate(timeout=60)[0]
    assert server.returncode in (0, -15), output
    failed = subprocess.run(health, env=environment, capture_output=True, check=False)
    assert failed.returncode != 0, "a server that is gone is not healthy"


@pytest.mark.slow
@pytest.mark.thorough
def test_source_archive_and_wheel_are_built_installed_and_run(container: Container, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path / "dist")], cwd=ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    (archive,), (wheel,) = (list((tmp_path / "dist").glob(kind)) for kind in ("*.tar.gz", "*.whl"))
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"README.md", "LICENSE", "NOTICE", "src/featherpose/demo/people.jpg", "tests/conftest.py"} <= names
    python = str(container.root / "opt/featherpose/bin/python")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FEATHERPOSE"))}
    for number, package in enumerate((archive, wheel)):
        command = [python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", str(package)]
        subprocess.run(command, check=True, capture_output=True, env=clean, timeout=600)
        demo = [python, "-m", "featherpose.cli.main", "demo", "-o", str(tmp_path / f"demo{number}")]
        done = subprocess.run(demo, env=clean, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        where = [python, "-c", "import featherpose; print(featherpose.__file__)"]
        found = subprocess.run(where, env=clean, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert str(container.root) in found.stdout
