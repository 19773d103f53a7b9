"""Tracking metrics, rendered scenes, detector statistics, and the command that brings them together."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.errors import DatasetError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.tracking.detector_noise import DetectorErrors, released_errors
from featherpose.evaluation.tracking.measure_noise import annotated_images
from featherpose.evaluation.tracking.metrics import combine_scores, score_tracking
from featherpose.evaluation.tracking.posetrack import outside_ignored, read_posetrack
from featherpose.evaluation.tracking.scenes import FAMILIES, SceneFamily, render_scene
from featherpose.evaluation.tracking.simulate import detect
from featherpose.evaluation.tracking.smoothing import measure_smoothing, plot_smoothing
from featherpose.poses import Poses
from featherpose.skeleton import OPENPOSE_18
from featherpose.tracking import SmoothOptions

needs_trackeval = pytest.mark.skipif(not find_spec("trackeval"), reason="the package trackeval is not installed")
needs_trackers = pytest.mark.skipif(not find_spec("trackers"), reason="the package trackers is not installed")


def _truth(seconds: float = 2.0) -> list[Poses]:
    scene = render_scene("crossing", 3, seed=0, seconds=seconds)
    return [scene.truth(t) for t in range(len(scene.timestamps_s))]


@needs_trackeval
def test_the_truth_scores_one() -> None:
    scores = score_tracking(_truth(), _truth())
    assert (scores.hota, scores.idf1, scores.mota) == pytest.approx((1, 1, 1))
    assert (scores.switches, scores.ids, scores.people) == (0, 3, 3)
    both = combine_scores([scores, scores])
    assert both.hota == pytest.approx(1)
    assert both.people == 6


@needs_trackeval
def test_a_swap_of_two_ids_is_counted() -> None:
    truth = _truth()
    half = len(truth) // 2
    swap = {0: 1, 1: 0, 2: 2}
    tracked = [
        p if t < half else p.with_track_ids(np.array([swap[int(i)] for i in p.track_ids], np.int64))  # type: ignore[union-attr]
        for t, p in enumerate(truth)
    ]
    scores = score_tracking(truth, tracked)
    assert scores.switches == 2
    assert scores.deta == pytest.approx(1)
    assert scores.assa < 0.8


@needs_trackeval
def test_people_without_confirmed_ids_are_not_counted_and_lengths_must_agree() -> None:
    truth = _truth()
    nobody = [p.with_track_ids(np.full(len(p), -1, np.int64)) for p in truth]
    assert score_tracking(truth, nobody).hota == pytest.approx(0)
    with pytest.raises(DatasetError, match="frames"):
        score_tracking(truth, truth[1:])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_scene_is_the_same_each_time_and_people_are_people(family: SceneFamily) -> None:
    scene, again = (render_scene(family, 5, seed=1, seconds=4) for _ in range(2))
    np.testing.assert_array_equal(scene.keypoints, again.keypoints)
    np.testing.assert_array_equal(scene.visible, again.visible)
    assert np.isfinite(scene.keypoints).all()
    assert (np.diff(scene.timestamps_s) > 0).all()
    index = scene.skeleton.index
    y = scene.keypoints[..., 1]
    assert (y[..., index("nose")] < y[..., index("neck")]).all()
    assert (y[..., index("left_hip")] < y[..., index("left_ankle")]).all()
    # Nobody jumps: a hand of somebody who turns is slower than 9 m/s, at a scale of at most 180 pixels a meter.
    step = np.abs(np.diff(scene.keypoints, axis=0)).max((1, 2, 3)) / np.diff(scene.timestamps_s)
    assert step.max() < 180 * 9


def test_the_nearer_person_hides_the_farther() -> None:
    scene = render_scene("crossing", 6, seed=3)
    hidden = ~scene.visible[:, :, scene.skeleton.index("neck")]
    x = scene.keypoints[..., 0]
    inside = np.all((x > 0) & (x < 1279), axis=2)
    assert (hidden & inside).any()
    assert not np.any(np.all(hidden & inside, axis=1))


def test_unknown_scenes_are_refused() -> None:
    with pytest.raises(OptionError, match="crossing"):
        render_scene("ballet", 2, seed=0)  # type: ignore[arg-type]
    with pytest.raises(OptionError):
        render_scene("crossing", 0, seed=0)


def test_detections_carry_the_measured_rates() -> None:
    errors = released_errors()
    scene = render_scene("crowd", 12, seed=0, seconds=20)
    found = detect(scene, errors, seed=0)
    truth = [scene.truth(t) for t in range(len(found))]
    # Fewer than the truth by the misses, more by the false people.
    ratio = sum(map(len, found)) / sum(map(len, truth))
    assert 0.7 < ratio < 1.3
    again = detect(scene, errors, seed=0)
    np.testing.assert_array_equal(found[7].keypoints, again[7].keypoints)
    scores = found[0].keypoint_scores
    assert ((scores > 0) == found[0].detected).all()


def test_statistics_survive_a_file(tmp_path: Path) -> None:
    errors = released_errors()
    errors.save(tmp_path / "errors.json")
    assert DetectorErrors.load(tmp_path / "errors.json") == errors
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DatasetError):
        DetectorErrors.load(tmp_path / "other.json")


def test_annotations_become_truth_in_the_skeleton_of_the_network(coco_train: Path, released_int8: Path) -> None:
    data = read_coco_dataset(coco_train).first(12)
    with PoseEstimator(released_int8, threads=1) as estimator:
        images = list(annotated_images(data, estimator))
    assert len(images) == 12
    assert sum(len(p.truth) for p in images) == data.people
    neck, left, right = (OPENPOSE_18.index(name) for name in ("neck", "left_shoulder", "right_shoulder"))
    for image in images:
        assert image.truth.skeleton == image.detected.skeleton == OPENPOSE_18
        assert not (image.seen & ~image.truth.detected).any()
        np.testing.assert_array_equal(image.seen[:, neck], image.seen[:, left] & image.seen[:, right])
    # What is in plain sight is found as a rule, and where it is.
    distances = [
        float(np.nanmin(np.linalg.norm(p.detected.keypoints[:, neck] - p.truth.keypoints[i, neck], axis=1)))
        for p in images
        for i in range(len(p.truth))
        if p.seen[i].sum() > 12 and len(p.detected)
    ]
    assert np.median(distances) < 15


@needs_trackeval
def test_command_measures_mistakes_and_scenes_carry_them(
    coco_train: Path, shared: Path, released_int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads((coco_train / "annotations.json").read_text())
    data["images"] = data["images"][:25]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    (tmp_path / "some.json").write_text(json.dumps(data))
    errors = tmp_path / "errors.json"
    video = shared / "data/videos/store-aisle.gif"
    words = ["evaluate-tracking", "--measure-noise", str(tmp_path / "some.json"), "--model", str(released_int8)]
    more = ["--images", str(coco_train / "images"), "--videos", str(video), "--height", "256", "--threads", "2"]
    assert run([*words, *more, "--detector-noise", str(errors)]) == 0
    assert "left_shoulder" in capsys.readouterr().out
    found, released = DetectorErrors.load(errors), released_errors()
    assert "25 photographs" in found.provenance
    assert "store-aisle" in found.provenance
    # A few images of what the package's statistics were made of: of the same kind.
    assert 0.3 < np.median(found.jitter) / np.median(released.jitter) < 3
    assert found.person_miss[-1][-1] < found.person_miss[0][0]
    out = tmp_path / "out.json"
    scenes = [
        "evaluate-tracking",
        "--families",
        "crossing",
        "--seeds",
        "1",
        "--seconds",
        "2",
        "--detector-noise",
        str(errors),
    ]
    if find_spec("trackers"):
        assert run([*scenes, "--json", str(out)]) == 0
        assert json.loads(out.read_text())["detections"] == found.provenance


def _posetrack(path: Path) -> None:
    names = ["nose", "head_bottom", "head_top", "left_shoulder", "right_shoulder", "left_hip", "right_hip"]
    images, annotations = [], []
    for t in range(4):
        images.append(
            {"id": 100 + t, "frame_id": t, "file_name": f"{t}.jpg", "is_labeled": t != 2, "width": 320, "height": 240,
             "ignore_regions_x": [[200, 319, 319, 200]], "ignore_regions_y": [[0, 0, 239, 239]]}
        )  # fmt: skip
        for person in range(2):
            points = [v for k in range(7) for v in (40 + 60 * person + 5 * k + t, 30 + 20 * k, 1)]
            annotations.append({"image_id": 100 + t, "track_id": person, "keypoints": points})
    data = {"images": images, "annotations": annotations, "categories": [{"name": "person", "keypoints": names}]}
    path.write_text(json.dumps(data))


def test_posetrack_annotations_are_read(tmp_path: Path) -> None:
    _posetrack(tmp_path / "a.json")
    frames = read_posetrack(tmp_path / "a.json")
    assert [f.labeled for f in frames] == [True, True, False, True]
    assert len(frames[0].people) == 2
    assert frames[0].people.image_size == (320, 240)
    moved = Poses(
        frames[0].people.keypoints + np.array([180, 0], np.float32),
        frames[0].people.keypoint_scores, frames[0].people.scores,
        frames[0].people.skeleton, (320, 240),
    )  # fmt: skip
    assert len(outside_ignored(moved, frames[0].ignored)) == 0
    assert len(outside_ignored(frames[0].people, frames[0].ignored)) == 2
    for text in ("{}", "nonsense", '{"images": [], "annotations": [], "categories": []}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(DatasetError):
            read_posetrack(tmp_path / "b.json")


@needs_trackeval
def test_command_scores_results_in_posetrack_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _posetrack(tmp_path / "a.json")
    out = tmp_path / "out.json"
    code = run(
        ["evaluate-tracking", str(tmp_path / "a.json"), "--results", str(tmp_path / "a.json"), "--json", str(out)]
    )
    assert code == 0
    assert "1.000" in capsys.readouterr().out
    assert json.loads(out.read_text())["scores"]["a.json"]["hota"] == pytest.approx(1)


@needs_trackeval
@needs_trackers
def test_command_on_scenes_and_better_than_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    words = ["evaluate-tracking", "--families", "crossing", "--families", "dropped", "--seeds", "1", "--seconds", "6"]
    assert run([*words, "--json", str(out)]) == 0
    for scores in json.loads(out.read_text())["scenes"].values():
        ours = scores.pop("featherpose")
        assert all(ours["hota"] > other["hota"] and ours["switches"] < other["switches"] for other in scores.values())


def test_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate-tracking", "--seeds", "0"]) == 2
    assert run(["evaluate-tracking", "--measure-noise", str(tmp_path)]) == 2
    assert "--videos" in capsys.readouterr().err
    assert run(["evaluate-tracking", str(tmp_path / "nothing.json")]) == 1
    assert "nothing.json" in capsys.readouterr().err


def test_smoothing_trades_trembling_for_delay(tmp_path: Path) -> None:
    calm, quick = SmoothOptions(min_cutoff_hz=0.5, beta=0.2), SmoothOptions(min_cutoff_hz=3, beta=5)
    raw, slow, fast = measure_smoothing([calm, quick], seeds=(0,), people=2)
    assert raw.trembling > fast.trembling > slow.trembling
    assert abs(raw.delay_ms) < 1 < fast.delay_ms < slow.delay_ms
    pytest.importorskip("matplotlib")
    plot_smoothing([raw, slow, fast], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
