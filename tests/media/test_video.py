"""Videos: real times, rotation, spans, and files that end before they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import OptionError, SourceError
from featherpose.media.sources.containers import missing_bytes
from featherpose.media.sources.find import open_source

WriteFilm = Callable[..., None]
SetRotation = Callable[[Path, int], None]
UNEVEN_S = [0.0, 0.03, 0.1, 0.15, 0.5, 0.52, 1.0, 1.1, 1.5, 2.0]
EVEN_S = [i / 30 for i in range(90)]


@pytest.fixture(scope="module")
def image(astronaut: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(astronaut[:160:1, 100:340])


@pytest.fixture(scope="module")
def video(image: np.ndarray, tmp_path_factory: pytest.TempPathFactory, write_video: WriteFilm) -> Path:
    path = tmp_path_factory.mktemp("video") / "even.mp4"
    write_video(path, image, EVEN_S, options={"movflags": "+faststart"})
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_variable_frame_rate_gives_real_times(
    image: np.ndarray, tmp_path: Path, suffix: str, write_video: WriteFilm
) -> None:
    path = tmp_path / f"uneven{suffix}"
    write_video(path, image, UNEVEN_S)
    frames = list(open_source(path))
    assert [frame.index for frame in frames] == list(range(10))
    assert np.allclose([frame.timestamp_s for frame in frames], UNEVEN_S, atol=0.0015)


def test_frames_are_the_images(video: Path, image: np.ndarray) -> None:
    with open_source(video) as source:
        assert (source.kind, source.size, source.fps, source.frame_count) == ("video", (240, 160), 30.0, 90)
        for frame in source:
            expected = np.roll(image, -8 * frame.index, 1)
            assert np.abs(frame.image.astype(int) - expected).mean() < 12
    assert frame.index == 89


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_tag_is_honored(
    image: np.ndarray, tmp_path: Path, degrees: int, write_video: WriteFilm, set_rotation: Callable[[Path, int], None]
) -> None:
    path = tmp_path / "telephone.mp4"
    write_video(path, image, [0, 0.1, 0.2])
    set_rotation(path, degrees)
    frame = next(iter(open_source(path)))
    expected = np.rot90(image, -degrees // 90)  # the tag says how far to turn clockwise
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 12


def test_start_end_and_every(video: Path) -> None:
    source = open_source(video, start=1.0, end=2.0, frame_step=4)
    frames = list(source)
    assert source.frame_count == len(frames) == 8
    assert [f.index for f in frames] == list(range(30, 60, 4))
    assert frames[0].timestamp_s == pytest.approx(1.0)
    assert source.fps == 7.5
    assert source.errors == []


def test_a_late_start_seeks_to_the_same_frames(image: np.ndarray, tmp_path: Path, write_video: WriteFilm) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, image[:64, :64], [i / 10 for i in range(120)])
    everything = {f.index: f for f in open_source(path)}
    late = list(open_source(path, start=8.0))
    assert [f.index for f in late] == list(range(80, 120))
    for frame in late[::13]:
        assert frame.timestamp_s == pytest.approx(everything[frame.index].timestamp_s)
        assert np.array_equal(frame.image, everything[frame.index].image)


def test_a_start_behind_the_end(video: Path) -> None:
    with pytest.raises(SourceError, match=r"no frame after 60 s.*below 3"):
        list(open_source(video, start=60))


@pytest.mark.parametrize("span", [{"start": -1}, {"start": 2, "end": 1}, {"frame_step": 0}, {"end": float("nan")}])
def test_impossible_spans(video: Path, span: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        open_source(video, **span)  # type: ignore[arg-type]


def test_iterating_twice(video: Path) -> None:
    source = open_source(video, end=0.2)
    assert [f.index for f in source] == [f.index for f in source]


def test_a_video_that_ends_mid_frame(video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    source = open_source(cut)
    frames = list(source)
    assert 30 < len(frames) < 80  # what is there is used
    assert len(source.errors) == 1
    assert "is cut off: it ends after" in str(source.errors[0])
    assert "of 3.00 s" in str(source.errors[0])
    with pytest.raises(SourceError, match="is cut off"):
        list(open_source(cut, strict=True))


def test_a_video_without_its_index(image: np.ndarray, tmp_path: Path, write_video: WriteFilm) -> None:
    path = tmp_path / "whole.mp4"
    write_video(path, image, EVEN_S[:10])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"cut-off video.*with them the index"):
        open_source(path)


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(10_000)])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="empty" if not content else "not a video"):
        open_source(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_containers_know_their_length(image: np.ndarray, tmp_path: Path, suffix: str, write_video: WriteFilm) -> None:
    path = tmp_path / f"video{suffix}"
    write_video(path, image, EVEN_S[:10])
    assert missing_bytes(path) == 0
    path.write_bytes(path.read_bytes()[:-300])
    assert 290 <= missing_bytes(path) <= 301


def test_animated_gif_keeps_its_delays(shared: Path) -> None:
    source = open_source(shared / "data/videos/store-aisle.gif")
    times = [frame.timestamp_s for frame in source]
    assert len(times) == source.frame_count == 67
    assert times[:4] == pytest.approx([0.0, 0.07, 0.13, 0.2])


def test_real_videos(shared: Path) -> None:
    source = open_source(shared / "data/videos/two-people.mp4", frame_step=50)
    frames = list(source)
    assert [f.index for f in frames] == [0, 50]
    assert frames[1].timestamp_s == pytest.approx(50 / 60)
    assert frames[0].size == (1088, 1920)


def test_a_matroska_length_beyond_every_file_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "long.mkv"
    # An EBML header that claims 2**55 bytes: a seek to its end is refused by file systems.
    path.write_bytes(bytes.fromhex("1a45dfa3 01 7fffffffffffff") + b"x" * 40)
    assert missing_bytes(path) == 0
