"""Files as people have them: damaged frames, odd lengths, wrong suffixes, pipes; each input is made here."""

from __future__ import annotations

import contextlib
import glob
import http.server
import io
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from thread_priority import same_priority

from featherpose import PoseEstimator
from featherpose.errors import SourceError
from featherpose.media.images import write_image
from featherpose.media.sources import content
from featherpose.media.sources.find import find_sources, open_source
from featherpose.media.sources.network.reconnect import ReconnectOptions
from featherpose.media.sources.pyav_capture import PyAvCapture
from featherpose.media.sources.storage import deinterlaced, looks_interlaced

TIMES_S = [i / 25 for i in range(50)]
Numbered = Callable[..., Path]


def numbered_image(number: int, size: tuple[int, int] = (128, 64)) -> np.ndarray:
    """An image that shows a number in eight squares, black or white."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    for bit in range(8):
        image[8:56, 16 * bit : 16 * bit + 14] = 235 if number >> bit & 1 else 20
    return image


def number_in(image: np.ndarray) -> int:
    return sum((image[16:48, 16 * bit + 3 : 16 * bit + 11].mean() > 127) << bit for bit in range(8))


def write(
    path: Path,
    times_s: Sequence[float] = TIMES_S,
    *,
    codec: str = "libx264",
    format: str | None = None,  # noqa: A002 - PyAV's name
    damaged: Sequence[int] = (),
    sound_s: float = 0,
    b_frames: int = 0,
    aspect: Fraction | None = None,
    first_s: float = 0,
) -> Path:
    """A video of numbered images; the slices of some packets are made unreadable."""
    with same_priority(), av.open(str(path), "w", format=format) as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        if codec == "libx264":
            stream.options = {"preset": "veryfast", "g": "5", "bf": str(b_frames), "x264-params": "threads=1"}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.time_base = Fraction(1, 90_000) if codec == "libx264" else Fraction(1, 25)
        track: Any = file.add_stream("mp2", rate=48_000) if sound_s else None
        packets: list[Any] = []
        for i, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(numbered_image(i), format="bgr24")
            clock = 90_000 if codec == "libx264" else 25
            frame.pts, frame.time_base = round((time_s + first_s) * clock), Fraction(1, clock)
            packets += stream.encode(frame)
        packets += stream.encode()
        for i, packet in enumerate(packets):
            if i in damaged:  # its slices become units of a kind that holds no image
                hurt = re.sub(rb"\0\0\x01[\x01\x41\x61\x65\x25]", b"\0\0\x01\x0c", bytes(packet))
                other = av.Packet(hurt)
                other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
                other.stream, other.duration, other.is_keyframe = stream, packet.duration, packet.is_keyframe
                packet = other
            file.mux(packet)
        if track is not None:
            for start in range(0, int(sound_s * 48_000), 1152):
                piece = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 48_000, start, Fraction(1, 48_000)
                file.mux(track.encode(piece))
            file.mux(track.encode())
    return path


# --- damaged frames do not end a video ---


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
@pytest.mark.parametrize("damaged", [(17,), (17, 18, 33)], ids=["one", "three"])
def test_damaged_frames_are_left_out(tmp_path: Path, suffix: str, damaged: tuple[int, ...]) -> None:
    source = open_source(write(tmp_path / f"x{suffix}", damaged=damaged))
    frames = list(source)
    assert len(frames) >= len(TIMES_S) - 5 * len(damaged)  # with those that build on a damaged one
    assert frames[-1].timestamp_s == pytest.approx(TIMES_S[-1], abs=0.05)
    for frame in frames[-5:]:
        assert number_in(frame.image) == round(frame.timestamp_s * 25)
    if suffix != ".ts":  # its packets have no borders: the decoder conceals what is missing
        assert any("is damaged: " in str(problem) for problem in source.errors)
        with pytest.raises(SourceError, match="could not be decoded"):
            list(open_source(tmp_path / f"x{suffix}", strict=True))


# --- numbers of frames ---

UNEVEN_S = list(np.cumsum([0.0, *np.random.default_rng(3).choice([0.033, 0.04, 0.1, 0.2], 119)]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("with_pyav", [True, False])
def test_numbers_behind_a_late_start(
    tmp_path: Path, suffix: str, b_frames: int, with_pyav: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"x{suffix}", UNEVEN_S, b_frames=b_frames)
    monkeypatch.setattr("featherpose.media.sources.pyav_capture.has_pyav", lambda: with_pyav)
    for start_s in (4.5, 7.3):
        frames = list(open_source(path, start=start_s))
        assert [frame.index for frame in frames] == [number_in(frame.image) for frame in frames]
        assert frames[0].timestamp_s >= start_s
        assert len(frames) == sum(round(t, 3) >= start_s for t in UNEVEN_S)


# --- what is whole is not called damaged ---


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".avi", ".mov"])
def test_sound_that_lasts_longer_is_no_damage(tmp_path: Path, suffix: str) -> None:
    source = open_source(write(tmp_path / f"x{suffix}", sound_s=9))
    assert len(list(source)) == len(TIMES_S)
    assert source.errors == []


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_a_late_beginning_is_no_damage(tmp_path: Path, suffix: str) -> None:
    source = open_source(write(tmp_path / f"x{suffix}", first_s=5))
    assert len(list(source)) == len(TIMES_S)
    assert source.errors == []


def test_a_last_image_that_stays_is_no_damage(tmp_path: Path) -> None:
    images = [Image.fromarray(numbered_image(i)[..., ::-1]) for i in range(4)]
    images[0].save(tmp_path / "x.gif", save_all=True, append_images=images[1:], duration=[100, 50, 20, 5000])
    source = open_source(tmp_path / "x.gif")
    assert len(list(source)) == 4
    assert source.errors == []


def test_a_cut_by_edit_list_is_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", b_frames=2)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # behind version and count: the duration of the first edit
    length = int.from_bytes(data[at : at + 4])
    data[at : at + 4] = (length // 2).to_bytes(4)
    path.write_bytes(bytes(data))
    source = open_source(path)
    assert 20 <= len(list(source)) <= 30
    assert source.errors == []


def test_an_end_that_cannot_be_decoded_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4")
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    middle = (start + end) // 2
    data[middle:end] = bytes(end - middle)
    path.write_bytes(bytes(data))
    source = open_source(path)
    assert 10 < len(list(source)) < 45
    assert "is damaged: decoding ends after" in str(source.errors[-1])


# --- content decides, not the suffix ---


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [
        ("raw.h264", "libx264", "h264"), ("raw.bin", "libx264", "h264"), ("noext", "libx264", "mpegts"),
        ("x.jpg", "mjpeg", "mjpeg"), ("x.mjpeg", "mjpeg", "mjpeg"), ("x", "rawvideo", "yuv4mpegpipe"),
        ("x.dat", "mpeg2video", "mpeg"), ("x.png", "libx264", "matroska"), ("raw", "libx265", "hevc"),
        ("x.jpeg", "libx264", "mp4"), ("x.m2v", "mpeg2video", "mpeg2video"), ("x.tmp", "libx264", "flv"),
    ],
)  # fmt: skip
def test_videos_of_any_name(tmp_path: Path, name: str, codec: str, format: str) -> None:  # noqa: A002
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    if codec == "rawvideo":
        codec = "wrapped_avframe" if "rawvideo" not in av.codecs_available else "rawvideo"
    path = write(tmp_path / name, TIMES_S[:12], codec=codec, format=format)
    (ref,) = find_sources(path)
    assert not ref.is_images
    frames = list(ref.open())
    assert [number_in(frame.image) for frame in frames] == list(range(12))


def test_images_of_any_name(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", numbered_image(77))
    for name in ("x.mp4", "x", "x.ts", "x.jpg"):
        shutil.copy(tmp_path / "x.png", tmp_path / name)
        (frame,) = open_source(tmp_path / name)
        assert number_in(frame.image) == 77


def test_what_telephones_append_is_no_video() -> None:
    def jpeg(size: tuple[int, int], comment: bytes) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, (90, 60, 30)).save(buffer, "JPEG", comment=comment)
        return buffer.getvalue()

    one, same, smaller = jpeg((64, 48), b"a"), jpeg((64, 48), b"b"), jpeg((32, 24), b"c")
    announced = one[:2] + b"\xff\xe2\x00\x08MPF\0xx" + one[2:]
    assert content.content_of_bytes(one + same) == "video"
    assert content.content_of_bytes(one + smaller) == "image"
    assert content.content_of_bytes(announced + same) == "image"


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "AVIF", "TIFF", "GIF"])
def test_animations_are_read_to_their_end(tmp_path: Path, kind: str) -> None:
    images = [Image.fromarray(numbered_image(i)[..., ::-1]) for i in range(5)]
    path = tmp_path / "x.bin"
    durations = {} if kind == "TIFF" else {"duration": [100, 50, 200, 70, 100]}
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "AVIF" else {}
    images[0].save(path, kind, save_all=True, append_images=images[1:], **durations, **options)
    source = open_source(path)
    frames = list(source)
    assert [number_in(frame.image) for frame in frames] == list(range(5))
    times = [0, 1, 2, 3, 4] if kind == "TIFF" else [0, 0.1, 0.15, 0.35, 0.42]
    assert [frame.timestamp_s for frame in frames] == pytest.approx(times)
    assert [f.index for f in open_source(path, frame_step=2)] == [0, 2, 4]


def test_smaller_versions_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    images = [Image.fromarray(numbered_image(9)[..., ::-1]), Image.new("RGB", (64, 32))]
    images[0].save(tmp_path / "x.tif", save_all=True, append_images=images[1:])
    (frame,) = open_source(tmp_path / "x.tif")
    assert number_in(frame.image) == 9


# --- a second reader ---


def test_av1_by_the_second_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV writes no AV1")
    path = write(tmp_path / "x.mp4", TIMES_S[:12], codec="libsvtav1")
    frames = list(open_source(path))
    assert [frame.index for frame in frames] == [number_in(frame.image) for frame in frames] == list(range(12))
    assert [frame.timestamp_s for frame in frames] == pytest.approx(TIMES_S[:12], abs=1e-3)
    monkeypatch.setattr("featherpose.media.sources.video.has_pyav", lambda: False)
    if "AV1" in cv2.getBuildInformation():
        pytest.skip("this OpenCV decodes AV1 itself")
    with pytest.raises(SourceError, match=r'pip install "featherpose\[video\]"'):
        list(open_source(path))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov", ".ts"])
def test_videos_where_pyav_is_not_installed(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / f"x{suffix}")
    expected = [(frame.index, frame.timestamp_s) for frame in open_source(path)]
    monkeypatch.setitem(sys.modules, "av", None)  # the import fails, as without the extra
    source = open_source(path)
    frames = list(source)
    assert [(frame.index, frame.timestamp_s) for frame in frames] == expected
    assert [number_in(frame.image) for frame in frames] == [frame.index for frame in frames]
    assert source.errors == []
    (tmp_path / f"no{suffix}").write_bytes(path.read_bytes()[:40])
    with pytest.raises(SourceError) as caught:
        list(open_source(tmp_path / f"no{suffix}"))
    assert "\n" not in str(caught.value)


def test_what_the_second_reader_cannot_open(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mkv"), "w") as file:
        track: Any = file.add_stream("mp2", rate=48_000)
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = 48_000, 0, Fraction(1, 48_000)
        file.mux(track.encode(piece))
        file.mux(track.encode())
    asf = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(8)  # ends within its first header
    (tmp_path / "cut.wmv").write_bytes(asf)
    (tmp_path / "text.mp4").write_bytes(b"no video at all")
    for name in ("sound.mkv", "cut.wmv", "text.mp4"):
        with pytest.raises((OSError, ValueError)):
            PyAvCapture(tmp_path / name)
        with pytest.raises(SourceError, match="is not a video that can be read"):
            open_source(tmp_path / name)


# --- pipes ---


def pour(data: bytes, into: Path) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.write_bytes(data), daemon=True)
    thread.start()
    return thread


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".h264", ".png", ".jpg"])
def test_named_pipes(tmp_path: Path, suffix: str) -> None:
    if suffix in (".png", ".jpg"):
        write_image(tmp_path / f"x{suffix}", numbered_image(7))
        expected = [7]
    else:
        write(tmp_path / f"x{suffix}", TIMES_S[:12], format="h264" if suffix == ".h264" else None)
        expected = list(range(12))
    for name in ("pipe", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
        thread = pour((tmp_path / f"x{suffix}").read_bytes(), tmp_path / name)
        with open_source(tmp_path / name) as source:
            assert [number_in(frame.image) for frame in source] == expected
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("data", [b"", b"neither an image nor a video" * 50, bytes(100_000)])
def test_pipes_without_anything(tmp_path: Path, data: bytes) -> None:
    os.mkfifo(tmp_path / "pipe")
    thread = pour(data, tmp_path / "pipe")
    with pytest.raises(SourceError, match="is empty" if not data else "is not a video that can be read from a pipe"):
        list(open_source(tmp_path / "pipe"))
    thread.join(10)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.mp4", TIMES_S[:12])
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert len(list(open_source("-"))) == 12
    read, written = os.pipe()
    with os.fdopen(read, "rb") as file, os.fdopen(written, "wb") as other:
        monkeypatch.setattr("sys.stdin", file)
        other.write(cv2.imencode(".png", numbered_image(5))[1].tobytes())
        other.close()
        assert [number_in(frame.image) for frame in open_source("-")] == [5]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SourceError, match="standard input cannot be read"):
        open_source("-")


# --- folders ---


def test_rubbish_in_folders(tmp_path: Path) -> None:
    root = tmp_path / "holiday"
    root.mkdir()
    write_image(root / "x.jpg", numbered_image(1))
    (root / "._x.jpg").write_bytes(b"\0\5\x16\7")
    (root / ".hidden.jpg").write_bytes(b"")
    (root / "main.ts").write_text("const x = 1;\n")
    (root / "loop").symlink_to(root)
    assert [frame.name for frame in open_source(root)] == ["x.jpg"]
    (ref,) = find_sources(f"{root}/**/*.jpg")
    assert [path.relative_to(root).as_posix() for path in ref.paths] == ["x.jpg"]


@pytest.mark.parametrize("pattern", ["**/*.jpg", "**/**/*.jpg", "**", "**/[xyz].jpg", "*/**/../*.jpg"])
def test_folders_with_several_links_back_are_entered_once(tmp_path: Path, pattern: str) -> None:
    for name in ("x.jpg", "a/y.jpg", "a[1]/**/z.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name, numbered_image(1))
    for link in ("up", "a/up", "a/back", "a[1]/up"):  # two in one folder are enough to try 2 ** 40 ways
        (tmp_path / link).symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    paths = [path for ref in find_sources(f"{tmp_path}/{pattern}") for path in ref.paths]
    assert len({path.resolve() for path in paths}) == len(paths)
    if ".." not in pattern:
        assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["a/y.jpg", "a[1]/**/z.jpg", "x.jpg"]


def test_patterns_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.jpg", "a/y.jpg", "a/.hidden/z.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_image(name, numbered_image(1))
    for pattern in ("**/*.jpg", "./**/*.jpg", "**/?.jpg", "[ab]/**/*.jpg", "a/*.jpg"):
        expected = sorted(Path(name).as_posix() for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        (ref,) = find_sources(pattern)
        assert sorted(path.as_posix() for path in ref.paths) == expected


# --- limits ---


@pytest.mark.parametrize("name", ["x.mp4", "x.avi", "x.mkv", "x.gif", "x.webp", "x.png"])
def test_the_limit_holds_for_videos(tmp_path: Path, name: str) -> None:
    if name.endswith((".gif", ".webp", ".png")):
        images = [Image.fromarray(numbered_image(i)[..., ::-1]) for i in range(3)]
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=100)
    else:
        write(tmp_path / name, codec="mjpeg" if name == "x.avi" else "libx264")
    with pytest.raises(SourceError, match="is 128x64 pixels"):
        list(open_source(tmp_path / name, max_pixels=8000))
    assert len(list(open_source(tmp_path / name, max_pixels=8192))) >= 3


# --- as players show them: fields and pixels ---


def combed_image(astronaut: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Two moments woven into one frame, and the first of them alone."""
    still = cv2.resize(astronaut, (640, height))
    combed = still.copy()
    combed[1::2] = np.roll(still, 12, 1)[1::2]
    return combed, still


