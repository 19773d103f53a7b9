"""Real servers on loopback that are cut in the middle and brought back: RTSP, Motion JPEG and files over HTTP."""

from __future__ import annotations

import http.server
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_servers import RTSP_MISSING, Camera, Server, access_units, rtsp_is_here, send_images

from featherpose.errors import OptionError, SourceError
from featherpose.media.sources.find import open_source
from featherpose.media.sources.network import stream as streams
from featherpose.media.sources.network.reconnect import LiveClock, ReconnectOptions
from featherpose.media.sources.source import Frame

QUICK = ReconnectOptions(give_up_s=20, first_wait_s=0.05, longest_wait_s=0.4)
BRIEF = ReconnectOptions(give_up_s=0.3, first_wait_s=0.05, longest_wait_s=0.1)


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the log, whatever other tests did to the process's logging."""
    lines: list[str] = []
    monkeypatch.setattr(
        "featherpose.media.sources.network.reconnect._log.warning", lambda text, *values: lines.append(text % values)
    )
    return lines


def assert_in_order(frames: list[Frame]) -> None:
    assert all(a.index < b.index for a, b in itertools.pairwise(frames))
    assert all(a.timestamp_s < b.timestamp_s for a, b in itertools.pairwise(frames))


def one_line_each(said: list[str], name: str) -> None:
    assert len(said) == 2, said
    assert said[0].startswith(f"{name} was lost after ")
    assert said[1].startswith(f"{name} is back after ")


# --- RTSP -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    if not rtsp_is_here():
        pytest.skip(RTSP_MISSING)
    camera = Camera(tmp_path)
    yield camera
    camera.kill()


def test_rtsp_that_is_killed_comes_back_with_another_size(
    camera: Camera, astronaut: np.ndarray, said: list[str]
) -> None:
    camera.start(access_units(astronaut[:240, :320], 50))
    frames: list[Frame] = []
    with open_source(camera.url, timeout_s=8, reconnect=QUICK) as source:
        assert (source.kind, source.live, source.size) == ("stream", True, (320, 240))
        for frame in source:
            frames.append(frame)
            if len(frames) == 20:
                camera.kill()
                threading.Timer(0.6, camera.start, [access_units(astronaut[:480, :512], 50)]).start()
            if frame.size == (512, 480) and len(frames) > 40:
                break
    assert_in_order(frames)
    assert {f.size for f in frames} == {(320, 240), (512, 480)}
    one_line_each(said, camera.url)
    # The time without a connection counts as time.
    gap_s = max(b.timestamp_s - a.timestamp_s for a, b in itertools.pairwise(frames))
    assert 0.5 < gap_s < 15


def test_rtsp_that_stalls_is_noticed_and_goes_on(camera: Camera, astronaut: np.ndarray, said: list[str]) -> None:
    camera.start(access_units(astronaut[:240, :320], 50))
    frames: list[Frame] = []
    with open_source(camera.url, timeout_s=2, reconnect=QUICK) as source:
        for frame in source:
            frames.append(frame)
            if len(frames) == 20:
                camera.send(signal.SIGSTOP)
                threading.Timer(4.5, camera.send, [signal.SIGCONT]).start()
            if len(frames) > 60:
                break
    assert_in_order(frames)
    one_line_each(said, camera.url)
    assert "no image for" in said[0]


def test_rtsp_that_changes_its_size_in_passing(camera: Camera, astronaut: np.ndarray) -> None:
    small, large = access_units(astronaut[:240, :320], 15), access_units(astronaut[:480, :512], 15)
    for first, second in ((small, large), (large, small)):
        camera.start(first + second)
        with open_source(camera.url, timeout_s=8, reconnect=QUICK) as source:
            frames = list(itertools.islice(source, 45))
        camera.kill()
        assert_in_order(frames)
        assert len(frames) == 45


def test_rtsp_that_stays_away_is_given_up(camera: Camera, astronaut: np.ndarray, said: list[str]) -> None:
    camera.start(access_units(astronaut[:240, :320], 50))
    count = 0
    with open_source(camera.url, timeout_s=2, reconnect=BRIEF) as source:
        for _ in source:
            count += 1
            if count == 10:
                camera.kill()
    assert len(said) == 1
    (problem,) = source.errors
    assert "did not come back within 0.3 s" in str(problem)


