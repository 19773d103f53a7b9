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
from featherpose.media.sinks.h264 import H264Sink
from featherpose.media.sinks.opencv_sink import OpenCVSink
from featherpose.media.sinks.packet_sink import PacketSink
from featherpose.media.sinks.video import VideoSink, frames_written, open_video_sink, recover_videos
from featherpose.media.sources.find import open_source

WriteFilm = Callable[..., None]
UNEVEN_S = [0.0, 0.04, 0.1, 0.3, 0.32, 0.9, 1.0]


@pytest.fixture(scope="module")
def image(astronaut: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(astronaut[:160, 100:340])


def fill(sink: VideoSink, image: np.ndarray, times_s: list[float]) -> None:
    for i, time_s in enumerate(times_s):
        sink.write(np.ascontiguousarray(np.roll(image, 8 * i, 1)), time_s)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_h264_keeps_times_and_colors(image: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with open_video_sink(path, 25) as sink:
        fill(sink, image, [t + 5 for t in UNEVEN_S])
        assert not path.exists()  # not before it is whole
    assert sink.description == "H.264 by PyAV"
    frames = list(open_source(path))
    assert np.allclose([f.timestamp_s for f in frames], UNEVEN_S, atol=0.0015)
    for i, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - np.roll(image, 8 * i, 1)).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_sound_is_copied_from_its_place(image: np.ndarray, tmp_path: Path, write_video: WriteFilm) -> None:
    source = tmp_path / "source.mp4"
    write_video(source, image, [i / 25 for i in range(76)], sound=True)
    path = tmp_path / "out.mp4"
    with open_video_sink(path, 25, audio_from=source) as sink:
        fill(sink, image, [1 + i / 25 for i in range(25)])
    assert sink.description == "H.264 by PyAV with the source's sound (aac)"
    with av.open(str(path)) as file:
        track = file.streams.audio[0]
        heard = sum(frame.samples for frame in file.decode(track)) / 48_000
    assert heard == pytest.approx(1.0, abs=0.06)


def test_damaged_sound_ends_and_the_video_goes_on(
    image: np.ndarray, tmp_path: Path, write_video: WriteFilm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featherpose.media.sinks import h264

    def damaged(self: object, limit: float) -> None:
        raise av.error.MemoryError(12, "Cannot allocate memory", "source.mp4")  # what FFmpeg says of some damage

    monkeypatch.setattr(h264._Sound, "_copy_until", damaged)
    source, path = tmp_path / "source.mp4", tmp_path / "out.mp4"
    write_video(source, image, [i / 25 for i in range(25)], sound=True)
    with open_video_sink(path, 25, audio_from=source) as sink:
        fill(sink, image, [i / 25 for i in range(25)])
    assert len(list(open_source(path))) == 25


def test_a_source_without_sound(image: np.ndarray, tmp_path: Path, write_video: WriteFilm) -> None:
    source = tmp_path / "source.mp4"
    write_video(source, image, [0, 0.1])
    with open_video_sink(tmp_path / "out.mp4", 25, audio_from=source) as sink:
        fill(sink, image, [0, 0.1])
    assert sink.description == "H.264 by PyAV"


@pytest.mark.parametrize("kind", [H264Sink, PacketSink, OpenCVSink])
def test_odd_sizes_and_changing_sizes(kind: type[VideoSink], astronaut: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    with kind(path, 25) as sink:  # type: ignore[call-arg]
        for i in range(5):
            sink.write(np.ascontiguousarray(astronaut[: 101 + i, : 99 + i]), i / 25)
    frame = next(iter(open_source(path)))
    assert abs(frame.size[0] - 99) <= 1
    assert abs(frame.size[1] - 101) <= 1


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_opencv_keeps_time_by_repeating(image: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with OpenCVSink(path, 50) as sink:
        fill(sink, image, UNEVEN_S)
    assert "OpenCV" in sink.description
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == pytest.approx(51, abs=1)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "VP9"), (".webm", "VP8"), (".mkv", "VP8"), (".mov", "VP9"), (".avi", "Motion JPEG")]
)
def test_without_pyav_every_frame_keeps_its_time(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, codec: str
) -> None:
    monkeypatch.setattr("featherpose.media.sinks.video.find_spec", lambda name: None)
    path = tmp_path / f"out{suffix}"
    with open_video_sink(path, 25) as sink:
        assert isinstance(sink, PacketSink)
        fill(sink, image, [t + 5 for t in UNEVEN_S])
        assert not path.exists()
    assert sink.description.startswith(codec)
    frames = list(open_source(path))
    if suffix == ".avi":
        assert len(frames) == 26  # a constant rate: frames are repeated
        return
    assert np.allclose([f.timestamp_s for f in frames], UNEVEN_S, atol=0.0015)
    for i, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - np.roll(image, 8 * i, 1)).mean() < 8
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_without_its_encoders_opencv_writes_and_says_so(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featherpose.media.sinks.video.find_spec", lambda name: None)
    monkeypatch.setattr("featherpose.media.sinks.video.vpx_is_available", lambda: False)
    with open_video_sink(tmp_path / "out.mp4", 25) as sink:
        assert isinstance(sink, OpenCVSink)
        assert 'pip install "featherpose[video]"' in sink.description


@pytest.mark.parametrize("pyav", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".mov", ".avi"])
def test_every_frame_is_readable_before_the_end(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pyav: bool
) -> None:
    """What a killed process leaves: the file as it is at some moment."""
    if not pyav:
        monkeypatch.setattr("featherpose.media.sinks.video.find_spec", lambda name: None)
    late = 1 if pyav and suffix not in (".webm", ".avi") else 0  # FFmpeg writes a frame when the next one comes
    sink = open_video_sink(tmp_path / f"out{suffix}", 25)
    for count in range(1, 8):
        fill(sink, image, [(count - 1) / 25])
        assert sink.unfinished is not None
        left = tmp_path / f"left{suffix}"
        left.write_bytes(sink.unfinished.read_bytes())
        assert frames_written(left) >= count - late
        if count > 2:
            assert count - late <= len(list(open_source(left))) <= count
    sink.close()
    assert len(list(open_source(tmp_path / f"out{suffix}"))) == 7


