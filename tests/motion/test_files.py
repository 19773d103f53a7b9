"""Files read back by readers that did not write them, with equal values."""

from __future__ import annotations

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featherpose.errors import OptionError, OutputError, SourceError
from featherpose.evaluation.motion.known_people import KnownMotion, squatting, walking
from featherpose.motion.analysis import MotionOptions, MotionReport, analyze_motion
from featherpose.motion.field import parse_field
from featherpose.motion.files.opensim import marker_names, read_mot, read_trc, write_mot
from featherpose.motion.files.reading import read_poses
from featherpose.motion.files.writing import FILE_KINDS, write_files
from featherpose.motion.meters import read_calibration
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25


@pytest.fixture(scope="module")
def known() -> KnownMotion:
    return walking(6)


@pytest.fixture(scope="module")
def report(known: KnownMotion) -> MotionReport:
    """A walk with a wrist that is missing for a second."""
    points = known.sequence.keypoints.copy()
    points[20:50, 0, BODY_25.index("left_wrist")] = np.nan
    sequence = PoseSequence.from_arrays(points, known.sequence.timestamps_s, BODY_25, track_ids=[3])
    return analyze_motion(sequence, MotionOptions(person_height_m=1.75))


@pytest.fixture(scope="module")
def folder(report: MotionReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    kinds = [kind for kind in FILE_KINDS if kind != "c3d"]
    write_files(report, folder, "walk", kinds)
    return folder


def metric_points(report: MotionReport) -> np.ndarray:
    assert report.metric is not None
    return report.metric.keypoints[:, 0]


def test_places_on_a_field_are_in_the_table(known: KnownMotion, tmp_path: Path) -> None:
    field = parse_field("0,0=0,0 1000,0=20,0 1000,1000=20,20 0,1000=0,20")
    report = analyze_motion(known.sequence, MotionOptions(field=field))
    (path,) = write_files(report, tmp_path, "walk", ["csv"])
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "field"]
    assert {(row["name"], row["unit"]) for row in rows} == {("x", "m"), ("y", "m"), ("speed", "m/s")}
    (track,) = report.tracks
    written = [float(row["value"]) for row in rows if row["name"] == "x"]
    np.testing.assert_allclose(written, track.positions_m[:, 0], atol=1e-4)


def test_trc_with_a_plain_reader(report: MotionReport, folder: Path) -> None:
    """The format as OpenSim documents it: five lines of header, tabs, no empty cell."""
    lines = (folder / "walk.person3.trc").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["PathFileType", "4", "(X/Y/Z)"]
    head = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    assert (head["NumFrames"], head["NumMarkers"], head["Units"]) == (str(report.sequence.num_frames), "25", "m")
    assert float(head["DataRate"]) == 30
    markers = lines[3].rstrip("\t").split("\t")[2::3]
    assert markers == marker_names(report.sequence)
    table = [line.split("\t") for line in lines[5:]]
    assert {len(row) for row in table} == {2 + 3 * 25}
    values = np.array(table, float)
    np.testing.assert_allclose(values[:, 1], report.sequence.timestamps_s, atol=1e-6)
    np.testing.assert_allclose(values[:, 2::3], metric_points(report)[..., 0], atol=1e-6)
    np.testing.assert_allclose(values[:, 3::3], metric_points(report)[..., 1], atol=1e-6)
    names, times, points = read_trc(folder / "walk.person3.trc")
    assert names == markers
    np.testing.assert_allclose(times, report.sequence.timestamps_s, atol=1e-6)
    np.testing.assert_allclose(points[..., :2], metric_points(report), atol=1e-6)


def test_mot_with_a_plain_reader(report: MotionReport, folder: Path) -> None:
    text = (folder / "walk.person3.mot").read_text()
    head, _, body = text.partition("endheader\n")
    assert "inDegrees=yes" in head
    rows = [line.split("\t") for line in body.splitlines()]
    assert f"nRows={len(rows) - 1}" in head
    assert f"nColumns={len(rows[0])}" in head
    # The forearm is missing for a second: without its angles all frames are whole.
    kept = [name for name in report.angles.names if name not in ("left_elbow", "left_forearm")]
    assert rows[0] == ["time", *kept]
    values = np.array(rows[1:], float)
    truth = np.stack([report.angles[name][:, 0] for name in kept], -1)
    np.testing.assert_allclose(values[:, 1:], truth, atol=1e-6)
    names, _, again = read_mot(folder / "walk.person3.mot")
    assert names == kept
    np.testing.assert_allclose(again, values[:, 1:])