# --- Motion JPEG over HTTP ------------------------------------------------------------------------------------------


@pytest.fixture
def images(astronaut: np.ndarray) -> list[bytes]:
    """JPEGs of two sizes in turn."""
    parts = (astronaut[:240, :320], astronaut[:480, :512])
    return [cv2.imencode(".jpg", np.ascontiguousarray(part))[1].tobytes() for part in parts]


@pytest.mark.parametrize("lengths", [True, False])
def test_motion_jpeg_that_is_cut_comes_back(images: list[bytes], said: list[str], lengths: bool) -> None:
    server = Server(lambda handler: send_images(handler, images, lengths=lengths))
    server.start()
    frames: list[Frame] = []
    with open_source(server.url("/camera"), timeout_s=8, reconnect=QUICK) as source:
        assert (source.kind, source.live) == ("stream", True)
        for frame in source:
            frames.append(frame)
            if len(frames) == 15:
                server.cut()
                threading.Timer(0.5, server.start).start()
            if len(frames) == 40:
                break
    server.cut()
    assert_in_order(frames)
    assert [f.index for f in frames] == list(range(40))
    # Every image has its own size, whatever the one before had.
    assert {f.size for f in frames} == {(320, 240), (512, 480)}
    one_line_each(said, server.url("/camera"))


