"""``featherpose live``, as a user runs it: a process of its own, asked to end by signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from page_browser import open_browser

from featherpose.cli.commands.live import _page_name
from featherpose.cli.main import run
from featherpose.cli.recording import save_files
from featherpose.errors import OptionError
from featherpose.media.sources.find import SourceRef

READY = re.compile(r"featherpose: (\S+) is at (http://\S+?)#source=(\S+) \(Ctrl-C ends it\)")


class Live:
    """The command, running."""

    def __init__(self, process: subprocess.Popen[str], said: list[str], match: re.Match[str]) -> None:
        self.process = process
        self.said = said
        self.name, self.url = match[1], match[2]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Ask it to end; exit code and all that it said."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        assert self.process.stderr is not None
        rest = self.process.stderr.read()
        return self.process.wait(120), "".join(self.said) + rest


@contextmanager
def live(*arguments: str | Path) -> Iterator[Live]:
    # A hidden screen: no browser may open on the machine of whoever runs the tests.
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "featherpose.cli.main", "live", *map(str, arguments)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--threads", "1", "--no-browser"], stderr=subprocess.PIPE, text=True, env=env
    )
    assert process.stderr is not None
    try:
        said: list[str] = []
        match = None
        while match is None:
            line = process.stderr.readline()
            assert line, "".join(said)
            said.append(line)
            match = READY.search(line)
        yield Live(process, said, match)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def long_walk(walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same video for a minute."""
    capture = cv2.VideoCapture(str(walk))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    path = tmp_path_factory.mktemp("long") / "long walk.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 15, frames[0].shape[1::-1])
    for number in range(15 * 60):
        video.write(frames[number % len(frames)])
    video.release()
    return path


