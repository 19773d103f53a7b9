"""What ``predict`` writes where: links, devices, names of all kinds, runs that were killed and go on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.formats.jsonl import read_jsonl
from featherpose.media.images import read_image, write_image
from featherpose.media.sources.find import open_source
from featherpose.skeleton import OPENPOSE_18

POSIX = pytest.mark.skipif(os.name == "nt", reason="devices, links and signals are used the POSIX way")
FAST = ["--height", "128", "--threads", "2"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photo(here: Path, astronaut: np.ndarray) -> Path:
    write_image("photo.jpg", astronaut)
    return Path("photo.jpg")


def predict(*arguments: str, height: int = 64) -> int:
    return run(["predict", *arguments, "--height", str(height), "--threads", "2", "-q"])


def write_video(path: Path, image: np.ndarray, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (256, 256))
    for i in range(frames):
        writer.write(np.ascontiguousarray(np.roll(image[:256, 100:356], 3 * i, 1)))
    writer.release()


@POSIX
@pytest.mark.parametrize("option", ["--coco", "--summary", "--parquet", "--jsonl", "--csv"])
def test_links_are_followed_and_modes_kept(photo: Path, option: str) -> None:
    Path("real").mkdir()
    target = Path("real/target")
    target.write_text("earlier")
    target.chmod(0o600)
    Path("link").symlink_to(target)
    assert predict("photo.jpg", option, "link") == 0
    assert Path("link").is_symlink()
    assert target.stat().st_size > 20
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(p.name for p in Path("real").iterdir()) == ["target"]


@POSIX
@pytest.mark.parametrize("option", ["--coco", "--summary", "--jsonl", "--csv", "-o"])
def test_pipes_are_written_into(photo: Path, option: str) -> None:
    name = "pipe.jpg" if option == "-o" else "pipe"
    os.mkfifo(name)
    with subprocess.Popen(["cat", name], stdout=subprocess.PIPE) as reader:
        code = predict("photo.jpg", option, name)
        if code != 0:
            reader.kill()  # nobody wrote: it would wait for ever
        out, _ = reader.communicate(timeout=20)
    assert code == 0
    assert stat.S_ISFIFO(os.stat(name).st_mode)  # noqa: PTH116 - not followed by pathlib on all versions
    if option == "-o":
        assert out[:2] == b"\xff\xd8"
    elif option == "--csv":
        assert len(out.splitlines()) >= 1
    else:
        json.loads(out)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize("option", ["--coco", "--summary", "--parquet", "-o"])
def test_devices_stay_devices(photo: Path, option: str) -> None:
    name = "null.jpg" if option == "-o" else "null"
    try:
        os.mknod(name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError:
        pytest.skip("this place takes no device nodes")
    assert predict("photo.jpg", option, name) == 0
    assert stat.S_ISCHR(Path(name).stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("option", ["--coco", "--summary", "--parquet", "--jsonl", "--csv"])
def test_a_full_disk_is_told_once(photo: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("photo.jpg", option, "/dev/full") == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "the disk is full" in err


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: np.ndarray) -> Iterator[Path]:
    """Change to a folder of a file system that can only be read, with ``photo.jpg``."""
    place = tmp_path / "read-only"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.name == "nt" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user mounts no file systems")
    try:
        write_image(place / "photo.jpg", astronaut)
        write_video(place / "video.mp4", astronaut, 2)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with monkeypatch.context() as inside:
            inside.chdir(place)
            yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_file_system_is_told_once(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--jsonl", "--csv", "--coco", "--parquet", "--openpose", "--summary"]
    for source in ("photo.jpg", "video.mp4"):
        # Without any output the annotated file is written beside its source.
        for words in ([], ["-o", "out"], ["-o", f"new/{source}"], *([option, "p.x"] for option in options)):
            assert predict(source, *words) == 1, words
            err = capsys.readouterr().err
            assert len(err.splitlines()) == 1, err
            assert "its file system is read-only" in err
            assert "Errno" not in err
    assert sorted(path.name for path in read_only.iterdir()) == ["photo.jpg", "video.mp4"]


@pytest.mark.parametrize(
    "words",
    [
        ["demo"], ["motion", "video.mp4"], ["transfer", "video.mp4", "--to", "photo.jpg"],
        ["transfer", "video.mp4", "--to", "photo.jpg", "-o", "/dev/null", "--bvh", "p.bvh"],
        ["evaluate", ".", "--json", "r.json"],
    ],
)  # fmt: skip
def test_other_commands_tell_before_they_work(
    read_only: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("a network was opened for nothing")

    monkeypatch.setattr("featherpose.estimator.PoseEstimator.__init__", too_late)
    assert run(words) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "its file system is read-only" in err


def test_nothing_can_be_laid_where_the_output_grows(photo: Path) -> None:
    """No name that can be foreseen is opened, and none is opened that exists."""
    Path("victim").write_text("precious")
    for name in (f".p.{os.getpid()}.part.json", "p.unfinished.json"):
        Path(name).symlink_to("victim")
    assert predict("photo.jpg", "--coco", "p.json") == 0
    assert Path("victim").read_text() == "precious"
    assert not Path("p.json").is_symlink()


def test_sources_are_known_by_their_path(here: Path, astronaut: np.ndarray) -> None:
    for folder in ("cam1", "cam2"):
        write_image(f"{folder}/0001.jpg", astronaut)
        write_video(Path(folder, "a.mp4"), astronaut, 2)
    outputs = ["--csv", "p.csv", "--coco", "p.json", "--jsonl", "p.jsonl", "--parquet", "p.parquet", "--openpose", "op"]
    assert predict("cam1", "cam2", *outputs, "-o", "out") == 0
    expected = {f"{folder}/{name}" for folder in ("cam1", "cam2") for name in ("0001.jpg", "a.mp4")}
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    people = json.loads(Path("p.json").read_text())
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert {row["source"] for row in rows} <= expected
    assert {person["file_name"] for person in people} <= expected
    assert {line["source"] for line in lines} == expected
    assert len({p["image_id"] for p in people}) == len({(p["file_name"], p.get("frame")) for p in people})
    files = sorted(p.relative_to("op").as_posix() for p in Path("op").rglob("*.json"))
    assert files == sorted(
        f"{folder}/{name}_keypoints.json"
        for folder in ("cam1", "cam2")
        for name in ("0001", "a_000000000000", "a_000000000001")
    )
    assert sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*.*")) == sorted(expected)


def places_of(file: str) -> list[tuple[str, int]]:
    lines = [json.loads(line) for line in Path(file).read_text().splitlines()]
    return [(line["source"], line["frame"]) for line in lines]


def test_images_named_one_by_one_are_numbered_like_those_of_a_folder(
    here: Path, astronaut: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b", "a", "c"):
        write_image(f"in/{name}.jpg", astronaut)
    Path("in/bad.jpg").write_bytes(b"no image")
    command = ["in/b.jpg", "in/bad.jpg", "in/a.jpg", "in/c.jpg", "--jsonl", "p.jsonl", "-o", "out"]
    assert predict(*command) == 1
    assert "in/bad.jpg is not an image" in caplog.text
    assert places_of("p.jsonl") == [("in/b.jpg", 0), ("in/a.jpg", 2), ("in/c.jpg", 3)]
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.jpg", "b.jpg", "c.jpg"]
    whole = Path("p.jsonl").read_text()
    Path("p.jsonl").write_text(whole[: whole[:-1].rindex("\n") + 1])
    assert predict(*command, "--resume") == 1, "the damaged one is reported again"
    assert Path("p.jsonl").read_text() == whole


def test_a_video_between_images_keeps_its_place(here: Path, astronaut: np.ndarray) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_image(name, astronaut)
    write_video(Path("v.mp4"), astronaut, 2)
    assert predict("a.jpg", "v.mp4", "b.jpg", "c.jpg", "--jsonl", "p.jsonl") == 0
    assert places_of("p.jsonl") == [("a.jpg", 0), ("v.mp4", 0), ("v.mp4", 1), ("b.jpg", 0), ("c.jpg", 1)]


def test_names_that_differ_in_the_suffix_only(here: Path, astronaut: np.ndarray) -> None:
    for name in ("a.jpg", "a.png"):
        write_image(f"in/{name}", astronaut)
    assert predict("in", "--openpose", "op") == 0
    assert sorted(p.name for p in Path("op").iterdir()) == ["a.jpg_keypoints.json", "a.png_keypoints.json"]


def ids_of(file: str = "p.json") -> dict[str, int]:
    return {person["file_name"]: person["image_id"] for person in json.loads(Path(file).read_text())}


def test_coco_ids_do_not_depend_on_the_neighbors(here: Path, grace_hopper: Path) -> None:
    Path("in").mkdir()
    shutil.copy(grace_hopper, "in/000000000872.jpg")
    assert predict("in", "--coco", "p.json", height=192) == 0
    assert ids_of() == {"in/000000000872.jpg": 872}
    shutil.copy(grace_hopper, "in/logo.jpg")
    assert predict("in", "--coco", "p.json", height=192) == 0
    both = ids_of()
    assert both["in/000000000872.jpg"] == 872
    Path("in/000000000872.jpg").unlink()
    assert predict("in", "--coco", "p.json", height=192) == 0
    assert ids_of() == {"in/logo.jpg": both["in/logo.jpg"]}


def test_coco_ids_from_an_annotation_file(here: Path, grace_hopper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("in/train", "in/val"):
        Path(folder).mkdir(parents=True)
        shutil.copy(grace_hopper, f"{folder}/1.jpg")
    shutil.copy(grace_hopper, "in/val/logo.jpg")
    images = [{"id": 7, "file_name": "train/1.jpg"}, {"id": 9, "file_name": "val/1.jpg"}]
    Path("ids.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    arguments = ["in/**/*.jpg", "--coco", "p.json", "--coco-ids", "ids.json"]
    assert predict(*arguments, height=192) == 0
    assert ids_of() == {"in/train/1.jpg": 7, "in/val/1.jpg": 9}
    assert "1 of 3 images are not in ids.json, such as in/val/logo.jpg" in capsys.readouterr().err
    for text, message in (("{}", "no COCO annotation file"), ('{"images": []}', "names none of the 3 images")):
        Path("ids.json").write_text(text)
        assert predict(*arguments, height=192) == 1
        assert message in capsys.readouterr().err


@POSIX
def test_names_that_are_no_text(here: Path, astronaut: np.ndarray) -> None:
    for name in (b"caf\xe9.jpg", b"na\xefve.jpg"):
        (here / "in").mkdir(exist_ok=True)
        try:
            Path("in", os.fsdecode(name)).write_bytes(cv2.imencode(".jpg", astronaut)[1].tobytes())
        except (OSError, UnicodeError):
            pytest.skip("this file system takes text only")
    outputs = ["--csv", "p.csv", "--coco", "p.json", "--jsonl", "p.jsonl", "--parquet", "p.parquet", "--openpose", "op"]
    assert predict("in", *outputs, "-o", "out", "--summary", "s.json") == 0
    names = [json.loads(line)["source"] for line in Path("p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert names == ["in/caf\\xe9.jpg", "in/na\\xefve.jpg"]
    assert sorted(os.fsencode(p) for p in Path("out").iterdir()) == [b"out/caf\xe9.jpg", b"out/na\xefve.jpg"]
    assert run(["predict", *map(str, Path("in").iterdir()), *FAST]) == 0


@POSIX
def test_names_near_the_limit(here: Path, astronaut: np.ndarray) -> None:
    name = "ä" * 120 + ".jpg"  # 244 bytes
    Path(name).write_bytes(cv2.imencode(".jpg", astronaut)[1].tobytes())
    write_video(Path("v.mp4"), astronaut, 2)
    video = "v" * 250 + ".mp4"
    Path("v.mp4").rename(video)
    assert predict(name, "--openpose", "op", "--coco", "c" * 250 + ".json", "-o", "out") == 0
    assert predict(name) == 0
    assert predict(video, "--openpose", "op", "-o", "out") == 0
    assert predict(video) == 0
    assert len(list(Path("op").iterdir())) == 3
    assert len(list(Path("out").iterdir())) == 2
    assert len(list(here.iterdir())) == 7


@pytest.mark.parametrize("option", ["--jsonl", "--csv", "--coco", "--summary"])
def test_standard_output_is_utf8(photo: Path, option: str) -> None:
    for name in ("é.jpg", "фото.jpg"):
        shutil.copy("photo.jpg", name)
    command = [sys.executable, "-m", "featherpose.cli.main", "predict", "é.jpg", "фото.jpg", option, "-", "-q", *FAST]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, check=False)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("utf-8")
    if option == "--jsonl":
        assert [json.loads(line)["source"] for line in text.splitlines()] == ["é.jpg", "фото.jpg"]
    elif option == "--csv":
        assert text.startswith("source,frame,")
    else:
        json.loads(text)


def test_one_output_for_standard_output(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("photo.jpg", "--jsonl", "-", "--csv", "-") == 2
    assert "named for two outputs" in capsys.readouterr().err
    assert predict("photo.jpg", "--parquet", "-") == 2
    assert "no text" in capsys.readouterr().err


def test_annotated_files_are_not_annotated_again(here: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(photo, "other.jpg")
    assert predict("*.jpg") == 0
    before = sorted(p.name for p in here.rglob("*.*"))
    assert predict("*.jpg") == 0
    assert sorted(p.name for p in here.rglob("*.*")) == before
    assert predict("photo.jpg") == 0
    assert predict("photo.jpg", "photo.poses.jpg", "-o", "out") == 0
    assert "1 annotated files of an earlier run" in capsys.readouterr().err
    assert [p.name for p in Path("out").iterdir()] == ["photo.jpg"]


def test_files_of_an_earlier_run_are_not_mixed_in(here: Path, astronaut: np.ndarray) -> None:
    write_video(Path("a.mp4"), astronaut, 6)
    write_video(Path("b.mp4"), astronaut, 2)
    assert predict("a.mp4", "--openpose", "op") == 0
    assert predict("b.mp4", "--openpose", "op") == 0  # another video of the same folder stays
    assert predict("a.mp4", "--end", "0.1", "--openpose", "op") == 0
    assert sorted(p.name[:14] for p in Path("op").iterdir()) == [f"a_{i:012d}" for i in range(3)] + [
        f"b_{i:012d}" for i in range(2)
    ]


@POSIX
@pytest.mark.parametrize("option", ["--jsonl", "--csv", "--coco", "--parquet", "--openpose", "-o"])
def test_a_folder_that_is_removed_is_an_error(
    here: Path, astronaut: np.ndarray, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from featherpose.cli.outputs import PoseOutputs

    for i in range(4):
        write_image(f"in/{i}.jpg", astronaut)
    write, count = PoseOutputs.write, 0

    def remove(self: PoseOutputs, record: object) -> None:
        nonlocal count
        count += 1
        if count == 3:
            shutil.rmtree("out")
        write(self, record)  # type: ignore[arg-type]

    monkeypatch.setattr(PoseOutputs, "write", remove)
    target = "out" if option in ("--openpose", "-o") else "out/p.x"
    assert predict("in", option, target) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "removed" in err


def test_an_earlier_result_outlives_a_run_that_fails_at_once(photo: Path) -> None:
    for name in ("p.jsonl", "p.csv", "p.json"):
        Path(name).write_text("earlier")
    assert predict("photo.jpg", "--jsonl", "p.jsonl", "--csv", "p.csv", "--coco", "p.json", "--parquet", ".") == 1
    assert {Path(name).read_text() for name in ("p.jsonl", "p.csv", "p.json")} == {"earlier"}
    assert not list(Path().glob("*unfinished*"))


OUTPUTS = ["--jsonl", "p.jsonl", "--csv", "p.csv", "--coco", "p.json", "--parquet", "p.parquet", "--openpose", "op"]


def state() -> dict[str, object]:
    """Everything that a run wrote, comparable."""
    parquet = pytest.importorskip("pyarrow.parquet")
    return {
        "jsonl": Path("p.jsonl").read_text(),
        "csv": Path("p.csv").read_text(),
        "coco": json.loads(Path("p.json").read_text()),
        "parquet": parquet.read_table("p.parquet").to_pylist(),
        "openpose": {p.name: p.read_text() for p in Path("op").iterdir()},
    }


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("video", signal.SIGKILL),
        ("folder", signal.SIGINT),
        pytest.param("video", signal.SIGINT, marks=pytest.mark.thorough),
        pytest.param("folder", signal.SIGKILL, marks=pytest.mark.thorough),
    ],
)
def test_an_interrupted_run_goes_on(here: Path, shared: Path, kind: str, end: signal.Signals) -> None:
    if kind == "video":
        source, out = str(shared / "data/videos/two-people.mp4"), "out.webm"
        span = ["--start", "0.5", "--end", "2.0"]
    else:
        for i, path in enumerate(sorted((shared / "data/coco-val/images").glob("*.jpg"))[:60]):
            (here / "in").mkdir(exist_ok=True)
            shutil.copy(path, f"in/{i}.jpg")
        source, out, span = "in", "annotated", []
    command = [sys.executable, "-m", "featherpose.cli.main", "predict", source, *span, *FAST, *OUTPUTS, "-o", out]
    whole = subprocess.run(command, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    expected = state()
    frames = str(expected["jsonl"]).count("\n")
    for name in ("p.jsonl", "p.csv", "p.json", "p.parquet"):
        Path(name).unlink()
    shutil.rmtree("op")
    if kind == "video":
        seen = len(list(open_source(out)))
        Path(out).unlink()
    else:
        seen = len(list(Path(out).iterdir()))
        shutil.rmtree(out)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if Path("p.jsonl").exists() and Path("p.jsonl").read_bytes().count(b"\n") >= frames // 3:
                process.send_signal(end)
                break
            time.sleep(0.01)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (-9, 130), err
    done = len(list(read_jsonl("p.jsonl", OPENPOSE_18)))
    assert frames // 3 <= done < frames
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert "of the earlier run kept" in resumed.stderr
    assert state() == expected
    if kind == "video":
        assert len(list(open_source(out))) == seen
    else:
        assert len(list(Path(out).iterdir())) == seen
        assert all(read_image(p).size for p in Path(out).iterdir())
    left = {p.name for p in here.iterdir()}
    assert left == {"p.jsonl", "p.csv", "p.json", "p.parquet", "op", out, *(["in"] if kind == "folder" else [])}


def test_another_run_is_not_resumed(here: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(photo, "other.jpg")
    assert predict("photo.jpg", "other.jpg", "--jsonl", "p.jsonl") == 0
    shutil.copy(photo, "third.jpg")
    before = Path("p.jsonl").read_text()
    assert predict("photo.jpg", "third.jpg", "--jsonl", "p.jsonl", "--resume") == 1
    assert "it holds frames of other.jpg, which is none of this run" in capsys.readouterr().err
    assert Path("p.jsonl").read_text() == before


@POSIX
def test_what_a_killed_run_left_is_adopted(here: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(shared / "data/videos/two-people.mp4")
    command = [sys.executable, "-m", "featherpose.cli.main", "predict", source, *FAST, "--jsonl", "p.jsonl"]
    with subprocess.Popen([*command, "--coco", "p.json", "--parquet", "p.parquet", "-o", "out.mp4"]) as process:
        while not (Path("p.jsonl").exists() and Path("p.jsonl").read_bytes().count(b"\n") >= 9):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not {"p.json", "p.parquet", "out.mp4"} & {p.name for p in here.iterdir()}
    outputs = ["--coco", "p.json", "--parquet", "p.parquet", "-o", "out.mp4"]
    assert run(["predict", source, "--end", "0.1", *FAST, *outputs]) == 0
    err = capsys.readouterr().err
    left = {p.name for p in here.iterdir()}
    kept = {"p.interrupted.json", "p.interrupted.csv", "out.interrupted.mp4"}
    assert left == {"p.json", "p.parquet", "out.mp4", "p.jsonl", *kept}
    assert all(name in err for name in kept)
    people = json.loads(Path("p.interrupted.json").read_text())
    with Path("p.interrupted.csv").open() as file:
        assert len(people) <= len(list(csv.DictReader(file))) + 9
    assert len(list(open_source("out.interrupted.mp4"))) >= 7
