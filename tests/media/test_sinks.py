"""Video files: playable, at the right times, with sound, whole after an interruption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from featherpose.errors import OutputError
from featherpose.media.h264 import H264Sink
from featherpose.media.sinks import OpenCVSink, VideoSink, open_video_sink
from featherpose.media.sources import open_source

WriteFilm = Callable[..., None]
UNEVEN_S = [0.0, 0.04, 0.1, 0.3, 0.32, 0.9, 1.0]


@pytest.fixture(scope="module")
def picture(astronaut: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(astronaut[:160, 100:340])


def fill(sink: VideoSink, picture: np.ndarray, times_s: list[float]) -> None:
    for i, time_s in enumerate(times_s):
        sink.write(np.ascontiguousarray(np.roll(picture, 8 * i, 1)), time_s)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_h264_keeps_times_and_colours(picture: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with open_video_sink(path, 25) as sink:
        fill(sink, picture, [t + 5 for t in UNEVEN_S])
        assert not path.exists()  # not before it is whole
    assert sink.description == "H.264 by PyAV"
    frames = list(open_source(path))
    assert np.allclose([f.timestamp_s for f in frames], UNEVEN_S, atol=0.0015)
    for i, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - np.roll(picture, 8 * i, 1)).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_sound_is_copied_from_its_place(picture: np.ndarray, tmp_path: Path, write_film: WriteFilm) -> None:
    source = tmp_path / "source.mp4"
    write_film(source, picture, [i / 25 for i in range(76)], sound=True)
    path = tmp_path / "out.mp4"
    with open_video_sink(path, 25, audio_from=source) as sink:
        fill(sink, picture, [1 + i / 25 for i in range(25)])
    assert sink.description == "H.264 by PyAV with the source's sound (aac)"
    with av.open(str(path)) as file:
        track = file.streams.audio[0]
        heard = sum(frame.samples for frame in file.decode(track)) / 48_000
    assert heard == pytest.approx(1.0, abs=0.06)


def test_a_source_without_sound(picture: np.ndarray, tmp_path: Path, write_film: WriteFilm) -> None:
    source = tmp_path / "source.mp4"
    write_film(source, picture, [0, 0.1])
    with open_video_sink(tmp_path / "out.mp4", 25, audio_from=source) as sink:
        fill(sink, picture, [0, 0.1])
    assert sink.description == "H.264 by PyAV"


@pytest.mark.parametrize("kind", [H264Sink, OpenCVSink])
def test_odd_sizes_and_changing_sizes(kind: type[VideoSink], astronaut: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    with kind(path, 25) as sink:  # type: ignore[call-arg]
        for i in range(5):
            sink.write(np.ascontiguousarray(astronaut[: 101 + i, : 99 + i]), i / 25)
    frame = next(iter(open_source(path)))
    assert abs(frame.size[0] - 99) <= 1
    assert abs(frame.size[1] - 101) <= 1


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_opencv_keeps_time_by_repeating(picture: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with OpenCVSink(path, 50) as sink:
        fill(sink, picture, UNEVEN_S)
    assert "OpenCV" in sink.description
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == pytest.approx(51, abs=1)


def test_without_pyav_opencv_writes_and_says_so(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featherpose.media.sinks.find_spec", lambda name: None)
    sink = open_video_sink(tmp_path / "out.mp4", 25)
    assert isinstance(sink, OpenCVSink)
    assert 'pip install "featherpose[video]"' in sink.description
    sink.close()


@pytest.mark.parametrize("kind", [H264Sink, OpenCVSink])
def test_an_interruption_leaves_a_whole_file(kind: type[VideoSink], picture: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = kind(path, 25)  # type: ignore[call-arg]
    with contextlib.suppress(KeyboardInterrupt), sink:
        fill(sink, picture, [i / 25 for i in range(12)])
        raise KeyboardInterrupt
    assert len(list(open_source(path))) == 12


@pytest.mark.parametrize("kind", [H264Sink, OpenCVSink])
def test_no_frame_no_file(kind: type[VideoSink], tmp_path: Path) -> None:
    kind(tmp_path / "out.mp4", 25).close()  # type: ignore[call-arg]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [H264Sink, OpenCVSink])
def test_unwritable_videos(kind: type[VideoSink], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a video that can be written"):
        kind(tmp_path / "out.gif", 25)  # type: ignore[call-arg]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        kind(tmp_path / "file" / "out.mp4", 25)  # type: ignore[call-arg]
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        kind(tmp_path / "folder.mp4", 25)  # type: ignore[call-arg]
