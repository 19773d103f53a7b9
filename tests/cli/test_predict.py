"""``featherpose predict`` with the released network: every output, every bad input, an interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paf_models import paf_spec

from featherpose.cli.main import run
from featherpose.cli.options.predict_options import PeopleOptions, parse_time
from featherpose.errors import OptionError
from featherpose.formats.jsonl import read_jsonl
from featherpose.media.images import read_image, write_image
from featherpose.media.sources.find import open_source
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.skeleton import OPENPOSE_18
from featherpose.tiling import TileOptions


@pytest.fixture
def model(released_int8: Path) -> list[str]:
    return ["--model", str(released_int8), "--threads", "2"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_image_by_default(
    here: Path, model: list[str], grace_hopper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(grace_hopper), *model]) == 0
    assert [p.name for p in here.iterdir()] == ["grace_hopper.poses.jpg"]
    assert (read_image(here / "grace_hopper.poses.jpg") != read_image(grace_hopper)).any()
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"^1 frame, 1 pose in ", err, re.MULTILINE)
    assert "wrote grace_hopper.poses.jpg" in err


@pytest.mark.slow
def test_all_outputs_of_a_video(here: Path, model: list[str], shared: Path) -> None:
    video = shared / "data/videos/two-people.mp4"
    outputs = ["-o", "out.mp4", "--jsonl", "p.jsonl", "--coco", "p.json", "--openpose", "op", "--csv", "p.csv",
               "--parquet", "p.parquet", "--summary", "summary.json"]  # fmt: skip
    span = ["--start", "0.5", "--end", "0:00.7", "--frame-step", "2"]
    assert run(["predict", str(video), *model, *span, *outputs, "--quiet"]) == 0
    records = list(read_jsonl("p.jsonl", OPENPOSE_18))
    assert [r.frame for r in records] == [30, 32, 34, 36, 38, 40]
    assert records[1].timestamp_s == pytest.approx(32 / 60, abs=1e-5)
    assert all(2 <= len(r.poses) <= 4 for r in records)
    summary = json.loads(Path("summary.json").read_text())
    assert (summary["frames"], summary["people"]) == (6, sum(len(r.poses) for r in records))
    assert summary["failed"] == []
    assert {"read", "prepare", "infer", "decode", "draw", "write"} <= summary["mean_ms"].keys()
    assert len(json.loads(Path("p.json").read_text())) == summary["people"]
    assert len(list(Path("op").iterdir())) == 6
    assert len(Path("p.csv").read_text().splitlines()) == 1 + summary["people"]
    frames = list(open_source("out.mp4"))
    assert [f.timestamp_s for f in frames] == pytest.approx([i / 30 for i in range(6)], abs=1e-3)
    assert frames[0].size == (1088, 1920)


def test_the_promised_line(
    here: Path, model: list[str], grace_hopper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(grace_hopper), *model, "--jsonl", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert list(line) == ["frame", "timestamp_s", "people"]
    assert (line["frame"], line["timestamp_s"]) == (0, 0.0)
    assert list(line["people"][0]) == ["id", "score", "keypoints"]
    assert line["people"][0]["id"] is None
    assert len(line["people"][0]["keypoints"]) == 18
    assert list(here.iterdir()) == []  # data was asked for, so no image is written


def test_header_names_the_skeleton(here: Path, model: list[str], grace_hopper: Path) -> None:
    assert run(["predict", str(grace_hopper), *model, "--jsonl", "p.jsonl", "--jsonl-header", "-q"]) == 0
    (record,) = read_jsonl("p.jsonl")
    assert record.poses.skeleton == OPENPOSE_18


def test_sources_of_one_name_do_not_overwrite_each_other(
    here: Path, model: list[str], grace_hopper: Path, astronaut: np.ndarray
) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
    write_image("a/photo.png", astronaut)
    shutil.copy(grace_hopper, "b/photo.png")
    assert run(["predict", "a/photo.png", "b", *model, "-o", "out", "--jsonl", "p.jsonl", "-q"]) == 0
    assert read_image("out/a/photo.png").shape != read_image("out/b/photo.png").shape
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == ["a/photo.png", "b/photo.png"]


def test_nothing_overwrites_a_source(here: Path, model: list[str], astronaut: np.ndarray) -> None:
    write_image("photo.png", astronaut)
    before = Path("photo.png").read_bytes()
    assert run(["predict", "photo.png", *model, "-o", "photo.png"]) == 1
    assert run(["predict", "photo.png", *model, "--coco", "photo.png"]) == 1
    assert run(["predict", "photo.png", *model, "-o", ".", "-q"]) == 0
    assert Path("photo.png").read_bytes() == before
    assert Path("photo-2.png").exists()


def test_coco_ids_come_from_numbered_names(here: Path, model: list[str], astronaut: np.ndarray) -> None:
    Path("images").mkdir()
    for name in ("000000000872.png", "17.png"):
        write_image(f"images/{name}", astronaut)
    assert run(["predict", "images", *model, "--coco", "p.json", "-q"]) == 0
    assert {r["image_id"] for r in json.loads(Path("p.json").read_text())} == {872, 17}


def test_bad_files_are_reported_skipped_and_counted(
    here: Path, model: list[str], grace_hopper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    good = grace_hopper.read_bytes()
    for name, data in {"1.jpg": good, "2.jpg": b"", "3.jpg": good[:9000], "4.jpg": good, "5.mp4": b"x"}.items():
        Path("in", name).write_bytes(data)
    assert run(["predict", "in", "missing.jpg", *model, "--jsonl", "p.jsonl", "--summary", "s.json"]) == 1
    assert [r.frame for r in read_jsonl("p.jsonl", OPENPOSE_18)] == [0, 3]
    failed = [failure["source"] for failure in json.loads(Path("s.json").read_text())["failed"]]
    assert sorted(failed) == ["in/2.jpg", "in/3.jpg", "in/5.mp4", "missing.jpg"], "each by its own name"
    err = capsys.readouterr().err
    assert "no file or folder missing.jpg" in err
    assert "5.mp4 is not a video" in err
    assert "4 problems in 6 sources" in err
    assert "Traceback" not in err


def test_strict_stops_at_the_first(here: Path, model: list[str], grace_hopper: Path) -> None:
    Path("in").mkdir()
    for name, data in {"1.jpg": grace_hopper.read_bytes(), "2.jpg": b"", "3.jpg": grace_hopper.read_bytes()}.items():
        Path("in", name).write_bytes(data)
    assert run(["predict", "in", *model, "--jsonl", "p.jsonl", "--strict"]) == 1
    assert [r.frame for r in read_jsonl("p.jsonl", OPENPOSE_18)] == [0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.jpg"], 1, "no file or folder missing.jpg"),
        (["empty.jpg"], 1, "is empty"),
        (["folder"], 1, "no images or videos"),
        (["98"], 1, "camera 98 cannot be opened"),
        (["http://127.0.0.1:9/x.mp4"], 1, "cannot be reached"),
        (["photo.jpg", "--frame-step", "0"], 2, "frame step 0"),
        (["photo.jpg", "--start", "soon"], 2, "'soon' cannot be understood"),
        (["photo.jpg", "--peak-threshold", "7"], 2, "peak_threshold"),
        (["photo.jpg", "--thickness", "0"], 2, "thickness 0"),
        (["photo.jpg", "--output", "out.mp4"], 2, "does not fit photo.jpg, an image"),
        (["photo.jpg", "photo.jpg", "--output", "out.jpg"], 2, "one file for several sources"),
        (["photo.jpg", "--csv", "x", "--coco", "x"], 2, "named for two outputs"),
        (["photo.jpg", "--jsonl", "photo.jpg/x"], 1, "is a file"),
        (["photo.jpg", "--max-megapixels", "0.1"], 1, "0 megapixels"),
        (["--no-such-option"], 2, "no-such-option"),
        ([], 2, "predict"),
    ],
)
def test_one_clear_line(
    here: Path,
    model: list[str],
    grace_hopper: Path,
    arguments: list[str],
    code: int,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(grace_hopper, "photo.jpg")
    Path("empty.jpg").touch()
    Path("folder").mkdir()
    assert run(["predict", *arguments, *model, "-q"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_video_cut_off_is_used_and_reported(
    here: Path, model: list[str], shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = (shared / "data/videos/one-by-one.mp4").read_bytes()
    Path("cut.mp4").write_bytes(data[: len(data) // 50])
    assert run(["predict", "cut.mp4", *model, "--jsonl", "p.jsonl", "-q"]) == 1
    assert "cut.mp4 is cut off: it ends after" in caplog.text  # the program sends its log to stderr
    assert len(list(read_jsonl("p.jsonl", OPENPOSE_18))) in (20, 21)  # the last one is cut, too


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(here: Path, model: list[str], grace_hopper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", str(grace_hopper), *model, "--csv", "p.csv", "--jsonl", "/dev/full", "-q"]) == 1
    assert "the disk is full" in capsys.readouterr().err


def test_without_a_model_it_says_what_to_do(
    here: Path, grace_hopper: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from featherpose.errors import ModelError

    def none_bundled(model: object) -> None:
        raise ModelError("no model", hint="run `featherpose models fetch`")

    monkeypatch.setattr("featherpose.cli.commands.predict.resolve_model", none_bundled)
    assert run(["predict", str(grace_hopper), "-q"]) == 1
    assert capsys.readouterr().err == "featherpose: no model; run `featherpose models fetch`\n"


@pytest.mark.skipif(os.name == "nt", reason="signals are sent the POSIX way")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_an_interruption_leaves_whole_files(
    here: Path, model: list[str], shared: Path, number: signal.Signals, code: int
) -> None:
    video = shared / "data/videos/one-by-one.mp4"
    outputs = ["-o", "out.mp4", "--jsonl", "p.jsonl", "--coco", "p.json", "--parquet", "p.parquet"]
    command = [sys.executable, "-m", "featherpose.cli.main", "predict", str(video), *model, *outputs]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(1200):
            if Path("p.jsonl").exists() and Path("p.jsonl").read_bytes().count(b"\n") >= 5:
                break
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "interrupted; the files hold what was done until then" in err
    frames = len(list(read_jsonl("p.jsonl", OPENPOSE_18)))
    assert 5 <= frames < 1394
    assert len(list(open_source("out.mp4"))) == frames
    json.loads(Path("p.json").read_text())
    assert sorted(p.name for p in here.iterdir()) == ["out.mp4", "p.json", "p.jsonl", "p.parquet"]


def test_times_and_rules() -> None:
    assert parse_time("90s") == 90
    for text in ("", "1:2:3:4", "-1", "nan", "1:x"):
        with pytest.raises(OptionError):
            parse_time(text)
    suited = PafOptions(peak_threshold=0.25)  # what a model's card may ask for
    spec = paf_spec(name="any", options=suited)
    assert PeopleOptions().decoding(spec) == suited
    assert PeopleOptions(paper_rules=True).decoding(spec).peak_threshold == 0.1
    assert PeopleOptions(peak_threshold=0.01).decoding(spec).peak_threshold == 0.01
    assert PeopleOptions(min_person_score=0.4).decoding(spec).min_mean_score == 0.4
    assert PeopleOptions(min_person_score=0.4).decoding(spec).peak_threshold == 0.25
    assert PeopleOptions(tiles="3x2").tile_options == TileOptions(columns=3, rows=2)
    for text in ("many", "0x2", "2x"):
        with pytest.raises(OptionError):
            PeopleOptions(tiles=text)


def test_tiles_find_people_too(here: Path, model: list[str], grace_hopper: Path) -> None:
    assert run(["predict", str(grace_hopper), *model, "--tiles", "2x2", "--jsonl", "p.jsonl", "-q"]) == 0
    (record,) = read_jsonl("p.jsonl", OPENPOSE_18)
    assert len(record.poses) >= 1


@pytest.mark.slow
def test_ids_with_track(here: Path, model: list[str], shared: Path) -> None:
    video = shared / "data/videos/two-people.mp4"
    assert run(["predict", str(video), *model, "--end", "0.4", "--smooth", "--jsonl", "p.jsonl", "-q"]) == 0
    last = list(read_jsonl("p.jsonl", OPENPOSE_18))[-1].poses
    assert last.track_ids is not None
    assert len({i for i in last.track_ids.tolist() if i >= 0}) >= 2
