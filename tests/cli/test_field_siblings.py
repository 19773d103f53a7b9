"""Relatives of the faults that people's files showed: for each kind, inputs that nobody reported.

The reported ones are tests of their own, beside what they concern:

| kind | where | relatives here |
|---|---|---|
| annotations | data/test_coco_file.py | a box as an object, a crowd flag as a word, a name in another case |
| AV1 | media/test_inputs.py | in Matroska, in WebM |
| COCO ids | cli/test_outputs.py | numbers with blanks or signs, two numbers that are equal |
| pipes | media/test_inputs.py | a pipe in a folder, a pipe that a pattern matches |
| names of files | cli/test_outputs.py | line breaks and quotes, a dash in front |
| rubbish in folders | media/test_inputs.py | links to nowhere, folders that are called like images |
| fork | runtime/test_forking.py | a child of a child, a child that forked before the first image |
| encodings | cli/test_outputs.py | CSV and COCO on an ASCII terminal |
| read-only folders | cli/test_outputs.py | every format, and a folder that would have to be made |
| same names | cli/test_outputs.py | folders that differ where a separator is, names that differ in case |
| special files | cli/test_outputs.py | a link to nowhere, the summary into a pipe |
| suffixes | media/test_inputs.py | a video called .jpg, a photograph called .mp4 |
| nothing as an image | here | None in a list, an image of floats, of one column |
"""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from thread_priority import same_priority

from featherpose import PoseEstimator
from featherpose.cli.main import run
from featherpose.errors import FeatherposeError, SourceError
from featherpose.media.images import read_image

SMALL = ["--height", "64", "-q"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def picture(astronaut: np.ndarray) -> bytes:
    ok, data = cv2.imencode(".jpg", cv2.resize(astronaut, (160, 160)))
    assert ok
    return data.tobytes()


def sources_of(path: str | Path) -> set[str]:
    return {json.loads(line)["source"] for line in Path(path).read_text(encoding="utf-8").splitlines()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": {"x": 1, "y": 2, "w": 3, "h": 4}}, "has bbox"),
        ({"iscrowd": "no"}, "has iscrowd 'no'"),
        ({"keypoints": "1,2,2"}, "has keypoints '1,2,2'"),
        ({"area": "large"}, "has area 'large'"),
    ],
)
def test_annotations_of_the_wrong_kind(
    here: Path, picture: bytes, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("images").mkdir()
    Path("images/1.jpg").write_bytes(picture)
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 50, 50], "keypoints": [9, 9, 2] * 17}
    data = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [person | change], "categories": []}
    Path("annotations.json").write_text(json.dumps(data))
    assert run(["data", "check", "."]) == 1
    out = capsys.readouterr().out
    assert f"annotation 0 {message}" in out
    assert "1 refused" in out


def test_an_image_whose_name_has_another_case_is_missing(
    here: Path, picture: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("images").mkdir()
    Path("images/one.JPG").write_bytes(picture)
    if Path("images/one.jpg").exists():
        pytest.skip("this file system does not tell cases apart")
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 50, 50], "keypoints": [9, 9, 2] * 17}
    data = {"images": [{"id": 1, "file_name": "one.jpg"}], "annotations": [person], "categories": []}
    Path("annotations.json").write_text(json.dumps(data))
    assert run(["data", "check", "."]) == 1
    assert "missing: one.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_av1_in_other_containers(here: Path, astronaut: np.ndarray, name: str) -> None:
    av = pytest.importorskip("av")
    with same_priority(), av.open(name, "w") as file:
        try:
            stream = file.add_stream("libsvtav1", rate=10)
        except (ValueError, av.FFmpegError):
            pytest.skip("this PyAV writes no AV1")
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        small = np.ascontiguousarray(cv2.resize(astronaut, (256, 256)))
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(small, format="bgr24")))
        file.mux(stream.encode())
    assert run(["predict", name, "--jsonl", "p.jsonl", *SMALL]) == 0
    assert len(Path("p.jsonl").read_text().splitlines()) == 5


