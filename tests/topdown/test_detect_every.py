"""Detection on some frames only: people are followed between them, found again after, and the result repeats."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.errors import OptionError
from featherpose.estimator import PoseEstimator
from featherpose.oks import oks_matrix
from featherpose.stream import DetectEvery


def panned(image: np.ndarray, count: int) -> list[np.ndarray]:
    """A camera that moves over an image, three pixels a frame."""
    return [image[:, 3 * i : 3 * i + 400].copy() for i in range(count)]


def test_people_are_followed(astronaut: np.ndarray) -> None:
    frames = panned(astronaut, 8)
    with PoseEstimator() as estimator:
        video = DetectEvery(estimator, 8)
        pending = [video.submit(frame) for frame in frames[:3]]
        found = [one.timed_result()[0] for one in pending]
        found += [video.submit(frame).timed_result()[0] for frame in frames[3:]]
        assert video.detections == 1
        detected = [estimator(frame) for frame in frames]
        again = DetectEvery(estimator, 8)
        repeated = [again.submit(frame).timed_result()[0] for frame in frames]
    for followed, whole in zip(found, detected, strict=True):
        assert len(followed) >= 1
        # Hips and legs, which are not in the image, are guesses with scores around 0.1.
        seen = [poses[[0]].without_weak(0.25) for poses in (followed, whole)]
        assert oks_matrix(*seen)[0, 0] > 0.9
    for one, other in zip(found, repeated, strict=True):
        assert np.array_equal(one.keypoints, other.keypoints, equal_nan=True)


def test_who_leaves_is_gone_and_who_comes_is_found(astronaut: np.ndarray) -> None:
    blank = np.full_like(astronaut, 128)
    with PoseEstimator() as estimator:
        video = DetectEvery(estimator, 4)
        frames = [astronaut, blank, blank, blank, blank, astronaut]
        counts = [len(video.submit(frame).timed_result()[0]) for frame in frames]
    assert counts[0] >= 1
    assert counts[1:5] == [0, 0, 0, 0]
    assert counts[5] >= 1  # nobody was known, so the whole image was looked at


def test_a_crowd_beyond_the_budget_is_detected(astronaut: np.ndarray) -> None:
    from featherpose.topdown.topdown_options import RefineOptions

    two = cv2.hconcat([astronaut, astronaut])
    with PoseEstimator(refine=RefineOptions(budget_crops=1)) as estimator:
        video = DetectEvery(estimator, 4)
        for _ in range(3):
            video.submit(two).timed_result()
        assert video.detections == 3


@pytest.mark.parametrize("every", [0, -1, 2000])
def test_impossible_numbers_are_refused(every: int) -> None:
    with PoseEstimator(height=128) as estimator, pytest.raises(OptionError):
        DetectEvery(estimator, every)


def test_without_a_refiner_it_is_refused() -> None:
    with PoseEstimator(height=128, refine="off") as estimator, pytest.raises(OptionError, match="without refinement"):
        DetectEvery(estimator, 2)


@pytest.mark.slow
def test_ids_are_kept_in_a_real_video(shared: Path, tmp_path: Path) -> None:
    """Two people for a hundred frames: detected on every fifth, they keep the ids of a run that detects on all."""
    import json

    from featherpose.cli.main import run

    video = shared / "data" / "videos" / "two-people.mp4"
    ids = {}
    for every in (1, 5):
        out = tmp_path / f"{every}.jsonl"
        assert run(["predict", str(video), "--jsonl", str(out), "--detect-every", str(every), "-q"]) == 0
        records = [json.loads(line) for line in out.read_text().splitlines()]
        ids[every] = [{p["id"] for p in record["people"] if p["id"] is not None} for record in records]
    assert len(ids[5]) == len(ids[1]) == 100
    assert all({0, 1} <= found for found in ids[5][5:])
    assert len(set().union(*ids[5])) <= len(set().union(*ids[1])) + 1
