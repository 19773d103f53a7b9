"""Poses of other formats and tools: COCO results and OpenPose JSON, with and without ids, and what they leave open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.errors import SourceError
from featherpose.evaluation.motion.known_people import squatting
from featherpose.formats.coco import CocoWriter
from featherpose.formats.jsonl import JsonlWriter
from featherpose.formats.openpose import OpenPoseWriter
from featherpose.formats.record import FrameRecord
from featherpose.motion.files.reading import holds_poses, read_poses
from featherpose.motion.sequence import PoseSequence
from featherpose.poses import Poses
from featherpose.skeleton import BODY_25, COCO_17, Skeleton, builtin_skeletons, load_skeleton

Write = Callable[[Path, PoseSequence, bool], Path]


def frames_of(sequence: PoseSequence, with_ids: bool) -> list[FrameRecord]:
    out = []
    for row in range(sequence.num_frames):
        poses = sequence.poses(row)
        ids = poses.track_ids if with_ids else None
        plain = Poses(poses.keypoints, poses.keypoint_scores, poses.scores, poses.skeleton, poses.image_size, ids)
        out.append(FrameRecord(int(sequence.frames[row]), float(sequence.timestamps_s[row]), plain, "gym.mp4"))
    return out


def as_coco(folder: Path, sequence: PoseSequence, with_ids: bool) -> Path:
    with CocoWriter(folder / "poses.json", sequence.skeleton) as writer:
        for record in frames_of(sequence, with_ids):
            writer.write(record)
    return folder / "poses.json"


def as_openpose(folder: Path, sequence: PoseSequence, with_ids: bool) -> Path:
    with OpenPoseWriter(folder / "poses", sequence.skeleton) as writer:
        for record in frames_of(sequence, with_ids):
            writer.write(record)
    return folder / "poses"


def two_people() -> PoseSequence:
    """Two squat side by side; in the middle the second one is seen by nobody for five frames."""
    one = squatting(3).sequence
    there = one.keypoints[:, 0]
    other = there + np.array([900.0, 0.0])
    other[60:65] = np.nan
    return PoseSequence.from_arrays(np.stack([there, other], 1), one.timestamps_s, BODY_25, track_ids=[4, 7])


@pytest.mark.parametrize("write", [as_coco, as_openpose])
def test_our_files_with_ids_are_read_back(write: Write, tmp_path: Path) -> None:
    sequence = two_people()
    path = write(tmp_path, sequence, True)
    assert holds_poses(path)
    again = read_poses(path, fps=sequence.rate_hz)
    assert again.track_ids == (4, 7)
    assert [step.name for step in again.steps] == ["read"]
    np.testing.assert_allclose(again.timestamps_s, sequence.timestamps_s, atol=1e-6)
    for name in ("left_knee", "right_wrist", "nose"):
        np.testing.assert_allclose(again.point(name), sequence.point(name), atol=0.006)


@pytest.mark.parametrize("write", [as_coco, as_openpose])
def test_people_without_ids_are_followed(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequence = two_people()
    path = write(tmp_path, sequence, False)
    assert (
        run(["motion", str(path), "--fps", f"{sequence.rate_hz}", "-o", str(tmp_path / "out"), "--write", "json"]) == 0
    )
    said = capsys.readouterr().err
    assert f"holds no times: frame numbers at {sequence.rate_hz:g} frames a second" in said
    assert "nobody has an id in the file: the tracker followed 2 people" in said
    data = json.loads((tmp_path / "out/poses.json").read_text())
    assert [person["repetitions"]["count"] for person in data["people"]] == [3, 3]
    assert [step["name"] for step in data["steps"]][:2] == ["read", "follow_people"]


def test_one_person_a_frame_needs_no_tracker(tmp_path: Path) -> None:
    sequence = squatting(2).sequence
    again = read_poses(as_coco(tmp_path, sequence, False), fps=sequence.rate_hz)
    assert again.num_frames == sequence.num_frames
    assert again.found.any((1, 2)).all()
    assert "taken for the same one" in again.steps[1].text


def test_frames_without_people_are_frames(tmp_path: Path) -> None:
    """COCO results list people only; a gap in the numbers is time in which nobody is seen."""
    sequence = squatting(2).sequence
    points = sequence.keypoints.copy()
    points[20:45] = np.nan
    gap = PoseSequence.from_arrays(points, sequence.timestamps_s, BODY_25)
    again = read_poses(as_coco(tmp_path, gap, False), fps=sequence.rate_hz)
    assert again.num_frames == sequence.num_frames
    assert not again.found[20:45].any()


def person(k: int = 17, **more: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "keypoints": [v for i in range(k) for v in (9.5 + i, 20.5, 0.9)], **more}


def test_numbers_in_names_of_images_and_ids_of_alphapose(tmp_path: Path) -> None:
    people = [person(image_id=f"{i}.jpg", score=2.9, idx=5) for i in (8, 10, 12)]
    (tmp_path / "alpha.json").write_text(json.dumps(people))
    sequence = read_poses(tmp_path / "alpha.json", fps=10)
    assert sequence.track_ids == (5,)
    assert sequence.frames.tolist() == [8, 10, 12]
    assert sequence.timestamps_s.tolist() == [0.8, 1.0, 1.2]
    assert sequence.skeleton == COCO_17


def test_files_of_annotations_are_read_as_well(tmp_path: Path) -> None:
    """COCO and PoseTrack: names and numbers are those of the images; visibility stands for the score."""
    visible = [v for i in range(17) for v in (9.5 + i, 20.5, 2 if i else 1)]
    annotations = [{"id": 100 + i, "image_id": 70 + i, "keypoints": visible, "track_id": 3} for i in range(4)]
    images = [{"id": 70 + i, "file_name": f"images/walk/{i:06d}.jpg"} for i in range(4)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    sequence = read_poses(tmp_path / "a.json", fps=25)
    assert sequence.frames.tolist() == [0, 1, 2, 3]
    assert sequence.track_ids == (3,)
    assert sequence.scores[0, 0, :2].tolist() == [0.5, 1.0]


def test_a_folder_of_sports2d(tmp_path: Path) -> None:
    """26 keypoints with feet in files NAME_000012.json, ids -1, one frame without people."""
    halpe = load_skeleton("halpe_26")
    known = squatting(3).sequence
    folder = tmp_path / "gym_json"
    folder.mkdir()
    for row in range(known.num_frames):
        poses = known.poses(row)
        points = np.zeros((26, 3))
        for k, name in enumerate(halpe.keypoints):
            points[k] = (*poses.keypoints[0, BODY_25.index("nose" if name == "head_top" else name)], 0.8)
        people = [{"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist(), "face_keypoints_2d": []}]
        text = json.dumps({"version": 1.3, "people": people if row != 30 else []})
        (folder / f"gym_{row:06d}.json").write_text(text)
    code = run(
        ["motion", str(folder), "--fps", f"{known.rate_hz}", "-q", "-o", str(tmp_path / "out"), "--write", "json"]
    )
    assert code == 0
    data = json.loads((tmp_path / "out/gym_json.json").read_text())
    assert data["skeleton"] == "halpe_26"
    assert data["people"][0]["repetitions"]["count"] == 3
    assert "left_ankle" in data["people"][0]["angles"]


def file_of(content: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "poses.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def folder_of(files: dict[str, object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "poses"
        path.mkdir()
        for name, content in files.items():
            (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


BODY = {"pose_keypoints_2d": person(25)["keypoints"]}
FAR = [person(image_id=i) for i in (9, 397133, 37777, 252219, 87038)]
SMALL = {"people": [{"pose_keypoints_2d": [0.4, 0.6, 0.9] * 25}]}


@pytest.mark.parametrize(
    ("write", "arguments", "code", "said"),
    [
        (file_of([person()]), [], 2, "numbers its frames and holds no times; expected frames a second"),
        (file_of([person()]), ["--fps", "0"], 2, "--fps 0 is impossible; expected a positive number"),
        (file_of(FAR), ["--fps", "30"], 1, "expected frames of one video, numbered in order"),
        (file_of([person(7)]), ["--fps", "30"], 1, "people of 7 keypoints, whose names are not known"),
        (file_of([person(), person(18)]), ["--fps", "30"], 1, "people of 17 and of 18 keypoints"),
        (file_of([person(image_id=None)]), ["--fps", "30"], 1, "which tells no frame number"),
        (file_of([person(keypoints=[1, 2])]), ["--fps", "30"], 1, "expected numbers x, y, score"),
        (file_of([person(keypoints=[1, 2, "x"])]), ["--fps", "30"], 1, "expected numbers x, y, score"),
        (file_of([{"image_id": 3, "bbox": [1, 2, 3, 4]}]), ["--fps", "30"], 1, "expected COCO keypoint results"),
        (file_of([]), ["--fps", "30"], 1, "there is nobody in"),
        (file_of({"people": 3}), ["--fps", "30"], 1, "expected COCO keypoint results"),
        (file_of("[{"), ["--fps", "30"], 1, "is no JSON, cut off or damaged"),
        (
            file_of([person(file_name="a1.jpg"), person(file_name="b1.jpg")]), ["--fps", "30"], 1,
            "has two images of number 1: a1.jpg and b1.jpg",
        ),
        (
            file_of([person(frame=0, file_name=name) for name in ("a.mp4", "b.mp4")]), ["--fps", "30"], 1,
            "holds 2 sources; expected --source with one: a.mp4, b.mp4",
        ),
        (
            file_of([person(frame=0, file_name="a.mp4")]), ["--fps", "30", "--source", "c.mp4"], 1,
            "has no source 'c.mp4'; expected one of a.mp4",
        ),
        (folder_of({"a_1.json": {"people": []}}), ["--fps", "30"], 1, "there is nobody in any of the 1 frames"),
        (folder_of({"a_1.json": SMALL}), ["--fps", "30"], 1, "expected pixels; OpenPose: --keypoint_scale 0"),
        (folder_of({"a.json": {"people": []}}), ["--fps", "30"], 1, "has no frame number in its name"),
        (folder_of({"a_1.json": {"people": [BODY]}}), [], 2, "numbers its frames and holds no times"),
        (folder_of({"a_1.json": [1]}), ["--fps", "30"], 1, "expected OpenPose JSON with a list of people"),
        (
            folder_of({"a_1.json": {"people": [BODY]}, "b_1.json": {"people": [BODY]}}), ["--fps", "30"], 1,
            "holds 2 sources; expected --source with one: a, b",
        ),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_line(
    write: Callable[[Path], Path],
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["motion", str(write(tmp_path)), "-o", str(tmp_path / "out"), *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_rate_for_what_has_times_is_refused(
    tmp_path: Path, grace_hopper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "poses.csv").write_text("source,frame\n")
    for source, said in ((tmp_path / "poses.csv", "holds times"), (grace_hopper, "--fps 30 with the video")):
        assert run(["motion", str(source), "--fps", "30", "-o", str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_squats_of_a_real_video_by_way_of_both_formats(shared: Path, tmp_path: Path) -> None:
    """The two squats that `test_real_videos` counts by eye, from files without ids."""
    video = shared / "data/videos/squat.mp4"
    coco, folder = tmp_path / "squat.json", tmp_path / "squat"
    code = run(
        ["predict", str(video), "--height", "368", "--no-track", "--coco", str(coco), "--openpose", str(folder), "-q"]
    )
    assert code == 0
    for source in (coco, folder):
        out = tmp_path / f"{source.name}.motion"
        arguments = ["--fps", "24", "--exercise", "squat", "--person", "longest", "--write", "json"]
        assert run(["motion", str(source), "-q", "-o", str(out), *arguments]) == 0
        data = json.loads((out / "squat.json").read_text())
        turns = [each["turn_frame"] for each in data["people"][0]["repetitions"]["each"]]
        assert len(turns) == 2
        assert np.abs(np.array(turns) - (76, 113)).max() <= 6
        assert data["steps"][1]["name"] == "follow_people"


@pytest.mark.parametrize("name", sorted(builtin_skeletons()))
def test_lines_without_a_header_are_known_by_their_number_of_keypoints(name: str, tmp_path: Path) -> None:
    skeleton = load_skeleton(name)
    truth = squatting(1).in_skeleton(skeleton)
    with JsonlWriter(tmp_path / "poses.jsonl", skeleton) as writer:
        for record in frames_of(truth, True):
            writer.write(record)
    again = read_poses(tmp_path / "poses.jsonl")
    assert again.skeleton == skeleton
    assert again.steps[0].settings == {"skeleton": name}
    assert f"{skeleton.num_keypoints} are those of {name}" in again.steps[0].text
    np.testing.assert_allclose(again.keypoints, truth.keypoints, atol=0.02)


def test_a_number_of_keypoints_that_fits_none_or_several_skeletons_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Skeleton.create("own", [f"point_{number}" for number in range(5)], [])
    with JsonlWriter(tmp_path / "poses.jsonl", own) as writer:
        writer.write(FrameRecord(0, 0.0, Poses.empty(own, (64, 64)), ""))
        points = np.ones((1, 5, 2), np.float32)
        one = np.ones(1, np.float32)
        writer.write(FrameRecord(1, 0.1, Poses(points, np.ones((1, 5), np.float32), one, own, (64, 64)), ""))
    with pytest.raises(SourceError, match="people of 5 keypoints, whose names are not known; expected 11 "):
        read_poses(tmp_path / "poses.jsonl")
    other = Skeleton.create("other", [f"dot_{number}" for number in range(5)], [])
    monkeypatch.setattr("featherpose.formats.frame_numbers.builtin_skeletons", lambda: {"own": own, "other": other})
    with pytest.raises(SourceError, match="may be those of own or other"):
        read_poses(tmp_path / "poses.jsonl")
    assert read_poses(tmp_path / "poses.jsonl", skeleton=other).skeleton == other
