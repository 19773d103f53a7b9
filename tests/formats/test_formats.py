"""Poses in files, and back: nothing is lost, missing keypoints look as each format wants, failures are clear."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import MissingExtraError, OutputError, SourceError
from featherpose.formats import WRITERS
from featherpose.formats.coco import CocoWriter, coco_results, stable_image_id
from featherpose.formats.csv_table import CsvWriter
from featherpose.formats.jsonl import JsonlWriter, frame_to_dict, read_jsonl
from featherpose.formats.openpose import OpenPoseWriter, openpose_dict
from featherpose.formats.parquet import ParquetWriter
from featherpose.formats.record import FrameRecord, PoseWriter, WriterOptions
from featherpose.formats.tables import table_columns
from featherpose.poses import Poses
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton


def people(count: int = 3, skeleton: Skeleton = OPENPOSE_18, *, tracked: bool = False, seed: int = 0) -> Poses:
    rng = np.random.default_rng(seed)
    k = skeleton.num_keypoints
    points = rng.uniform(0, 1000, (count, k, 2)).astype(np.float32)
    scores = rng.uniform(0.05, 1, (count, k)).astype(np.float32)
    gone = rng.random((count, k)) < 0.3
    points[gone], scores[gone] = np.nan, 0
    ids = np.arange(count, dtype=np.int64) * 7 - 1 if tracked else None  # the first is not confirmed: -1
    return Poses(points, scores, rng.uniform(0, 9, count).astype(np.float32), skeleton, (1000, 1000), ids)


def records(tracked: bool = False) -> list[FrameRecord]:
    return [FrameRecord(2 * i, i / 30, people(i, tracked=tracked, seed=i), "clip.mp4") for i in range(5)]


def same(a: Poses, b: Poses) -> bool:
    return bool(
        np.allclose(a.keypoints, b.keypoints, atol=0.006, equal_nan=True)
        and np.allclose(a.keypoint_scores, b.keypoint_scores, atol=6e-5)
        and np.allclose(a.scores, b.scores, atol=6e-5)
    )


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_json_lines_round_trip(tmp_path: Path, tracked: bool, header: bool) -> None:
    path = tmp_path / "deep" / "poses.jsonl"
    written = records(tracked)
    with JsonlWriter(path, OPENPOSE_18, WriterOptions(header=header)) as writer:
        for record in written:
            writer.write(record)
    read = list(read_jsonl(path, None if header else OPENPOSE_18, image_size=(1000, 1000)))
    assert [(r.frame, r.timestamp_s) for r in read] == [(r.frame, round(r.timestamp_s, 6)) for r in written]
    for a, b in zip(written, read, strict=True):
        assert b.poses.skeleton == OPENPOSE_18
        assert same(a.poses, b.poses)
        if tracked and len(a.poses) > 1:
            assert a.poses.track_ids is not None
            assert b.poses.track_ids is not None
            assert np.array_equal(a.poses.track_ids, b.poses.track_ids)


def test_a_line_is_exactly_as_promised() -> None:
    points = np.array([[[1.256, 2], [np.nan, np.nan]]], np.float32)
    scores = np.array([[0.5, 0]], np.float32)
    pair = Skeleton.create("pair", ["a", "b"], [])
    poses = Poses(points, scores, np.array([0.75], np.float32), pair, (9, 9))
    out = io.StringIO()
    JsonlWriter(out, pair).write(FrameRecord(0, 0.0, poses, "clip.mp4"))
    assert json.loads(out.getvalue()) == {
        "frame": 0,
        "timestamp_s": 0.0,
        "people": [{"id": None, "score": 0.75, "keypoints": [[1.26, 2.0, 0.5], None]}],
    }
    assert out.getvalue().count("\n") == 1
    assert frame_to_dict(FrameRecord(0, 0.0, poses, "clip.mp4"), with_source=True)["source"] == "clip.mp4"


def test_json_lines_are_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    writer = JsonlWriter(path, OPENPOSE_18)
    writer.write(records()[2])
    assert len(list(read_jsonl(path, OPENPOSE_18))) == 1
    writer.close()
    writer.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense\n", "line 1 is no JSON"),
        ('{"frame": 0}\n', "line 1 is not a frame"),
        ("[]\n", "line 1 is not a frame"),
        ('{"frame":0,"timestamp_s":0,"people":[{"id":null,"score":1,"keypoints":[null]}]}\n', "not a frame of 18"),
        ("\udcff\n", "cannot be read"),
    ],
)
def test_damaged_json_lines(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "poses.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SourceError, match=message):
        list(read_jsonl(path, OPENPOSE_18))


def test_a_last_line_cut_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    with JsonlWriter(path, OPENPOSE_18) as writer:
        for record in records():
            writer.write(record)
    path.write_bytes(path.read_bytes()[:-20])
    assert len(list(read_jsonl(path, OPENPOSE_18))) == 4


def test_a_file_without_header_needs_a_skeleton(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    with JsonlWriter(path, OPENPOSE_18) as writer:
        writer.write(records()[1])
    with pytest.raises(SourceError, match="does not say which skeleton"):
        list(read_jsonl(path))
    with pytest.raises(SourceError, match="cannot be read"):
        list(read_jsonl(tmp_path / "missing"))


def test_coco_results_load_into_pycocotools(tmp_path: Path) -> None:
    pycocotools = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "results.json"
    with CocoWriter(path, OPENPOSE_18) as writer:
        for i in (1, 2, 3):
            writer.write(FrameRecord(0, 0.0, people(i, seed=i), f"{i}.jpg", image_id=i * 100))
        assert not path.exists()
    truth = pycocotools.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i * 100, "width": 1000, "height": 1000} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [],
    }
    truth.createIndex()
    results = truth.loadRes(str(path))
    assert len(results.anns) == 6
    assert {a["image_id"] for a in results.anns.values()} == {100, 200, 300}


def test_coco_keeps_scores_and_zeroes_what_is_missing() -> None:
    poses = people(2)
    for result, person in zip(coco_results(poses, 5), range(2), strict=True):
        values = np.array(result["keypoints"]).reshape(17, 3)
        expected = poses.to_skeleton(COCO_17)
        found = expected.detected[person]
        assert (values[~found] == 0).all()
        assert np.allclose(values[found, :2], expected.keypoints[person][found], atol=0.006)
        assert np.allclose(values[found, 2], expected.keypoint_scores[person][found], atol=6e-5)
        assert result["score"] == pytest.approx(float(poses.scores[person]), abs=1e-5)


def test_coco_numbers_frames_and_says_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with CocoWriter(path, OPENPOSE_18) as writer:
        for record in records():
            writer.write(record)
    results = json.loads(path.read_text())
    first = stable_image_id("clip.mp4", 0)
    assert [r["image_id"] - first for r in results] == [2, 4, 4, 6, 6, 6, 8, 8, 8, 8]
    assert {(r["image_id"] - first, r["file_name"], r["frame"]) for r in results} == {
        (2 * i, "clip.mp4", 2 * i) for i in (1, 2, 3, 4)
    }
    assert max(r["image_id"] for r in results) < 2**53  # exact in every JSON reader


def test_coco_without_people_is_an_empty_array(tmp_path: Path) -> None:
    with CocoWriter(tmp_path / "results.json", OPENPOSE_18):
        pass
    assert json.loads((tmp_path / "results.json").read_text()) == []


@pytest.mark.parametrize(("skeleton", "count"), [(OPENPOSE_18, 18), (COCO_17, 18), (BODY_25, 25)])
def test_openpose_layout(skeleton: Skeleton, count: int) -> None:
    poses = people(2, skeleton, tracked=True)
    data = openpose_dict(poses)
    assert data["version"] == 1.3
    for i, person in enumerate(data["people"]):
        values = np.array(person["pose_keypoints_2d"]).reshape(count, 3)
        expected = poses.to_skeleton(OPENPOSE_18) if count == 18 else poses
        found = expected.detected[i]
        assert (values[~found] == 0).all()
        assert np.allclose(values[found, :2], expected.keypoints[i][found], atol=0.006)
        assert person["hand_left_keypoints_2d"] == person["face_keypoints_2d"] == []
    assert [p["person_id"] for p in data["people"]] == [[-1], [6]]


def test_openpose_files_are_named_as_openpose_names_them(tmp_path: Path) -> None:
    with OpenPoseWriter(tmp_path / "json", OPENPOSE_18) as writer:
        writer.write(FrameRecord(12, 0.4, people(1), "clip.mp4"))
        for _ in range(2):
            writer.write(FrameRecord(0, 0.0, people(1), "photo.jpg", is_image=True))
    assert sorted(p.name for p in (tmp_path / "json").iterdir()) == [
        "clip_000000000012_keypoints.json", "photo-2_keypoints.json", "photo_keypoints.json",
    ]  # fmt: skip


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    with CsvWriter(path, OPENPOSE_18) as writer:
        for record in records(tracked=True):
            writer.write(record)
    rows = read_csv(path)
    assert len(rows) == 10
    assert list(rows[0]) == table_columns(OPENPOSE_18)
    last = records(tracked=True)[4].poses
    for i, row in enumerate(rows[-4:]):
        assert (row["source"], row["frame"], row["person"]) == ("clip.mp4", "8", str(i))
        assert row["id"] == ("" if i == 0 else str(7 * i - 1))
        for k, name in enumerate(OPENPOSE_18.keypoints):
            x = row[f"{name}_x"]
            assert (x == "") == bool(np.isnan(last.keypoints[i, k, 0]))
            assert x == "" or float(x) == pytest.approx(float(last.keypoints[i, k, 0]), abs=0.006)


def test_parquet_holds_the_same_as_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    writers: list[PoseWriter] = [
        ParquetWriter(tmp_path / "poses.parquet", OPENPOSE_18),
        CsvWriter(tmp_path / "poses.csv", OPENPOSE_18),
    ]
    for writer in writers:
        with writer:
            for record in records(tracked=True):
                writer.write(record)
    table = parquet.read_table(tmp_path / "poses.parquet")
    assert table.column_names == table_columns(OPENPOSE_18)
    assert table.schema.metadata[b"featherpose.skeleton"] == b"openpose_18"
    for row, line in zip(table.to_pylist(), read_csv(tmp_path / "poses.csv"), strict=True):
        for name, value in row.items():
            if value is None:
                assert line[name] == ""
            elif isinstance(value, float):
                assert float(line[name]) == pytest.approx(value, rel=1e-6)
            else:
                assert line[name] == str(value)


def test_parquet_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "featherpose\[parquet\]"'):
        ParquetWriter(tmp_path / "poses.parquet", COCO_17)


@pytest.mark.parametrize("kind", ["jsonl", "coco", "csv", "parquet", "openpose"])
def test_unwritable_outputs(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    (writer,) = (writer for writer in WRITERS if kind == writer.OPTION)
    with pytest.raises(OutputError, match="is a file"):
        writer(tmp_path / "file" / "poses", COCO_17)
    if kind != "openpose":
        (tmp_path / "folder").mkdir()
        with pytest.raises(OutputError, match="is a folder"):
            writer(tmp_path / "folder", COCO_17)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_full_disk(kind: str) -> None:
    def write() -> None:
        full = Path("/dev/full")
        with JsonlWriter(full, OPENPOSE_18) if kind == "jsonl" else CsvWriter(full, OPENPOSE_18) as writer:
            writer.write(records()[3])

    with pytest.raises(OutputError, match=r"/dev/full cannot be written: the disk is full; free some space"):
        write()


@pytest.mark.parametrize("kind", ["coco", "parquet"])
def test_an_interruption_leaves_a_whole_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "poses"
    writer: PoseWriter = CocoWriter(path, OPENPOSE_18) if kind == "coco" else ParquetWriter(path, OPENPOSE_18)

    def interrupted() -> None:
        with writer:
            writer.write(records()[3])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    if kind == "coco":
        assert len(json.loads(path.read_text())) == 3
    else:
        assert pytest.importorskip("pyarrow.parquet").read_table(path).num_rows == 3
    assert [p.name for p in tmp_path.iterdir()] == ["poses"]


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from featherpose.errors import OutputError
from featherpose.formats import WRITERS
from featherpose.formats.record import FrameRecord
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
path = Path(sys.argv[2])
(kind,) = (writer for writer in WRITERS if writer.OPTION == sys.argv[1])
rng = np.random.default_rng(0)
try:
    with kind(path, COCO_17) as writer:
        for i in range(400):
            points = rng.uniform(0, 1000, (3, 17, 2)).astype(np.float32)
            poses = Poses(points, rng.random((3, 17), np.float32), np.ones(3, np.float32), COCO_17, (1000, 1000))
            writer.write(FrameRecord(i, i / 30, poses, "clip.mp4"))
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are a POSIX thing")
@pytest.mark.parametrize("kind", ["jsonl", "coco", "csv", "parquet"])
def test_a_disk_that_fills_up_keeps_what_was_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "poses"
    done = subprocess.run([sys.executable, "-c", LIMITED, kind, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path} cannot be written")
    assert len(done.stdout.splitlines()) == 1
    if kind == "jsonl":
        assert path.read_text().endswith("}\n")
        assert 5 < len(list(read_jsonl(path, COCO_17))) < 400
    elif kind == "coco":
        assert 15 < len(json.loads(path.read_text())) < 1200
    elif kind == "csv":
        rows = read_csv(path)
        assert 15 < len(rows) < 1200
        assert rows[-1]["right_ankle_score"]
    else:
        assert [p.name for p in tmp_path.iterdir()] == ["poses.interrupted.csv"]
        assert 15 < len(read_csv(tmp_path / "poses.interrupted.csv")) < 1200


TOY = """
import sys
from pathlib import Path
import featherpose.formats as formats
from featherpose.formats.record import FrameRecord, PoseWriter, WriterOptions
from featherpose.formats.textfile import TextOutput

class CountWriter(PoseWriter):
    OPTION = "count"
    HELP = "People in each frame"
    SUFFIXES = (".count",)

    def __init__(self, target, skeleton, options=WriterOptions()):
        self._out = TextOutput(target)

    def write(self, record):
        self._out.write(f"{record.source} {len(record.poses)}\\n")

    def close(self):
        self._out.close()

formats.WRITERS = (*formats.WRITERS, CountWriter)  # the one line
from featherpose.cli.main import run
from featherpose.cli.recording import save_files
code = run(["predict", sys.argv[1], "--height", "64", "--count", "-"])
saved = save_files([Path("day.count")]).data
assert saved == {CountWriter: "day.count"}, saved
sys.exit(code)
"""


@pytest.mark.slow
def test_a_format_is_one_module_and_one_line(tmp_path: Path, grace_hopper: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    command = [sys.executable, "toy.py", str(grace_hopper)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(grace_hopper.as_posix())


def test_the_page_of_formats_has_the_table_of_writers() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/formats.md").read_text(encoding="utf-8")
    for writer in WRITERS:
        row = f"| `--{writer.OPTION}` | {writer.HELP} | {writer.MISSING} | {'yes' if writer.STREAMS else 'no'} |"
        assert row in page