def frames_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0)])
def test_ctrl_c_leaves_complete_files(long_walk: Path, tmp_path: Path, number: int, code: int) -> None:
    jsonl, coco, video = tmp_path / "a.jsonl", tmp_path / "a.json", tmp_path / "a.mp4"
    with live(long_walk, "--save", jsonl, "--save", coco, "--save", video) as running:
        assert running.name == "long-walk.mp4"
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and (not jsonl.exists() or len(frames_of(jsonl)) < 5):
            time.sleep(0.1)
        ended, said = running.end(number)
    assert ended == code, said
    frames = frames_of(jsonl)
    assert len(frames) >= 5
    numbers = [int(str(frame["frame"])) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert json.loads(coco.read_text(encoding="utf-8"))
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(frames)
    assert capture.read()[0]
    capture.release()
    assert f"{len(frames):,} frames" in said
    assert all(f"wrote {path}" in said for path in (jsonl, coco, video))
    assert "Traceback" not in said


def test_a_video_that_is_recorded_ends_the_command(walk: Path, tmp_path: Path) -> None:
    with live(walk, "--save", tmp_path / "walk.csv") as running:
        ended, said = running.wait()
    assert ended == 0, said
    assert len((tmp_path / "walk.csv").read_text(encoding="utf-8").splitlines()) > 1


def test_page_shows_the_source_and_goes_on(walk: Path, tmp_path: Path) -> None:
    with live(walk) as running, open_browser(tmp_path) as page:
        sources = httpx.get(f"{running.url}v1/sources", trust_env=False).json()
        assert [source["name"] for source in sources] == ["walk.mp4"]
        page.open(f"{running.url}#source={running.name}")
        page.until(lambda: page.ids, "somebody has an id")
        # Two seconds of video, over and over.
        page.until(lambda: "walk.mp4 is running" in page.text("status"), "it runs")
        for name in ("in-step", "smoothing", "long-side", "new-ids"):  # what the server decides for everyone
            assert not page.find(name).is_enabled(), name
        time.sleep(4)
        page.until(lambda: page.painted > 0, "it still does")
        ended, said = running.end()
        assert ended == 0, said
        page.until(lambda: page.problem != "", "the page says that the server has gone")


MARK = """
name = "mark"
[[items]]
kind = "circle"
joints = ["nose"]
size = 0.1
width = 0
color = "#ff00ff"
"""


def marked(image: np.ndarray) -> np.ndarray:
    """Rows of (x, y): where the mark of the scene is seen, whose color occurs in no photograph."""
    values = image.astype(int)
    return np.argwhere((values[..., 1] < 70) & (values[..., 0] > 180) & (values[..., 2] > 180))[:, ::-1]


@pytest.mark.parametrize("name", ["walk", "dance"])
def test_page_shows_a_scene_over_hidden_heads(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:  # fmt: skip
    source = request.getfixturevalue("walk")
    if name != "walk":
        source = request.getfixturevalue("shared") / "data" / "videos" / f"{name}.mp4"
    capture = cv2.VideoCapture(str(source))
    assert all(len(marked(capture.read()[1])) < 5 for _ in range(5))
    capture.release()
    scene = tmp_path / "mark.toml"
    scene.write_text(MARK)
    effects = ("--scene", scene, "--anonymize", "box")
    with live(source, *effects, "--quality", "fast") as running, open_browser(tmp_path) as page:
        page.open(f"{running.url}#source={running.name}")
        page.until(lambda: page.ids, "somebody has an id")
        page.until(lambda: len(marked(page.stage())) > 30, "the mark is in the picture")
        # The next picture may be of a frame without the person: the one in which the mark is counts.
        image = next(image for _ in range(50) if len(marked(image := page.stage())) > 30)
        x, y = np.median(marked(image), 0).astype(int)
        reach = int(3 * np.sqrt(len(marked(image)) / np.pi))
        around = image[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach].astype(int)
        assert (np.abs(around - 48).max(-1) < 12).mean() > 0.15  # what hides a head, below the mark
        assert page.painted == 0  # no skeletons over a scene, until they are asked for
        page.click("skeletons")
        page.click("skeletons")
        page.until(lambda: page.painted > 0, "skeletons are drawn")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.mp4"], 1, "there is no file or folder nowhere.mp4"),
        (["97"], 1, "camera 97 cannot be opened"),
        (["rtsp://127.0.0.1:9/none"], 1, "rtsp://127.0.0.1:9/none"),
        (["{photo}"], 1, "predict takes images"),
        (["{walk}", "--save", "poses.txt"], 2, "the suffix says no format"),
        (["{walk}", "--save", "{walk}"], 1, "would overwrite the source"),
        (["{walk}", "--save", "/proc/no/where.csv"], 1, "/proc/no"),
        (["{walk}", "--host", "no-such-host.invalid"], 2, "cannot be found"),
    ],
)
def test_one_clear_line(
    arguments: list[str], code: int, words: str, walk: Path, grace_hopper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(walk=walk, photo=grace_hopper) for argument in arguments]
    before = threading.active_count()
    assert run(["live", *given, "--port", "0", "--no-browser", "--threads", "1"]) == code
    assert threading.active_count() <= before  # the network and its workers do not stay
    said = capsys.readouterr().err.strip()
    assert words in said
    assert len(said.splitlines()) == 1, said


def test_source_names_say_nothing_secret() -> None:
    assert _page_name(SourceRef("u", url="rtsp://me:secret@10.0.0.7:554/live/1?key=abc")) == "10.0.0.7-live-1"
    assert _page_name(SourceRef("camera-0", camera=0)) == "camera-0"
    assert _page_name(SourceRef("人.mp4", (Path("人.mp4"),))) == "mp4"


def test_files_are_known_by_their_suffix() -> None:
    files = save_files([Path("a.JSONL"), Path("b.mkv"), Path("c.json"), Path("d.csv")])
    assert files.video == Path("b.mkv")
    assert {writer.OPTION: name for writer, name in files.data.items()} == {
        "jsonl": "a.JSONL", "coco": "c.json", "csv": "d.csv",
    }  # fmt: skip
    with pytest.raises(OptionError, match="two files of one kind"):
        save_files([Path("a.mp4"), Path("b.mkv")])
