"""``featherpose motion`` from results files and videos, and what it says to bad input."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.evaluation.motion.known_people import squatting, walking
from featherpose.formats.csv_table import CsvWriter
from featherpose.formats.jsonl import JsonlWriter
from featherpose.formats.parquet import ParquetWriter
from featherpose.formats.record import FrameRecord, WriterOptions
from featherpose.motion.files.reading import read_poses
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25


def write_records(path: Path, sequence: PoseSequence) -> Path:
    writer: JsonlWriter | CsvWriter | ParquetWriter
    if path.suffix == ".jsonl":
        writer = JsonlWriter(path, sequence.skeleton, WriterOptions(header=True))
    else:
        writer = (CsvWriter if path.suffix == ".csv" else ParquetWriter)(path, sequence.skeleton)
    with writer:
        for row in range(sequence.num_frames):
            writer.write(FrameRecord(row, float(sequence.timestamps_s[row]), sequence.poses(row)))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_results_files_are_read_back(suffix: str, tmp_path: Path) -> None:
    sequence = walking(4).sequence
    again = read_poses(write_records(tmp_path / f"poses{suffix}", sequence))
    assert again.skeleton.keypoints == BODY_25.keypoints
    assert again.track_ids == (0,)
    np.testing.assert_allclose(again.timestamps_s, sequence.timestamps_s, atol=1e-6)
    np.testing.assert_allclose(again.keypoints, sequence.keypoints, atol=0.006)


def test_one_command_gives_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_records(tmp_path / "squats.jsonl", squatting(4).sequence)
    code = run(["motion", str(path), "-o", str(tmp_path / "out"), "--person-height", "1.75"])
    said = capsys.readouterr().err
    assert code == 0, said
    assert "squat: 4 repetitions (guessed" in said
    data = json.loads((tmp_path / "out/squats.json").read_text())
    assert data["people"][0]["repetitions"]["count"] == 4
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"squats.json", "squats.csv", "squats.person0.trc", "squats.person0.mot", "squats.person0.bvh"} <= names


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--exercise", "yoga"], 2, "exercise 'yoga' is unknown"),
        (["--person", "12"], 2, "there is no person 12; expected one of 0"),
        (["--write", "docx"], 2, "the kind of file 'docx' is unknown"),
        (["--person-height", "9"], 2, "a height of 9.0 m; expected 0.4 to 2.8 meters"),
        (["--known-length", "1,2,3=4"], 2, "--known-length 1,2,3=4 cannot be understood"),
        (["--known-length", "1,2,3,4=1", "--person-height", "1.7"], 2, "several sources of the scale"),
        (["--field", "1,2=3"], 2, "the point '1,2=3' of the field cannot be understood"),
        (["--signal", "left_knee:much"], 2, "--signal left_knee:much"),
        (["--calibration", "nowhere.toml"], 1, "nowhere.toml cannot be read as a calibration"),
    ],
)
def test_bad_options_are_one_clear_line(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_records(tmp_path / "squats.jsonl", squatting(1).sequence)
    assert run(["motion", str(path), "-o", str(tmp_path / "out"), *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "Traceback" not in error


def line(frame: int, time: float, people: str) -> str:
    return f'{{"frame":{frame},"timestamp_s":{time},"people":[{people}]}}\n'


PERSON = '{"id":0,"score":1,"keypoints":[[1,2,0.9]]}'
NOBODY = PERSON.replace("0,", "null,", 1)
HEADER = '{"featherpose":1,"skeleton":{"name":"dot","keypoints":["tip"],"limbs":[]}}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a file of poses|does not say which skeleton|no frame"),
        (HEADER, "there is no frame in the source"),
        (HEADER + line(0, 0, "") + line(1, 0.1, ""), "there is nobody in any of the 2 frames"),
        (HEADER + line(0, 0.5, PERSON) + line(1, 0.5, PERSON), "the time of all 2 frames is the same"),
        (HEADER + line(0, 0, f"{NOBODY},{NOBODY}"), "nobody has an id"),
        ("not json\n", "is no JSON"),
    ],
)  # fmt: skip
def test_bad_poses_are_one_clear_line(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "poses.jsonl"
    path.write_text(text)
    assert run(["motion", str(path), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.strip()
    assert any(part in error for part in said.split("|")), error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_clock_that_stops_for_a_while_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    path.write_text(HEADER + "".join(line(i, t, PERSON) for i, t in enumerate((0, 0.1, 0.1, 0.1, 0.2))))
    sequence = read_poses(path)
    assert sequence.frames.tolist() == [0, 1, 4]
    assert "left out 2 frames" in sequence.steps[0].text


@pytest.mark.parametrize("rows", [[], [0], [0, 1], [0, 1, 2, 3]])
def test_hardly_any_frames(rows: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = squatting(1).sequence
    path = tmp_path / "poses.jsonl"
    if not rows:
        path.write_text(HEADER)
        assert run(["motion", str(path), "-q", "-o", str(tmp_path / "out")]) == 1
        return
    write_records(path, PoseSequence.from_arrays(whole.keypoints[rows], whole.timestamps_s[rows], BODY_25))
    code = run(["motion", str(path), "-q", "-o", str(tmp_path / "out"), "--person-height", "1.8"])
    assert code == 0, capsys.readouterr().err
    person = json.loads((tmp_path / "out/poses.json").read_text())["people"][0]
    assert person["gait"]["steps"] == 0


def test_a_person_who_leaves_is_a_gap(tmp_path: Path) -> None:
    whole = squatting(6).sequence
    points = whole.keypoints.copy()
    points[200:290] = np.nan
    path = write_records(tmp_path / "poses.jsonl", PoseSequence.from_arrays(points, whole.timestamps_s, BODY_25))
    assert run(["motion", str(path), "-q", "-o", str(tmp_path / "out"), "--write", "json,csv"]) == 0
    person = json.loads((tmp_path / "out/poses.json").read_text())["people"][0]
    assert person["repetitions"]["count"] in (4, 5)  # of six, one or two are hidden
    assert person["seen_share"] < 0.9


def test_a_video_of_nobody_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = cv2.VideoWriter(str(tmp_path / "gray.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for _ in range(5):
        video.write(np.full((120, 160, 3), 128, np.uint8))
    video.release()
    assert run(["motion", str(tmp_path / "gray.avi"), "-q", "--height", "128", "-o", str(tmp_path / "out")]) == 1
    assert "there is nobody in any of the 5 frames" in capsys.readouterr().err


def test_a_photograph_is_no_video(grace_hopper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["motion", str(grace_hopper), "-q"]) == 2
    assert "is not one video" in capsys.readouterr().err
