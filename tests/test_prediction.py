"""``featherpose.predict``: one call, whatever holds the people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import featherpose
from featherpose import FrameResult, PoseEstimator, Poses, read_image, write_image
from featherpose.errors import OptionError, SourceError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """A photograph, a folder of two and a video of eight frames in it."""
    folder = tmp_path_factory.mktemp("sources")
    small = np.asarray(cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA))
    write_image(folder / "photo.png", small)
    (folder / "mixed").mkdir()
    for name in ("one.png", "two.png"):
        write_image(folder / "mixed" / name, small)
    video = cv2.VideoWriter(str(folder / "mixed/video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (256, 256))
    for _ in range(8):
        video.write(small)
    video.release()
    return folder


def predict(source: Any, **options: Any) -> Any:
    return featherpose.predict(source, height=128, threads=1, **options)


def test_one_image_however_it_is_given(folder: Path) -> None:
    image = read_image(folder / "photo.png")
    with PoseEstimator(height=128, threads=1) as estimator:
        expected = estimator(image)
    for source in (folder / "photo.png", str(folder / "photo.png"), image):
        poses = predict(source)
        assert isinstance(poses, Poses)
        assert len(poses) == 1
        assert np.allclose(poses.keypoints, expected.keypoints, atol=1e-3, equal_nan=True)


def test_a_list_gives_a_list(folder: Path) -> None:
    many = predict([folder / "photo.png", read_image(folder / "photo.png")])
    assert [len(poses) for poses in many] == [1, 1]
    assert predict([]) == []


def test_a_video_gives_an_iterator_with_ids(folder: Path) -> None:
    results = predict(folder / "mixed/video.mp4", frame_step=2)
    assert isinstance(results, Iterator)
    kept = list(results)
    assert all(isinstance(result, FrameResult) for result in kept)
    assert [result.frame.index for result in kept] == [0, 2, 4, 6]
    assert kept[-1].poses[0].id == 0
    untracked = next(predict(folder / "mixed/video.mp4", track=False))
    assert untracked.poses.track_ids is None


def test_a_folder_gives_images_and_then_videos(folder: Path) -> None:
    results = list(predict(folder / "mixed", end=0.1))
    assert [(r.source_index, r.frame.name) for r in results[:3]] == [(0, "one.png"), (0, "two.png"), (1, "video.mp4")]
    assert results[0].poses.track_ids is None
    assert results[2].poses.track_ids is not None


def test_closing_the_iterator_ends_everything(folder: Path) -> None:
    results = predict(folder / "mixed/video.mp4")
    next(results)
    results.close()
    assert next(results, None) is None


def test_mistakes_are_told_at_the_call(folder: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        predict(folder / "nothing.jpg")
    with pytest.raises(SourceError):
        predict(None)  # what cv2.imread returns for a file that it cannot read
    with pytest.raises(SourceError):
        predict(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(OptionError, match="frame step 0"):
        predict(folder / "mixed", frame_step=0)
    with pytest.raises(OptionError, match="smoothing"):
        predict(folder / "mixed", smooth=True, track=False)
