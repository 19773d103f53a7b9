"""A generator of one person: trained on drawn footage, interrupted, resumed, judged, and drawn with by the commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.commands import transfer as command
from featherpose.cli.main import run
from featherpose.errors import CheckpointError, OptionError
from featherpose.evaluation.motion.paper_people import Proportions, dancing, drawn_person
from featherpose.motion.sequence import PoseSequence
from featherpose.transfer.footage import Footage, clean_person, pose_distance
from featherpose.transfer.generator import Generator
from featherpose.transfer.generator_drawing import GeneratorArtist, load_artist
from featherpose.transfer.generator_training import TrainOptions, train_generator
from featherpose.transfer.judging import judge_generator
from featherpose.transfer.puppet import Puppet, joints_of

pytestmark = pytest.mark.slow

SIZE = (128, 160)
FRAMES = 40


@pytest.fixture(scope="module")
def dance() -> tuple[list[np.ndarray], PoseSequence]:
    """Frames of a drawn person who dances before a smooth background, and the poses."""
    body = Proportions(36, 1, 1, (64, 90))
    image, mask, joints = drawn_person(SIZE, body)
    puppet = Puppet(image, joints, mask=mask)
    movement = dancing(body, FRAMES, step=0.2)
    frames = [
        puppet.render(joints_of(points, movement.skeleton), background=puppet.background)
        for points in movement.keypoints[:, 0]
    ]
    return frames, replace(movement, image_size=SIZE)


@pytest.fixture(scope="module")
def footage(dance: tuple[list[np.ndarray], PoseSequence]) -> Footage:
    frames, movement = dance
    return Footage.collect(frames, clean_person(movement), SIZE[1])


def options(steps: int) -> TrainOptions:
    return TrainOptions(minutes=60, steps=steps, batch=2, apart=3, preview_every=5)


def test_an_interrupted_training_goes_on(footage: Footage, tmp_path: Path) -> None:
    training, rest = footage.split(0.8)
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if text.startswith("step 5"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(training, tmp_path, options(12), say=stop)
    assert said[-1] == "stopped after step 5; the same command goes on"
    assert load_artist(tmp_path).draw(rest.points[0]).shape == (SIZE[1], SIZE[0], 3)
    again: list[str] = []
    train_generator(training, tmp_path, options(12), say=again.append)
    assert again[0].startswith("goes on after step 5")
    assert (tmp_path / "preview-000010.png").is_file()
    assert train_generator(training, tmp_path, options(12), say=again.append).name == "generator.pt"
    assert again[-1].startswith("goes on after step 12")
    artist = load_artist(tmp_path)
    likeness, sheets = judge_generator(artist, rest)
    assert [one.name for one in likeness][:2] == ["generator", "nearest frame"]
    assert all(one.frames == len(rest.frames) and 5 < one.psnr_db < 99 for one in likeness)
    assert len(list(sheets)) == 8
    with pytest.raises(CheckpointError, match="another video"):
        train_generator(rest, tmp_path, options(12))


def test_the_commands_train_and_draw(
    dance: tuple[list[np.ndarray], PoseSequence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    frames, movement = dance
    video = tmp_path / "dance.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 30, SIZE)
    for frame in frames:
        writer.write(frame)
    writer.release()

    def poses(_ref: object, _part: object, _model: object, *, quiet: bool, look: object = None) -> PoseSequence:
        # The drawn person is no photograph: its poses are known instead of found.
        assert quiet
        for image in frames if callable(look) else []:
            look(type("Result", (), {"frame": type("Frame", (), {"image": image})}))  # type: ignore[operator]
        return movement

    monkeypatch.setattr(command, "read_video_poses", poses)
    folder, out = tmp_path / "run", tmp_path / "out.mp4"
    train = ["transfer", "train", str(video), "--out", str(folder), "--size", "128", "--steps", "4", "--batch", "1"]
    assert run([*train, "--minutes", "9", "--quiet"]) == 0
    held_out = json.loads((folder / "held-out.json").read_text())
    assert {one["name"] for one in held_out["inside the person's box"]} >= {"generator", "nearest frame, shifted"}
    assert (folder / "held-out.png").stat().st_size > 1000
    for option in ("--model-run", "--model"):
        assert run(["transfer", str(video), option, str(folder), "-o", str(out), "--quiet"]) == 0
        capture = cv2.VideoCapture(str(out))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
        assert capture.read()[1].shape[0] == 128
        capture.release()
        out.unlink()
    capsys.readouterr()
    assert run(["transfer", str(video), "--model-run", str(tmp_path / "none"), "-o", str(out)]) == 1
    assert "holds no trained generator" in capsys.readouterr().err
    assert run(["transfer", str(video), "-o", str(out)]) == 2
    assert "--to PICTURE or --model-run FOLDER" in capsys.readouterr().err


def test_poses_that_share_nothing(footage: Footage) -> None:
    points = footage.points[:3].copy()
    points[0, 5:], points[1, :5] = np.nan, np.nan
    distance, _ = pose_distance(points[0], points)
    assert distance[0] == 0
    assert np.isinf(distance[1])
    assert np.isfinite(distance[2])
    assert np.isinf(pose_distance(np.full((17, 2), np.nan), points)[0]).all()


def test_a_frame_without_a_person_is_the_background(footage: Footage) -> None:
    skeleton = footage.skeleton
    artist = GeneratorArtist(Generator(skeleton.num_keypoints + skeleton.num_limbs), footage)
    poses = np.stack((footage.points[0], np.full((17, 2), np.nan), footage.points[2]))
    images = list(artist.draw_all(poses))
    assert np.array_equal(images[1], footage.plate)
    assert not np.array_equal(images[2], footage.plate)


def test_a_short_video_can_be_learned(footage: Footage, tmp_path: Path) -> None:
    short = footage.part(0, 16)
    assert train_generator(short, tmp_path, TrainOptions(minutes=9, steps=1, batch=1)).is_file()


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="positive"):
        TrainOptions(minutes=0)