def test_coco_ids_of_names_that_are_nearly_numbers(
    here: Path, picture: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for name in ("7.jpg", "007.jpg", " 8.jpg", "-9.jpg", "१०.jpg"):
        Path("in", name).write_bytes(picture)
    assert run(["predict", "in", "--coco", "p.json", "--height", "128", "-q", "--min-keypoints", "1"]) == 0
    ids = {r["file_name"]: r["image_id"] for r in json.loads(Path("p.json").read_text())}
    assert len(ids) == len(set(ids.values())) == 5
    assert "7.jpg" in capsys.readouterr().err, "the clash of 7 and 007 is told"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a matter of Unix")
@pytest.mark.parametrize("source", ["in", "in/*.jpg"])
def test_a_pipe_among_images_stops_nothing(here: Path, picture: bytes, source: str) -> None:
    Path("in").mkdir()
    Path("in/one.jpg").write_bytes(picture)
    Path("in/two.jpg").write_bytes(picture)
    os.mkfifo("in/pipe.jpg")
    assert run(["predict", source, "--jsonl", "p.jsonl", *SMALL]) == 0
    assert sources_of("p.jsonl") == {"in/one.jpg", "in/two.jpg"}


def test_links_to_nowhere_are_reported_and_folders_passed_over(
    here: Path, picture: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/album.jpg").mkdir(parents=True)
    for name in ("one.jpg", "two.jpg"):
        Path("in", name).write_bytes(picture)
    Path("in/gone.jpg").symlink_to("/no/such/file.jpg")
    Path("in/self.jpg").symlink_to("self.jpg")
    assert run(["predict", "in", "--jsonl", "p.jsonl", "--summary", "s.json", *SMALL]) == 1
    assert sources_of("p.jsonl") == {"in/one.jpg", "in/two.jpg"}
    failed = sorted(f["source"] for f in json.loads(Path("s.json").read_text())["failed"])
    assert failed == ["in/gone.jpg", "in/self.jpg"]
    assert "internal error" not in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_with_line_breaks_quotes_and_dashes(here: Path, picture: bytes) -> None:
    Path("in").mkdir()
    names = ["line\nbreak.jpg", 'say "x", or not.jpg', "-v.jpg", "--help.jpg", "a;b\tc.jpg"]
    for name in names:
        Path("in", name).write_bytes(picture)
    outputs = ["--csv", "p.csv", "--jsonl", "p.jsonl", "--openpose", "op", "-o", "drawn"]
    assert run(["predict", "in", *outputs, "--height", "128", "-q", "--min-keypoints", "1"]) == 0
    assert sources_of("p.jsonl") == {f"in/{name}" for name in names}
    with Path("p.csv").open(newline="", encoding="utf-8") as file:
        assert {row["source"] for row in csv.DictReader(file)} == {f"in/{name}" for name in names}
    assert sorted(path.name for path in Path("drawn").iterdir()) == sorted(names)
    assert run(["predict", "./-v.jpg", "--jsonl", "q.jsonl", *SMALL]) == 1, "there is none of that name here"
    os.chdir("in")
    assert run(["predict", "./-v.jpg", "--jsonl", "../q.jsonl", *SMALL]) == 0


@pytest.mark.parametrize("option", ["--csv", "--coco", "--jsonl"])
def test_an_ascii_terminal_gets_utf8(here: Path, picture: bytes, option: str) -> None:
    Path("in").mkdir()
    for name in ("фото.jpg", "é.jpg"):
        Path("in", name).write_bytes(picture)
    command = [sys.executable, "-m", "featherpose.cli.main", "predict", "in", option, "-", "--height", "128", "-q"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run([*command, "--min-keypoints", "1"], capture_output=True, env=env, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("utf-8")
    assert "фото" in text or r"\u0444" in text
    if option != "--csv":
        _ = [json.loads(line) for line in text.splitlines()] if option == "--jsonl" else json.loads(text)


@pytest.mark.parametrize("option", ["--jsonl", "--csv", "--coco", "--parquet", "--openpose", "--summary", "-o"])
def test_folders_that_cannot_be_written(
    here: Path, picture: bytes, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("one.jpg").write_bytes(picture)
    # In /proc not even root makes files.
    if not Path("/proc/self").is_dir():
        pytest.skip("no folder that refuses everybody")
    for name in ("/proc/self/out.jpg", "/proc/self/new/out.jpg"):
        assert run(["predict", "one.jpg", option, name, *SMALL]) == 1
        told = capsys.readouterr().err
        assert "internal error" not in told
        assert "Errno" not in told
        assert told.count("\n") == 1


def test_folders_that_differ_where_a_separator_is(here: Path, picture: bytes) -> None:
    for name in ("a/b/1.jpg", "a_b/1.jpg", "a/B/1.jpg", "a/b/1.JPG"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(picture)
    if len(list(Path("a").iterdir())) < 2:
        pytest.skip("this file system does not tell cases apart")
    assert run(["predict", "a/b", "a_b", "a/B", "--jsonl", "p.jsonl", "--openpose", "op", "-o", "out", *SMALL]) == 0
    assert sources_of("p.jsonl") == {"a/b/1.jpg", "a_b/1.jpg", "a/B/1.jpg", "a/b/1.JPG"}
    assert sum(path.is_file() for path in Path("op").rglob("*")) == 4
    assert sum(path.is_file() for path in Path("out").rglob("*")) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes are a matter of Unix")
def test_a_link_to_nowhere_and_a_summary_into_a_pipe(here: Path, picture: bytes) -> None:
    Path("one.jpg").write_bytes(picture)
    Path("link.json").symlink_to("later/results.json")
    os.mkfifo("pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()))
    reader.start()
    assert run(["predict", "one.jpg", "--coco", "link.json", "--summary", "pipe", *SMALL]) == 0
    reader.join(20)
    assert json.loads(read[0])["frames"] == 1
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
    assert Path("link.json").is_symlink()
    assert isinstance(json.loads(Path("later/results.json").read_text()), list)


def test_content_decides_in_both_directions(here: Path, picture: bytes) -> None:
    video = cv2.VideoWriter("v.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 160))
    for _ in range(4):
        video.write(np.full((160, 160, 3), 90, np.uint8))
    video.release()
    Path("in").mkdir()
    Path("v.mp4").rename("in/video.jpg")
    Path("in/photo.mp4").write_bytes(picture)
    assert run(["predict", "in", "--jsonl", "p.jsonl", *SMALL]) == 0
    lines = [json.loads(line)["source"] for line in Path("p.jsonl").read_text().splitlines()]
    assert sorted(lines) == ["in/photo.mp4", *["in/video.jpg"] * 4]


@pytest.fixture(scope="module")
def estimator() -> Iterator[PoseEstimator]:
    with PoseEstimator(height=64) as estimator:
        yield estimator


@pytest.mark.parametrize(
    "image",
    [
        None, [None], [np.zeros((64, 64, 3), np.uint8), None], np.zeros((64, 64, 3)), np.zeros((64, 0, 3), np.uint8),
        np.zeros((64, 64, 7), np.uint8), np.zeros((2, 64, 64, 3), np.uint8), {"image": 1}, b"\xff\xd8",
    ],
    ids=[
        "None", "None-in-a-list", "None-behind-one", "floats", "no-columns", "seven-channels", "a-batch",
        "dict", "bytes",
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_in_words(estimator: PoseEstimator, image: Any) -> None:
    with pytest.raises(FeatherposeError) as refusal:
        _ = list(estimator.map(image)) if isinstance(image, list) else estimator(image)
    assert "image" in str(refusal.value)


def test_paths_and_pil_images_are_read(estimator: PoseEstimator, picture: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture)
    expected = estimator(read_image(tmp_path / "a.png"))
    with Image.open(tmp_path / "a.png") as opened:
        for image in (tmp_path / "a.png", str(tmp_path / "a.png"), opened):
            assert np.allclose(estimator(image).keypoints, expected.keypoints, atol=2, equal_nan=True)
    with pytest.raises(SourceError, match=r"there is no file .*b\.png"):
        estimator(tmp_path / "b.png")


def test_an_image_of_one_column_has_nobody(estimator: PoseEstimator) -> None:
    assert len(estimator(np.zeros((64, 1, 3), np.uint8))) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_child_of_a_child_answers(here: Path) -> None:
    program = """
import os, signal, numpy as np
from featherpose import PoseEstimator
image = np.full((120, 160, 3), 128, np.uint8)
estimator = PoseEstimator(height=64)  # no image before the fork
for _ in range(2):
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    signal.alarm(60)
os._exit(0 if len(estimator(image)) == 0 else 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
