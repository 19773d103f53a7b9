"""Heads are hidden: of people, of lone weak peaks, over the frames that miss them; and a failure writes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose import PoseEstimator, read_image
from featherpose.augment.effects import EffectOptions, FrameEffects
from featherpose.augment.privacy.anonymize import Anonymizer, HeadMemory, LookAhead, hidden_area, hide_heads
from featherpose.augment.privacy.heads import HeadOptions, Heads, find_heads
from featherpose.cli.main import run
from featherpose.cli.options.effect_options import EffectArguments
from featherpose.evaluation.anonymize import heads_of_labels, judge_heads, summarize
from featherpose.poses import Candidates, Poses
from featherpose.skeleton import COCO_17


def one_head(left: float = 20, top: float = 20, right: float = 60, bottom: float = 70) -> Heads:
    return Heads(np.array([[left, top, right, bottom]], np.float32), np.ones(1, np.float32), ("person",))


@pytest.mark.parametrize("method", ["blur", "pixelate", "box"])
def test_what_is_hidden_is_gone(method: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 100, 3), np.uint8)
    before = image.copy()
    heads = one_head()
    hide_heads(image, heads, method)  # type: ignore[arg-type]
    area = hidden_area(heads, (100, 100))
    assert np.array_equal(image[~area], before[~area])
    # Noise of 8 bits is left with the variance of means over whole blocks.
    assert image[area].std() < 0.25 * before[area].std()


def test_heads_at_the_border_and_outside() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    hide_heads(image, one_head(-30, -30, 10, 10), "box")
    assert image[0, 0, 0] != 200
    before = image.copy()
    hide_heads(image, one_head(80, 80, 120, 120), "blur")
    assert np.array_equal(image, before)


def test_a_lone_weak_peak_is_hidden_and_a_known_head_is_not_hidden_twice() -> None:
    points = np.full((1, 17, 2), np.nan, np.float32)
    points[0, :5] = ((50, 50), (53, 47), (47, 47), (57, 48), (43, 48))
    scores = np.isfinite(points[..., 0]).astype(np.float32)
    candidates = Candidates(
        np.array([[50, 50], [200, 100], [300, 50]], np.float32), np.array([0.9, 0.12, 0.02], np.float32),
        np.array([0, 0, 0], np.int32), np.ones(3, np.float32), COCO_17,
    )  # fmt: skip
    poses = Poses(points, scores, np.ones(1, np.float32), COCO_17, (400, 200), candidates=candidates)
    heads = find_heads(poses)
    assert heads.sources == ("person", "peak")
    assert hidden_area(heads, (400, 200))[100, 200]
    assert not hidden_area(heads, (400, 200))[50, 300]
    assert len(find_heads(poses, HeadOptions(min_peak_score=None))) == 1


def test_a_head_that_one_frame_misses_stays_hidden_before_and_after() -> None:
    memory = HeadMemory(0.3)
    assert memory.update(one_head(), 0.0).sources == ("person",)
    assert memory.update(Heads.none(), 0.1).sources == ("held",)
    assert len(memory.update(Heads.none(), 0.5)) == 0
    ahead: LookAhead[int] = LookAhead(0.3)
    out = [pair for i in range(3) for pair in ahead.push(i, i / 10, one_head() if i == 2 else Heads.none())]
    out += list(ahead.rest())
    assert [(number, heads.sources) for number, heads in out] == [(0, ("held",)), (1, ("held",)), (2, ("person",))]


def test_the_command_and_the_estimator_go_as_low_as_heads_are_looked_for() -> None:
    assert EffectArguments(anonymize="box").wanted().heads == HeadOptions()
    assert EffectOptions(anonymize="box").candidates == HeadOptions().min_peak_score


def test_a_real_face_is_hidden(astronaut: np.ndarray) -> None:
    image = astronaut.copy()
    with PoseEstimator(height=256, candidates=0.03) as estimator:
        poses = estimator(image)
    assert poses.candidates is not None
    assert len(poses.candidates) > 3
    heads = Anonymizer("box", video=False).hide(image, poses)
    assert len(heads) >= 1
    nose = poses[0]["nose"].round().astype(int)
    assert image[nose[1], nose[0]].tolist() == [48, 48, 48]
    assert hidden_area(heads, (512, 512)).mean() < 0.3


def test_labels_become_heads_and_sizes_are_counted() -> None:
    person = np.zeros((17, 3))
    person[:5] = ((50, 50, 2), (55, 45, 2), (45, 45, 2), (60, 47, 2), (40, 47, 2))
    truth = heads_of_labels([person, np.zeros((17, 3))])
    assert len(truth) == 1
    assert 25 < truth[0].size_px < 35
    hidden, false_area = judge_heads(truth, one_head(30, 25, 70, 75), (200, 200))
    assert hidden == [True]
    assert false_area == 0
    hidden, false_area = judge_heads(truth, one_head(130, 125, 170, 175), (200, 200))
    assert hidden == [False]
    assert 0.03 < false_area < 0.05
    assert [(s.name, s.heads, s.hidden) for s in summarize([9, 20, 40], [True, False, True])][1:4] == [
        ("8-16 px", 1, 1), ("16-32 px", 1, 0), (">= 32 px", 1, 1),
    ]  # fmt: skip


def test_the_command_hides_heads_and_says_what_it_hid(tmp_path: Path, grace_hopper: Path) -> None:
    out = tmp_path / "hidden.png"
    assert run(["overlay", str(grace_hopper), "--anonymize", "pixelate", "-o", str(out), "-q"]) == 0
    changed = np.any(read_image(out) != read_image(grace_hopper), axis=-1)
    assert 0.02 < changed.mean() < 0.4
    first, frame = (json.loads(line) for line in (tmp_path / "hidden.audit.jsonl").read_text().splitlines())
    assert first["method"] == "pixelate"
    left, top, right, bottom = frame["hidden"][0]["box"]
    assert changed[int((top + bottom) / 2), int((left + right) / 2)]


def test_a_frame_that_fails_is_not_written(
    tmp_path: Path, grace_hopper: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = cv2.resize(read_image(grace_hopper), (160, 192))
    video = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (160, 192))
    for _ in range(6):
        video.write(image)
    video.release()
    draw = FrameEffects.draw
    calls = []

    def fail(self: FrameEffects, *args: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("torn")
        draw(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(FrameEffects, "draw", fail)
    out = tmp_path / "out.avi"
    code = run(["overlay", str(tmp_path / "in.mp4"), "--anonymize", "box", "-o", str(out), "-q"])
    assert code == 1
    assert "frame 2 of in.mp4 is left out" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "out.audit.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines[1:] if "left_out" in line] == [2]
    assert [line["frame"] for line in lines[1:] if "hidden" in line] == [0, 1, 3, 4, 5]


def test_bad_input_is_one_line(tmp_path: Path, grace_hopper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["overlay", str(grace_hopper)]) == 2
    assert run(["overlay", str(grace_hopper), "--scene", "none.toml"]) == 1
    assert run(["overlay", str(grace_hopper), "--scene", "hat", "--every-head"]) == 2
    (tmp_path / "s.toml").write_text("[[items]]\nkind = 'circle'\njoints = ['left_antenna']\n")
    out = str(tmp_path / "o.jpg")
    assert run(["overlay", str(grace_hopper), "--scene", str(tmp_path / "s.toml"), "-o", out]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert "left_antenna" in lines[-1]
    assert not Path(out).exists()


def test_candidates_survive_selection_and_ids() -> None:
    poses = Poses.empty(COCO_17, (10, 10))
    some = Candidates(
        np.zeros((1, 2), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), np.ones(1, np.float32), COCO_17
    )
    poses = replace(poses, candidates=some)
    assert poses[[]].with_track_ids(np.empty(0, np.int64)).candidates is some