def test_mot_leaves_out_what_costs_least(report: MotionReport, tmp_path: Path) -> None:
    values = report.angles.values.copy()
    values[:10] = np.nan
    values[30, 0, 0] = np.nan
    write_mot(tmp_path / "a.mot", replace(report.angles, values=values))
    names, times, read = read_mot(tmp_path / "a.mot")
    there = np.isfinite(values[:, 0, [report.angles.names.index(name) for name in names]]).all(1)
    assert len(names) == len(report.angles.names) - 2
    assert there.sum() == len(values) - 11
    np.testing.assert_allclose(times, report.angles.timestamps_s[there], atol=1e-6)
    assert np.isfinite(read).all()
    with pytest.raises(OutputError, match="would hold no angle"):
        write_mot(tmp_path / "b.mot", replace(report.angles, values=values * np.nan))


def test_trc_and_mot_with_opensim(
    report: MotionReport, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its readers: tables, and those of markers and motions that its window and its tools use."""
    monkeypatch.chdir(tmp_path)  # it writes a log where it is
    opensim: Any = pytest.importorskip("opensim", reason="needs OpenSim (pip install opensim)")
    trc, mot = str(folder / "walk.person3.trc"), str(folder / "walk.person3.mot")
    table = opensim.TimeSeriesTableVec3(trc)
    assert list(table.getColumnLabels()) == marker_names(report.sequence)
    whole = [table.getRowAtIndex(row) for row in range(report.sequence.num_frames)]
    points = np.array([[[row[k][axis] for axis in range(2)] for k in range(25)] for row in whole])
    np.testing.assert_allclose(points, metric_points(report), atol=1e-6)
    markers = opensim.MarkerData(trc)
    first = np.array([[markers.getFrame(0).getMarker(k)[axis] for axis in range(2)] for k in range(25)])
    np.testing.assert_allclose(first, metric_points(report)[0], atol=1e-6)
    names, _, values = read_mot(mot)
    angles = opensim.TimeSeriesTable(mot)
    assert list(angles.getColumnLabels()) == names
    np.testing.assert_allclose(angles.getMatrix().to_numpy(), values)
    motion = opensim.Storage(mot)
    assert motion.isInDegrees()
    assert motion.getSize() == len(values)
    assert motion.getStateVector(len(values) - 1).getData().get(2) == pytest.approx(values[-1, 2])


def test_c3d_with_the_c3d_package(report: MotionReport, tmp_path: Path) -> None:
    pytest.importorskip("ezc3d")
    reader_of = pytest.importorskip("c3d")
    (path,) = write_files(report, tmp_path, "walk", ["c3d"])
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader warns that there is no analog data
        reader = reader_of.Reader(file)
        frames = np.array([points for _, points, _ in reader.read_frames()])
    assert [label.strip() for label in reader.point_labels] == marker_names(report.sequence)
    assert reader.point_rate == 30
    truth = metric_points(report)
    there = np.isfinite(truth[..., 0])
    assert (~there).any()
    np.testing.assert_allclose(frames[there][:, :2] / 1000, truth[there], atol=1e-6)
    assert (frames[~there][:, 3] == -1).all()
    assert (frames[there][:, 3] == 0).all()


def test_bvh_with_the_bvh_package(known: KnownMotion, tmp_path: Path) -> None:
    """Forward kinematics on the tree and channels that the package reads give the joints back."""
    reader_of = pytest.importorskip("bvh")
    report = analyze_motion(known.sequence, MotionOptions(person_height_m=1.75))
    (path,) = write_files(report, tmp_path, "walk", ["bvh"])
    tree = reader_of.Bvh(path.read_text())
    assert tree.nframes == known.sequence.num_frames
    assert tree.frame_time == pytest.approx(1 / 30)
    places = bvh_places(tree)
    assert report.metric is not None
    for name in ("mid_hip", "neck", "left_knee", "right_ankle", "left_elbow", "right_wrist"):
        if name not in places:  # ends of a chain have no joint of their own in the package's list
            continue
        truth = 100 * report.metric.point(name)[:, 0]
        assert np.abs(places[name] - truth).max() < 1.0, name  # centimeters; bones keep their median length
    assert {"left_knee", "left_ankle", "left_elbow"} <= set(places)


def bvh_places(tree: Any) -> dict[str, np.ndarray]:
    places: dict[str, np.ndarray] = {}
    turned: dict[str, np.ndarray] = {}
    for name in tree.get_joints_names():
        offset = np.array([float(v) for v in tree.joint_offset(name)][:2])
        rotation = np.radians(np.array(tree.frames_joint_channels(name, ["Zrotation"]), float)[:, 0])
        parent = tree.joint_parent(name)
        if parent is None:
            root = np.array(tree.frames_joint_channels(name, ["Xposition", "Yposition"]), float)
            places[name], turned[name] = root + offset, rotation
            continue
        above = turned[parent.name]
        moved = np.stack(
            [
                offset[0] * np.cos(above) - offset[1] * np.sin(above),
                offset[0] * np.sin(above) + offset[1] * np.cos(above),
            ],
            -1,
        )
        places[name], turned[name] = places[parent.name] + moved, above + rotation
    return places


def test_csv_and_parquet_hold_the_same_long_table(report: MotionReport, folder: Path) -> None:
    pandas_like = pytest.importorskip("pyarrow.parquet").read_table(folder / "walk.parquet").to_pylist()
    with (folder / "walk.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(pandas_like)
    for row, other in zip(rows[::997], pandas_like[::997], strict=True):
        assert row["name"] == other["name"]
        assert (row["value"] == "") == (other["value"] is None)
        if other["value"] is not None:
            assert float(row["value"]) == pytest.approx(other["value"], abs=1e-4)
    knee = [float(r["value"]) for r in rows if r["kind"] == "angle" and r["name"] == "left_knee"]
    np.testing.assert_allclose(knee, report.angles["left_knee"][:, 0], atol=1e-4)
    assert {r["unit"] for r in rows if r["kind"] == "x"} == {"m"}
    assert sum(r["value"] == "" for r in rows if r["kind"] == "x") == 30


def test_json_holds_events_measures_and_steps(report: MotionReport, folder: Path) -> None:
    data = json.loads((folder / "walk.json").read_text())
    (person,) = data["people"]
    assert person["id"] == 3
    assert person["gait"]["steps"] == 6
    cadence = person["gait"]["measures"]["cadence"]
    assert cadence["value"] == pytest.approx(110, abs=0.5)
    assert cadence["uncertainty"] > 0
    assert data["unit"] == "m"
    assert [step["name"] for step in data["steps"]][-1] == "filter_sequence"
    assert person["limits"]


def test_repetitions_have_their_uncertainty_in_every_file(tmp_path: Path) -> None:
    report = analyze_motion(squatting(3).sequence)
    write_files(report, tmp_path, "squat", ["json", "csv"])
    found = json.loads((tmp_path / "squat.json").read_text())["people"][0]["repetitions"]
    with (tmp_path / "squat.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "repetition"]
    assert 0 < found["tempo_uncertainty_s"] < 0.1
    assert len(found["each"]) == 3
    for each in found["each"]:
        own = {row["name"]: row for row in rows if int(row["frame"]) == each["turn_frame"]}
        for name, error in each["uncertainty"].items():
            assert 0 < error < 3
            assert float(own[name]["value"]) == pytest.approx(each[name], abs=1e-4)
            assert float(own[f"{name}_uncertainty"]["value"]) == pytest.approx(error, abs=1e-4)
            assert own[name]["unit"] == ("deg" if name.endswith("_deg") else "s")


def test_without_a_scale_files_are_in_pixels(tmp_path: Path) -> None:
    report = analyze_motion(squatting(2).sequence)
    write_files(report, tmp_path, "squat", ["trc", "bvh"])
    assert (tmp_path / "squat.person0.trc").read_text().splitlines()[2].split("\t")[4] == "px"


def test_an_unknown_kind_is_named(report: MotionReport, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="the kind of file 'xlsx' is unknown; expected json, csv"):
        write_files(report, tmp_path, "walk", ["xlsx"])


def test_trc_and_calibration_with_pose2sim(report: MotionReport, folder: Path, tmp_path: Path) -> None:
    """Pose2Sim's own readers and its writer of calibrations (pip install --no-deps Pose2Sim rtoml anytree)."""
    common: Any = pytest.importorskip("Pose2Sim.common", reason="needs Pose2Sim")
    data, _, times, markers, _ = common.read_trc(str(folder / "walk.person3.trc"))
    assert markers == marker_names(report.sequence)
    np.testing.assert_allclose(times, report.sequence.timestamps_s, atol=1e-6)
    values = data.to_numpy(float).reshape(len(data), -1, 3)
    np.testing.assert_allclose(values[..., :2], metric_points(report), atol=1e-6)
    names, table = common.extract_trc_data(str(folder / "walk.person3.trc"))
    assert names == markers
    np.testing.assert_allclose(table[:, 1:].reshape(values.shape)[..., :2], metric_points(report), atol=1e-6)
    path = tmp_path / "calibration.toml"
    path.write_text(
        '[cam1]\nname = "cam1"\nsize = [1920.0, 1080.0]\nmatrix = [[1500.0, 0.0, 960.0], [0.0, 1500.0, 540.0], '
        "[0.0, 0.0, 1.0]]\ndistortions = [0.0, 0.0, 0.0, 0.0]\nrotation = [1.58, 0.05, -0.03]\n"
        "translation = [0.2, 0.7, 5.0]\nfisheye = false\n"
    )
    (projection,) = common.computeP(path)
    origin = projection @ [0, 0, 0, 1]
    assert read_calibration(path).origin_px == pytest.approx(origin[:2] / origin[2])


# The calibration of Sports2D's demonstration in numbers, and a second camera.
CAMERA = """[{name}]
name = "{name}"
size = [1768, 994]
matrix = [[2520.09, 0.0, 884.0], [0.0, 2520.09, 497.0], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0]
rotation = [1.20821, 1.20983, -1.20821]
translation = [-3.5101, 1.70793, {depth}]
fisheye = false

"""


def test_a_calibration_agrees_with_opencv_and_fits_the_size_of_the_video(tmp_path: Path) -> None:
    path = tmp_path / "calibration.toml"
    path.write_text(CAMERA.format(name="side", depth=10.0) + "[metadata]\nadjusted = false\nerror = 0.0\n")
    scale = read_calibration(path, image_size=(1768, 994))
    matrix = np.array([[2520.09, 0, 884], [0, 2520.09, 497], [0, 0, 1]])
    given = np.array([1.20821, 1.20983, -1.20821]), np.array([-3.5101, 1.70793, 10.0])
    places, _ = cv2.projectPoints(np.array([[0.0, 0, 0], [0, 0, 1]]), *given, matrix, None)
    origin, above = places[:, 0]
    assert scale.origin_px == pytest.approx(origin)
    assert scale.meters_per_px == pytest.approx(1 / np.hypot(*(above - origin)), rel=0.01)
    assert scale.floor_deg == pytest.approx(np.degrees(np.arctan2(origin[1] - above[1], above[0] - origin[0])) - 90)
    half = read_calibration(path, image_size=(884, 497))
    assert half.meters_per_px == pytest.approx(2 * scale.meters_per_px)
    assert half.origin_px == pytest.approx((np.array(scale.origin_px) + 0.5) / 2 - 0.5)
    with pytest.raises(OptionError, match="images of 1768x994, and the video has 720x1280"):
        read_calibration(path, image_size=(720, 1280))


def test_of_several_cameras_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "calibration.toml"
    path.write_text(CAMERA.format(name="front", depth=5.0) + CAMERA.format(name="side", depth=10.0))
    with pytest.raises(OptionError, match="holds 2 cameras; expected front or side"):
        read_calibration(path)
    assert read_calibration(path, "side").meters_per_px == pytest.approx(
        2 * read_calibration(path, "front").meters_per_px
    )
    with pytest.raises(SourceError, match="holds no camera back; expected one of front, side"):
        read_calibration(path, "back")


@pytest.mark.parametrize("vector", ["[inf, 0.0, 0.0]", "[1e300, 1e300, 0.0]", "[nan, 0.0, 0.0]"])
def test_a_calibration_with_impossible_numbers_is_refused(vector: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.toml"
    path.write_text(f"[a]\nmatrix = [[9, 0, 1], [0, 9, 1], [0, 0, 1]]\nrotation = {vector}\ntranslation = [0, 0, 5]\n")
    with pytest.raises(SourceError, match="finite numbers"):
        read_calibration(path)


def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "poses.parquet"
    path.write_bytes(b"PAR1" + b"\x15\x80" * 40 + b"PAR1")
    with pytest.raises(SourceError) as caught:
        read_poses(path)
    assert "\n" not in str(caught.value)
