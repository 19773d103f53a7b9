"""Every fenced block in README.md, CONTRIBUTING.md and docs/ is run, in order, page by page.

``python`` blocks of one page share their names; ``bash`` blocks run command by command, most of them in this process;
``toml``, ``yaml`` and ``json`` blocks must parse, and a ``toml`` block whose first line is ``# file: NAME`` is written
to that file for the commands behind it. Each page starts in a folder of its own that holds ``photo.jpg``, ``photos/``
and ``video.mp4``, and ``my-data/`` with annotated images where the page speaks of it. An HTML comment
``<!-- not run: REASON -->`` directly above a block leaves it out; the reason is the point of writing it.
"""

from __future__ import annotations

import itertools
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
import yaml

from featherpose import PoseEstimator
from featherpose.cli.main import run
from featherpose.media.images import read_image
from featherpose.media.sources.find import open_source
from featherpose.skeleton import COCO_17

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\s*\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
# What a page may show without its being run here: installing is what the CI script does before these tests.
INSTALLS = ("pip install", "python -m venv", "python3 -m venv", ". .venv", "git clone", "cd featherpose")
# What a shell would replace, redirect or join.
SHELL = re.compile(r"[|<>&;$*?~`(){}\[\]]")
# The reader's own videos by the names that pages give them, what stands in for them here, and how many frames of it.
VIDEOS = {"clip.mp4": ("jump-and-walk.mp4", 60), "my-squats.mp4": ("squat.mp4", 100)}


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
    image = cv2.imread(str(photo))
    assert image is not None
    image = cv2.resize(image, (320, 384))
    video = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 384))
    for shift in range(12):
        video.write(np.roll(image, 2 * shift, axis=1))
    video.release()


def shorten(film: Path, target: Path, frames: int) -> None:
    """Write the first frames of a film."""
    with open_source(film) as source:
        video = None
        for frame in itertools.islice(source, frames):
            height, width = frame.image.shape[:2]
            video = video or cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), 30, (width, height))
            video.write(frame.image)
    assert video is not None
    video.release()


def annotate(folder: Path, photographs: list[np.ndarray]) -> None:
    """A small data set: photographs at several sizes, mirrored too, labeled by the bundled network."""
    (folder / "images").mkdir(parents=True)
    data: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    with PoseEstimator(height=256) as estimator:
        for number in range(1, 41):
            image = photographs[number % len(photographs)]
            scale = 0.5 + 0.01 * number
            image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
            image = np.ascontiguousarray(image[:, ::-1] if number % 4 > 1 else image)
            cv2.imwrite(str(folder / "images" / f"{number}.jpg"), image)
            height, width = image.shape[:2]
            data["images"].append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
            for person in estimator(image).to_skeleton(COCO_17).keypoints:
                seen = np.isfinite(person[:, 0])
                left, top = person[seen].min(axis=0).tolist()
                right, bottom = person[seen].max(axis=0).tolist()
                keypoints = np.nan_to_num(np.column_stack([person, 2 * seen])).astype(float)
                data["annotations"].append({
                    "id": len(data["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                    "keypoints": keypoints.ravel().tolist(), "num_keypoints": int(seen.sum()),
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                })  # fmt: skip
    assert len(data["annotations"]) >= 20
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    (folder / "annotations.json").write_text(json.dumps({**data, "categories": [category]}))


def run_bash(code: str, folder: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in code.replace("\\\n", " ").splitlines():
        command = re.split(r"\s#\s", command)[0].strip().removeprefix("$ ")
        if command.startswith(INSTALLS) and " && " in command:  # what follows the installation is run
            command = command.partition(" && ")[2]
        if not command or command.startswith("#") or command.startswith(INSTALLS):
            continue
        words = shlex.split(command)
        if words[0] == "pytest":
            continue  # these very tests
        # Most of a command's time is its start, so those that need neither a shell nor a process run in this one.
        if words[0] == "featherpose" and words[1] != "batch" and not SHELL.search(command):
            assert run(words[1:]) == 0, command
            continue
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_runs(
    page: Path, tmp_path: Path, grace_hopper: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(tmp_path, grace_hopper)
    if any("my-data" in block.code for block in blocks(page)):
        annotate(tmp_path / "my-data", [read_image(grace_hopper), astronaut])
    for name, (video, frames) in VIDEOS.items():
        if name in page.read_text(encoding="utf-8"):
            film = ROOT.parent / "shared/data/videos" / video
            if not film.is_file():
                pytest.skip("the page needs a video of movement, which ../shared does not hold here")
            shorten(film, tmp_path / name, frames)
    if any("featherpose batch" in block.code for block in blocks(page)):
        for package in ("ray", "duckdb", "polars"):
            pytest.importorskip(package, reason=f"the page needs {package}")
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
        elif block.language == "yaml":
            assert yaml.safe_load(block.code)
        else:
            assert block.language in {"text", "mermaid"}, f"{where}: no way to run {block.language!r}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
