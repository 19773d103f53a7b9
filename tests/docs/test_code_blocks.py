"""Every fenced block in README.md, CONTRIBUTING.md and docs/ is run, in order, page by page.

``python`` blocks of one page share their names; ``bash`` blocks run command by command; ``toml`` and ``json`` blocks
must parse, and a ``toml`` block whose first line is ``# file: NAME`` is written to that file for the commands behind
it. Each page starts in a folder of its own that holds ``photo.jpg``, ``photos/`` and ``video.mp4``. An HTML comment
``<!-- not run: REASON -->`` directly above a block leaves it out; the reason is the point of writing it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\s*\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
# What a page may show without its being run here: installing is what the CI script does before these tests.
INSTALLS = ("pip install", "python -m venv", "python3 -m venv", ". .venv", "git clone", "cd featherpose")


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["code"], text[: m.start("code")].count("\n"))
        for m in FENCE.finditer(text)
        if not m["reason"]
    ]


def furnish(folder: Path, photo: Path) -> None:
    """What a page's commands find: a real photograph, a folder of two, a short video of it moving."""
    shutil.copy(photo, folder / "photo.jpg")
    (folder / "photos").mkdir()
    for name in ("one.jpg", "two.jpg"):
        shutil.copy(photo, folder / "photos" / name)
    picture = cv2.imread(str(photo))
    assert picture is not None
    picture = cv2.resize(picture, (320, 384))
    video = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 384))
    for shift in range(12):
        video.write(np.roll(picture, 2 * shift, axis=1))
    video.release()


def run_bash(code: str, folder: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in code.replace("\\\n", " ").splitlines():
        command = command.strip().removeprefix("$ ")
        if not command or command.startswith("#") or command.startswith(INSTALLS):
            continue
        if shlex.split(command)[0] == "pytest":
            continue  # these very tests
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_runs(page: Path, tmp_path: Path, grace_hopper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(tmp_path, grace_hopper)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, where, "exec"), names)
        elif block.language == "bash":
            run_bash(block.code, tmp_path)
        elif block.language == "toml":
            tomllib.loads(block.code)
            if block.code.startswith("# file: "):
                (tmp_path / block.code.splitlines()[0].removeprefix("# file: ").strip()).write_text(block.code)
        elif block.language == "json":
            json.loads(block.code)
        else:
            assert block.language in {"text", "mermaid"}, f"{where}: no way to run {block.language!r}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