def test_motion_jpeg_that_falls_silent_is_noticed(images: list[bytes], said: list[str]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        send_images(handler, images, lengths=True, count=10)
        time.sleep(1.5)

    server = Server(answer)
    server.start()
    with open_source(server.url("/camera"), timeout_s=0.5, reconnect=QUICK) as source:
        frames = list(itertools.islice(source, 15))
    server.cut()
    assert_in_order(frames)
    assert "no image for 0.5 s" in said[0]


def test_a_damaged_image_is_left_out(images: list[bytes]) -> None:
    spoilt = [images[0], images[0][:300], images[1]]
    server = Server(lambda h: send_images(h, spoilt, lengths=True))
    server.start()
    with open_source(server.url("/camera"), timeout_s=2) as source:
        assert [f.index for f in itertools.islice(source, 4)] == [0, 2, 3, 5]
    server.cut()


def test_a_connection_that_never_holds_is_one_loss_and_ends(images: list[bytes], said: list[str]) -> None:
    answers = 0

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        nonlocal answers
        answers += 1
        send_images(handler, images, lengths=True, count=5 if answers < 3 else 0)

    server = Server(answer)
    server.start()
    with open_source(server.url("/camera"), timeout_s=1, reconnect=BRIEF) as source:
        frames = list(source)
    server.cut()
    assert len(frames) == 5
    assert [line.split()[2] for line in said] == ["lost"]
    assert len(source.errors) == 1


def test_closing_ends_a_wait_at_once(images: list[bytes]) -> None:
    server = Server(lambda h: send_images(h, images, lengths=True, count=3))
    server.start()
    source = open_source(
        server.url("/camera"), reconnect=ReconnectOptions(give_up_s=60, first_wait_s=30, longest_wait_s=30)
    )
    count = 0
    for _ in source:
        count += 1
        if count == 3:
            threading.Timer(0.5, source.close).start()
            started = time.monotonic()
    assert count == 3
    assert time.monotonic() - started < 20  # the wait is of 30 s
    assert source.errors == []
    server.cut()


# --- files over HTTP ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [True, False])
def test_a_video_that_breaks_off_or_stalls_is_continued(
    cut: bool, astronaut: np.ndarray, tmp_path: Path, write_video: Callable[..., None], said: list[str]
) -> None:
    times = [i / 25 for i in range(200)]
    write_video(tmp_path / "video.mp4", astronaut[:240, :320], times, options={"movflags": "faststart"})
    data = (tmp_path / "video.mp4").read_bytes()
    with open_source(tmp_path / "video.mp4") as whole:
        expected = [(f.index, f.timestamp_s, f.image) for f in whole]
    budget = [int(0.85 * len(data))]  # bytes until the cable is cut, once

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        first, last = int(wanted[0]), int(wanted[2] or len(data) - 1)
        handler.send_response(206 if "Range" in handler.headers else 200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        handler.send_header("Content-Length", str(last + 1 - first))
        handler.end_headers()
        for at in range(first, last + 1, 4096):
            piece = data[at : min(at + 4096, last + 1)]
            handler.wfile.write(piece)
            if "Range" in handler.headers and not handler.headers["User-Agent"].startswith("python-requests"):
                budget[0] -= len(piece)
                if -8192 < budget[0] < 0:
                    budget[0] = -(10**9)
                    if cut:
                        threading.Timer(0.1, server.cut).start()
                        threading.Timer(0.8, server.start).start()
                    time.sleep(0.5 if cut else 5)
                    return

    server = Server(answer)
    server.start()
    with open_source(server.url("/video.mp4"), timeout_s=8 if cut else 2, reconnect=QUICK) as source:
        assert (source.kind, source.live) == ("video", False)
        frames = list(source)
    time.sleep(0.5)
    server.cut()
    assert [f.index for f in frames] == [index for index, _, _ in expected]
    np.testing.assert_allclose([f.timestamp_s for f in frames], [time_s for _, time_s, _ in expected], atol=1e-3)
    for frame, (_, _, image) in zip(frames, expected, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 6
    one_line_each(said, server.url("/video.mp4"))
    assert source.errors == []


# --- cameras of this machine ----------------------------------------------------------------------------------------


def test_a_camera_that_is_pulled_out_and_plugged_in_again(
    astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    plugged = [True]

    class Capture:
        """Stands for a camera: this machine has none."""

        def __init__(self, count: int, image: np.ndarray) -> None:
            self.left, self.image, self.released = count, image, False

        def get(self, what: int) -> float:
            height, width = self.image.shape[:2]
            sizes: dict[int, float] = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height}
            return sizes.get(what, 0.0)

        def grab(self) -> bool:
            time.sleep(0.005)
            self.left -= 1
            plugged[0] = self.left > 0
            return self.left >= 0

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, self.image.copy()

        def release(self) -> None:
            self.released = True

    captures = [Capture(6, astronaut), None, None, Capture(10**9, astronaut[:240, :320])]
    monkeypatch.setattr(streams, "open_capture", lambda *_: captures.pop(0))
    with open_source(0, reconnect=QUICK) as source:
        frames = list(itertools.islice(source, 12))
    assert_in_order(frames)
    assert [f.size for f in frames] == [(512, 512)] * 6 + [(320, 240)] * 6
    one_line_each(said, "camera-0")


# --- the parts ------------------------------------------------------------------------------------------------------


def test_the_clock_follows_the_source_and_survives_its_jumps() -> None:
    clock = LiveClock()
    times = [clock.time_s(stamp, arrived) for stamp, arrived in [(5.0, 50.0), (5.04, 50.2), (5.08, 50.21)]]
    np.testing.assert_allclose(times, [0, 0.04, 0.08], atol=1e-9)
    assert clock.time_s(1000.0, 50.5) == pytest.approx(0.5)  # set anew
    assert clock.time_s(1000.04, 50.5) == pytest.approx(0.54)
    assert clock.time_s(1000.04, 50.5) > 0.54  # stands still
    assert clock.time_s(3.0, 50.5) > 0.54  # wrapped around
    assert clock.time_s(None, 60.0) == pytest.approx(10)


@pytest.mark.parametrize("bad", [{"give_up_s": float("nan")}, {"first_wait_s": 0}, {"first_wait_s": 20}])
def test_impossible_options_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        ReconnectOptions(**bad)


def test_nothing_at_all_is_an_error_at_once() -> None:
    server = Server(lambda h: send_images(h, [b"x"], lengths=True, count=0))
    server.start()
    source = open_source(server.url("/camera"), timeout_s=1)
    with pytest.raises(SourceError, match="delivers no image"):
        list(source)
    server.cut()