@pytest.mark.parametrize("height", [480, 576, 1080])
def test_fields_are_taken_apart(astronaut: np.ndarray, height: int) -> None:
    combed, still = combed_image(astronaut, height)
    assert looks_interlaced(combed)
    assert not looks_interlaced(still)
    assert not looks_interlaced(np.random.default_rng(0).integers(0, 255, (height, 400, 3), dtype=np.uint8))
    mended = deinterlaced(combed)
    assert not looks_interlaced(mended)
    assert np.abs(mended.astype(int) - still).mean() < 0.2 * np.abs(combed.astype(int) - still).mean()
    assert (mended[::2] == still[::2]).all(), "the even rows stay where they are"


def test_heights_that_are_never_interlaced_are_left_alone(astronaut: np.ndarray) -> None:
    assert not looks_interlaced(combed_image(astronaut, 720)[0])


def test_interlaced_video_is_deinterlaced_and_said(
    tmp_path: Path, astronaut: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    combed, still = combed_image(astronaut, 576)
    path = tmp_path / "dv.avi"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 576, "yuvj420p"
        stream.options = {"qscale": "2"}
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(combed, format="bgr24")))
        file.mux(stream.encode())
    frames = [frame.image for frame in open_source(path)]
    assert len(frames) == 3
    assert not any(map(looks_interlaced, frames))
    assert np.abs(frames[0].astype(int) - still).mean() < 6
    assert caplog.text.count("is interlaced") == 1, "said once"


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(16, 11), (186, 64)), (Fraction(1, 2), (128, 128)), (Fraction(100, 101), (128, 64))]
)
def test_pixels_that_are_not_square_become_so(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    source = open_source(write(tmp_path / "x.mkv", TIMES_S[:3], aspect=aspect))
    frames = list(source)
    assert source.size == size
    assert [(f.image.shape[1], f.image.shape[0]) for f in frames] == [size] * 3
    assert [number_in(np.asarray(cv2.resize(f.image, (128, 64)))) for f in frames] == [0, 1, 2]


def test_a_damaged_shape_of_pixels_is_no_shape(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "x.mkv", TIMES_S[:3], aspect=Fraction(200, 1)))
    assert source.size == (128, 64)