@pytest.mark.parametrize("pyav", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".avi"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_video_goes_on(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pyav: bool, killed: bool
) -> None:
    if not pyav:
        monkeypatch.setattr("featherpose.media.sinks.video.find_spec", lambda name: None)
    path = tmp_path / f"out{suffix}"
    times_s = [5 + i / 25 for i in range(20)]
    sink = open_video_sink(path, 25)
    fill(sink, image, times_s[:12])
    if killed:
        data = sink.unfinished.read_bytes()  # type: ignore[union-attr]
        sink.close()
        path.unlink()
        (tmp_path / f"out.unfinished-0123abcd{suffix}").write_bytes(data + data[-100:])  # with a torn end
    else:
        sink.close()
    done = frames_written(path)
    assert 11 <= done <= 12
    with open_video_sink(path, 25, resume_at_s=times_s[0]) as sink:
        fill(sink, image, times_s[done:])
    frames = list(open_source(path))
    assert [f.timestamp_s for f in frames] == pytest.approx([i / 25 for i in range(20)], abs=0.002)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_run_left_gets_a_name(image: np.ndarray, tmp_path: Path) -> None:
    for token in ("00000001", "00000002"):
        (tmp_path / f"out.unfinished-{token}.mp4").write_bytes(bytes(5000))
    (tmp_path / "out.unfinished-00000003.mp4").touch()
    assert [p.name for p in recover_videos(tmp_path / "out.mp4")] == ["out.interrupted.mp4", "out.interrupted-2.mp4"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", [H264Sink, PacketSink, OpenCVSink])
def test_an_interruption_leaves_a_whole_file(kind: type[VideoSink], image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = kind(path, 25)  # type: ignore[call-arg]
    with contextlib.suppress(KeyboardInterrupt), sink:
        fill(sink, image, [i / 25 for i in range(12)])
        raise KeyboardInterrupt
    assert len(list(open_source(path))) == 12


@pytest.mark.parametrize("kind", [H264Sink, PacketSink, OpenCVSink])
def test_no_frame_no_file(kind: type[VideoSink], tmp_path: Path) -> None:
    kind(tmp_path / "out.mp4", 25).close()  # type: ignore[call-arg]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [H264Sink, PacketSink, OpenCVSink])
def test_unwritable_videos(kind: type[VideoSink], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a video that can be written"):
        kind(tmp_path / "out.gif", 25)  # type: ignore[call-arg]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        kind(tmp_path / "file" / "out.mp4", 25)  # type: ignore[call-arg]
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        kind(tmp_path / "folder.mp4", 25)  # type: ignore[call-arg]
