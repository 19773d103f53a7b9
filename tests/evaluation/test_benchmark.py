"""``featherpose bench``: the figures add up, and a scene has the people it says; no test asserts a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.errors import OptionError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.performance.benchmark import BenchOptions, bench_crowd, bench_frames, make_crowd
from featherpose.evaluation.performance.crowds import lay_out_people
from featherpose.oks import oks_matrix
from featherpose.skeleton import BODY_25, COCO_17, LSP_14, OPENPOSE_18, Skeleton

QUICK = BenchOptions(frames=3, warmup=1, in_flight=2)


@pytest.mark.parametrize("skeleton", [OPENPOSE_18, COCO_17, BODY_25, LSP_14], ids=lambda s: s.name)
@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_people_stand_inside_the_image_and_apart(skeleton: Skeleton, count: int) -> None:
    people = lay_out_people(count, skeleton, (1280, 720))
    assert people.shape == (count, skeleton.num_keypoints, 2)
    if count:
        assert people.min() > -20
        assert (people.max(axis=(0, 1)) < (1300, 740)).all()
        centers = people.mean(axis=1)
        gaps = np.linalg.norm(centers[:, None] - centers, axis=-1) + 1e9 * np.eye(count)
        widths = np.ptp(people[..., 0], axis=1)
        assert gaps.min() > 0.9 * widths.max()


def test_layout_is_the_same_every_time_and_left_is_left() -> None:
    first, second = (lay_out_people(5, COCO_17, (640, 480), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    left, right = COCO_17.index("left_shoulder"), COCO_17.index("right_shoulder")
    assert (first[:, left, 0] > first[:, right, 0]).all(), "people face the camera"


def test_own_skeletons_can_be_laid_out() -> None:
    own = Skeleton.create("own", ["tip", "base"], [("tip", "base")])
    assert np.isfinite(lay_out_people(3, own, (64, 64))).all()
    with pytest.raises(OptionError):
        lay_out_people(-1, own, (64, 64))


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"warmup": -1}, {"in_flight": 0}])
def test_options_are_judged(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        BenchOptions(**wrong)


@pytest.fixture(scope="module")
def estimator(released_int8: Path) -> PoseEstimator:
    return PoseEstimator(released_int8, height=256, threads=1)


@pytest.mark.parametrize("people", [1, 10, 20])
def test_the_people_of_a_scene_come_out(estimator: PoseEstimator, people: int) -> None:
    crowd = make_crowd(estimator, people)
    poses = estimator.spec.decoder()(crowd.maps, crowd.letterbox)
    assert len(poses) >= 0.95 * people
    truth = lay_out_people(people, estimator.skeleton, (1280, 720))
    from featherpose.poses import Poses

    real = Poses(
        truth, np.ones(truth.shape[:2], np.float32), np.ones(people, np.float32), estimator.skeleton, (1280, 720)
    )
    assert (oks_matrix(real, poses).max(axis=1) > 0.5).mean() >= 0.95


def test_crowd_report(estimator: PoseEstimator) -> None:
    report = bench_crowd(estimator, make_crowd(estimator, 4, (640, 360)), QUICK)
    assert list(report.stages) == ["prepare", "infer", "decode", "draw", "total"]
    assert (report.frames, report.people, report.size) == (3, 4.0, (640, 360))
    assert report.throughput_hz > 0
    assert any("encoded from the people" in note for note in report.notes)
    assert report.stages["total"].mean_ms == pytest.approx(
        sum(f.mean_ms for stage, f in report.stages.items() if stage != "total")
    )
    data = json.loads(json.dumps(report.as_dict(estimator)))
    assert (data["precision"], data["height"], data["in_flight"]) == ("int8", 256, 2)


def test_real_frames(estimator: PoseEstimator, astronaut: np.ndarray) -> None:
    report = bench_frames(estimator, iter([astronaut.copy() for _ in range(9)]), QUICK)
    assert next(iter(report.stages)) == "read"
    assert (report.frames, report.people, report.size) == (3, 1.0, (512, 512))


def test_one_image_is_measured_again_and_again(estimator: PoseEstimator, astronaut: np.ndarray) -> None:
    report = bench_frames(estimator, [astronaut.copy()], QUICK)
    assert report.frames == 3
    assert "read" not in report.stages
    assert "only 1 frames" in report.notes[0]


def test_short_source_is_said(estimator: PoseEstimator, astronaut: np.ndarray) -> None:
    report = bench_frames(estimator, (astronaut.copy() for _ in range(3)), QUICK)
    assert report.frames == 2
    assert "ended after 3 frames" in report.notes[0]
    with pytest.raises(SourceError, match="no frame"):
        bench_frames(estimator, [], QUICK)


def test_command(released_int8: Path, grace_hopper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    common = ["--model", str(released_int8), "--frames", "2", "--warmup", "1", "--threads", "1", "--json", str(out)]
    assert run(["bench", "--people", "3", "--size", "320x240", *common]) == 0
    captured = capsys.readouterr()
    assert "infer\t" in captured.out
    assert "3 people laid out" in captured.err
    assert json.loads(out.read_text())["size"] == [320, 240]
    assert run(["bench", str(grace_hopper), *common]) == 0
    assert json.loads(out.read_text())["people"] == 1.0
    assert run(["bench", str(tmp_path / "nothing.mp4"), *common]) == 1
    for wrong in (["--size", "big"], ["--size", "1x1"], ["--people", "-1"], ["--frames", "0"]):
        assert run(["bench", *wrong]) == 2