def test_people_keep_their_shape_in_anamorphic_video(tmp_path: Path, astronaut: np.ndarray) -> None:
    """The same person, stored with square pixels and squeezed to two thirds: the poses are the same."""
    image = cv2.resize(astronaut, (576, 576))
    poses = []
    for name, width, aspect in (("square.mkv", 576, None), ("squeezed.mkv", 384, Fraction(3, 2))):
        with av.open(str(tmp_path / name), "w") as file:
            stream: Any = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, 576, "yuv420p"
            stream.options = {"crf": "10", "preset": "veryfast"}
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
            squeezed = np.asarray(cv2.resize(image, (width, 576), interpolation=cv2.INTER_AREA), np.uint8)
            for _ in range(2):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(squeezed, format="bgr24")))
            file.mux(stream.encode())
        with PoseEstimator() as estimator:
            frame = next(iter(open_source(tmp_path / name)))
            poses.append(estimator(frame.image))
    assert [p.image_size for p in poses] == [(576, 576)] * 2
    nose = [p["nose"][0] for p in poses]
    assert np.abs(nose[0] - nose[1]).max() < 6


# --- addresses ---


@pytest.fixture
def cutting_server(tmp_path: Path) -> Iterator[str]:
    """Sends no more than two thirds of a file, each time, with and without ranges."""
    data = write(tmp_path / "x.mkv", [i / 25 for i in range(200)]).read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int((self.headers.get("Range") or "bytes=0-").partition("=")[2].partition("-")[0])
            if self.path == "/plain":
                start = 0
            self.send_response(206 if "Range" in self.headers and self.path != "/plain" else 200)
            self.send_header("Content-Type", "video/x-matroska")
            self.send_header("Content-Length", str(len(data) - start))
            if self.path != "/plain":
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start : len(data) * 2 // 3])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent calls it so
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/plain", "/ranges"])
def test_a_video_cut_twice_at_one_place_is_reported(cutting_server: str, path: str) -> None:
    patience = ReconnectOptions(give_up_s=5, first_wait_s=0.1, longest_wait_s=0.2)
    with open_source(cutting_server + path, timeout_s=5, reconnect=patience) as source:
        frames = list(source)
    assert 60 < len(frames) < 190
    assert len(source.errors) == 1


def test_a_server_without_ranges_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path / "x.mov", [i / 25 for i in range(600)], codec="rawvideo")  # 7 MB, and its index lies at its end

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent calls it so
            pass

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):  # the reader goes away in the middle
                super().handle_one_request()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        patience = ReconnectOptions(give_up_s=600)  # nothing of it is needed
        with pytest.raises(SourceError, match=r"HTTP ranges|no video can be read"):
            list(open_source(f"http://127.0.0.1:{httpd.server_address[1]}/x.mov", timeout_s=5, reconnect=patience))
        httpd.shutdown()
        thread.join()
