"""The first command of the README: the main job, on the photograph that is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.demo import PHOTOGRAPH
from featherpose.estimator import PoseEstimator
from featherpose.media.images import read_image


def test_three_people_are_found_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo"]) == 0
    assert str(tmp_path / "featherpose-demo/people.poses.jpg") in capsys.readouterr().out
    header, frame = map(json.loads, (tmp_path / "featherpose-demo/people.jsonl").read_text().splitlines())
    nose = header["skeleton"]["keypoints"].index("nose")
    noses = sorted(person["keypoints"][nose][0] for person in frame["people"] if person["keypoints"][nose])
    # One face in each of the three photographs.
    assert np.searchsorted([450, 887, 1267], noses).tolist() == [0, 1, 2]
    before, after = (
        cv2.imread(str(tmp_path / "featherpose-demo" / name)) for name in ("people.jpg", "people.poses.jpg")
    )
    assert before is not None
    assert after is not None
    assert before.shape == after.shape == (512, 1267, 3)
    assert 0.005 < (np.abs(before.astype(int) - after).max(axis=2) > 60).mean() < 0.1


def test_the_larger_bundled_network_finds_them_as_well() -> None:
    with PoseEstimator("accurate", quality="fast") as estimator:
        poses = estimator(read_image(PHOTOGRAPH))
    assert len(poses) >= 3
    # By score: who sits in the background of a photograph is less certain.
    noses = sorted(person["nose"][0] for person in list(poses)[:3])
    assert np.searchsorted([450, 887, 1267], noses).tolist() == [0, 1, 2]


def test_a_folder_can_be_named_and_one_that_cannot_be_made_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", "-o", str(tmp_path / "a/b")]) == 0
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == [
        "people.jpg",
        "people.jsonl",
        "people.poses.jpg",
    ]
    capsys.readouterr()
    (tmp_path / "file").touch()
    assert run(["demo", "-o", str(tmp_path / "file")]) == 1
    assert "is a file" in capsys.readouterr().err


def test_sources_and_licenses_are_stated_beside_the_photograph() -> None:
    text = PHOTOGRAPH.with_name("README.md").read_text(encoding="utf-8")
    assert text.lower().count("public domain") >= 2
    assert "CC0" in text
    assert PHOTOGRAPH.stat().st_size <= 150_000
