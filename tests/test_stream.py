"""Streams: order, overlap, bounds, errors and early ends, on real video and on sources made for one purpose."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_servers import RTSP_MISSING, Camera, access_units, rtsp_is_here

from featherpose.errors import ModelError, OptionError, SourceError
from featherpose.estimator import PoseEstimator, StageTimes
from featherpose.media.sources.find import ReconnectOptions, open_source
from featherpose.media.sources.source import Frame
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17
from featherpose.stream import FrameResult, StreamOptions, process_stream, process_streams
from featherpose.tracking import PoseSmoother, PoseTracker

IMAGE = np.zeros((48, 64, 3), np.uint8)


def frames(count: int, *, pause_s: float = 0.0, name: str = "made") -> Iterator[Frame]:
    for i in range(count):
        if pause_s:
            time.sleep(pause_s)
        yield Frame(IMAGE, i, i / 25, name)


class Slow:
    """Stands for an estimator of known speed."""

    def __init__(self, seconds: float = 0.0, fail_at: int = -1) -> None:
        self.seconds, self.fail_at, self.submitted, self.unfinished, self.most = seconds, fail_at, 0, 0, 0

    def submit(self, image: np.ndarray) -> Slow._Answer:
        self.submitted += 1
        self.unfinished += 1
        self.most = max(self.most, self.unfinished)
        return Slow._Answer(self, self.submitted - 1)

    class _Answer:
        def __init__(self, owner: Slow, number: int) -> None:
            self._owner, self._number = owner, number

        def timed_result(self) -> tuple[Poses, StageTimes]:
            self._owner.unfinished -= 1
            if self._number == self._owner.fail_at:
                raise ModelError("the engine failed")
            time.sleep(self._owner.seconds)
            return Poses.empty(COCO_17, (64, 48)), StageTimes(0.0, 1e3 * self._owner.seconds, 0.0)


def readers_alive() -> int:
    return sum(t.name == "featherpose-stream-reader" for t in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 20
    while readers_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert readers_alive() == 0


def test_every_frame_comes_in_order() -> None:
    results = list(process_stream(frames(40), Slow()))
    assert [r.frame.index for r in results] == list(range(40))
    assert results[-1].dropped == 0


def test_no_more_than_the_bounds_is_in_memory() -> None:
    read = 0

    def counting() -> Iterator[Frame]:
        nonlocal read
        for frame in frames(200):
            read += 1
            yield frame

    estimator = Slow()
    stream = process_stream(counting(), estimator, options=StreamOptions(in_flight=2, prefetch=3))
    for _ in range(5):
        next(stream)
    time.sleep(0.2)
    assert read <= 5 + 2 + 3 + 1
    stream.close()  # type: ignore[attr-defined]
    assert estimator.most <= 2


def test_latest_drops_what_is_late_and_counts_it() -> None:
    results = list(
        process_stream(frames(60, pause_s=0.005), Slow(0.03), options=StreamOptions(policy="latest", in_flight=1))
    )
    indices = [r.frame.index for r in results]
    assert indices == sorted(indices)
    assert len(indices) < 40
    assert results[-1].frame.index == 59
    assert results[-1].dropped == 60 - len(results)
    # Never older than one frame's work before it and its own, with room for a loaded machine.
    assert float(np.median([r.latency_ms for r in results])) < 120


class Network:
    """Stands for an estimator whose network runs in the background for a known time, like a real one."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.log: list[str] = []
        self.running = self.most = self.count = 0

    def submit(self, image: np.ndarray) -> Network._Answer:
        self.running += 1
        self.count += 1
        self.most = max(self.most, self.running)
        self.log.append(f"begin {self.count}")
        return Network._Answer(self, self.count)

    class _Answer:
        def __init__(self, owner: Network, number: int) -> None:
            self._owner, self._number, self._done = owner, number, threading.Event()
            self._timer = threading.Timer(owner.seconds, self._end)
            self._timer.start()

        def _end(self) -> None:
            self._owner.running -= 1
            self._done.set()

        def wait(self) -> None:
            self._done.wait()

        def timed_result(self) -> tuple[Poses, StageTimes]:
            self._done.wait()
            self._owner.log.append(f"decode {self._number}")
            return Poses.empty(COCO_17, (64, 48)), StageTimes(0.0, 0.0, 0.0)


def test_latest_begins_a_frame_only_when_the_network_is_free_and_before_the_last_one_is_decoded() -> None:
    network = Network(0.03)
    options = StreamOptions(policy="latest")
    results = list(process_stream(frames(100, pause_s=0.004), network, options=options))
    assert network.most == 1
    for i in range(1, len(results) - 3):
        assert network.log.index(f"begin {i + 1}") < network.log.index(f"decode {i}")
    # A frame waits for the next one to come at most, not for a place in a queue.
    assert float(np.median([r.queue_ms for r in results])) < 15
    assert results[-1].dropped == 100 - len(results) > 40


def test_a_live_source_is_taken_latest_first_and_a_file_is_not() -> None:
    class Camera:
        live = True

        def __iter__(self) -> Iterator[Frame]:
            return frames(40, pause_s=0.005)

    class File:
        live = False

        def __iter__(self) -> Iterator[Frame]:
            return frames(40)

    (camera, file) = (list(process_stream(source, Slow(0.02))) for source in (Camera(), File()))
    assert camera[-1].dropped == 40 - len(camera) > 10
    assert len(file) == 40


def test_live_sources_are_smoothed_and_files_are_not() -> None:
    rng = np.random.default_rng(0)
    still = rng.uniform(0, 60, (1, 17, 2))

    class Trembling(Slow):
        def submit(self, image: np.ndarray) -> Slow._Answer:
            answer = super().submit(image)
            points = (still + rng.normal(0, 1, still.shape)).astype(np.float32)
            ones = np.ones((1, 17), np.float32)
            poses = Poses(points, ones, ones[0, :1], COCO_17, (64, 48))
            answer.timed_result = lambda: (poses, StageTimes(0, 0, 0))  # type: ignore[method-assign]
            return answer

    class Source:
        def __init__(self, live: bool) -> None:
            self.live = live

        def __iter__(self) -> Iterator[Frame]:
            return frames(60)

    def trembling(live: bool, smoother: PoseSmoother | bool | None) -> float:
        stream = process_stream(
            Source(live), Trembling(), PoseTracker(), smoother=smoother, options=StreamOptions(policy="all")
        )
        return float(np.std([r.poses.keypoints for r in stream][20:], axis=0).mean())

    for live, smoother, smooth in (
        (True, None, True), (False, None, False), (True, False, False), (False, True, True),
        (False, PoseSmoother(), True),
    ):  # fmt: skip
        assert (trembling(live, smoother) < 0.7) == smooth
    with pytest.raises(OptionError, match="tracker"):
        process_stream(Source(True), Slow(), smoother=True)


def test_an_error_of_the_source_arrives_after_the_frames_before_it() -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(5)
        raise SourceError("the camera was pulled out")

    seen: list[int] = []
    with pytest.raises(SourceError, match="pulled out"):
        _collect(process_stream(broken(), Slow()), seen)
    assert seen == [0, 1, 2, 3, 4]


def _collect(stream: Iterator[FrameResult], into: list[int]) -> None:
    into.extend(result.frame.index for result in stream)


def test_an_error_of_the_engine_reaches_the_caller() -> None:
    seen: list[int] = []
    with pytest.raises(ModelError):
        _collect(process_stream(frames(50), Slow(fail_at=7)), seen)
    assert seen == list(range(7))


def test_closing_early_stops_the_source_and_frees_the_requests() -> None:
    closed = threading.Event()

    def endless() -> Iterator[Frame]:
        try:
            yield from frames(10**9)
        finally:
            closed.set()

    estimator = Slow()
    stream = process_stream(endless(), estimator)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert closed.wait(20)
    assert estimator.unfinished == 0


def test_a_source_that_hangs_is_closed() -> None:
    class Hanging:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def __iter__(self) -> Iterator[Frame]:
            yield from frames(1)
            self.closed.wait(30)

        def close(self) -> None:
            self.closed.set()

    source = Hanging()
    stream = process_stream(source, Slow())
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert source.closed.is_set()


def test_an_event_ends_a_silent_source() -> None:
    stop, wake = threading.Event(), threading.Event()

    class Silent:
        def __iter__(self) -> Iterator[Frame]:
            yield from frames(3)
            wake.wait(30)

        def close(self) -> None:
            wake.set()

    count = 0
    for _ in process_stream(Silent(), Slow(), stop=stop):
        count += 1
        if count == 3:
            threading.Timer(0.3, stop.set).start()
            started = time.monotonic()
    assert count == 3
    assert time.monotonic() - started < 20


def test_sources_take_turns_and_keep_their_own_trackers() -> None:
    trackers = [PoseTracker(), PoseTracker()]
    results = list(process_streams([frames(30), frames(10)], Slow(0.002), trackers))
    for number, count in ((0, 30), (1, 10)):
        assert [r.frame.index for r in results if r.source_index == number] == list(range(count))
    # While both have frames neither gets two turns more than the other (the very first ones apart).
    both = [r.source_index for r in results[:18]]
    assert abs(both.count(0) - both.count(1)) <= 4


def test_live_sources_share_the_network_evenly_however_many_frames_they_send() -> None:
    options = StreamOptions(policy="latest")
    sources = [frames(10**9, pause_s=pause_s) for pause_s in (0.004, 0.001, 0.008)]
    results = list(itertools.islice(process_streams(sources, Network(0.02), options=options), 45))
    counts = [sum(r.source_index == i for r in results) for i in range(3)]
    assert min(counts) > 0.6 * max(counts)
    for i in range(3):
        indices = [r.frame.index for r in results if r.source_index == i]
        assert indices == sorted(indices)


def test_time_that_goes_back_starts_ids_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # Recorded at the source: what other tests did to the process's logging does not matter then.
    said: list[str] = []
    monkeypatch.setattr("featherpose.tracking.follower._log.warning", lambda text, *values: said.append(text))

    def twice() -> Iterator[Frame]:
        yield from frames(5)
        yield from frames(5)

    assert len(list(process_stream(twice(), Slow(), PoseTracker(), smoother=PoseSmoother()))) == 10
    assert any("ids start anew" in text for text in said)


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError):
        StreamOptions(policy="some")  # type: ignore[arg-type]
    with pytest.raises(OptionError):
        StreamOptions(in_flight=0)
    with pytest.raises(OptionError, match="tracker"):
        process_stream(frames(1), Slow(), smoother=PoseSmoother())
    with pytest.raises(OptionError, match="one tracker"):
        process_streams([frames(1)], Slow(), [])


@pytest.mark.slow
def test_a_killed_camera_comes_back_into_the_same_stream(tmp_path: Path, astronaut: np.ndarray) -> None:
    if not rtsp_is_here():
        pytest.skip(RTSP_MISSING)
    camera = Camera(tmp_path)
    camera.start(access_units(astronaut[:240, :320], 50))
    reconnect = ReconnectOptions(give_up_s=20, first_wait_s=0.05, longest_wait_s=0.4)
    tracker, results = PoseTracker(), list[FrameResult]()
    try:
        with (
            PoseEstimator(height=64, threads=1) as estimator,
            open_source(camera.url, timeout_s=3, reconnect=reconnect) as source,
        ):
            for result in process_stream(source, estimator, tracker):
                results.append(result)
                if len(results) == 15:
                    camera.kill()
                    threading.Timer(0.5, camera.start, [access_units(astronaut[:480, :512], 50)]).start()
                if result.frame.size == (512, 480) and len(results) > 40:
                    break
    finally:
        camera.kill()
    assert {r.poses.image_size for r in results} == {(320, 240), (512, 480)}
    for a, b in itertools.pairwise(results):
        assert a.frame.index < b.frame.index
        assert a.frame.timestamp_s < b.frame.timestamp_s
        assert a.dropped <= b.dropped


@pytest.mark.slow
def test_real_video_gives_what_the_plain_loop_gives(shared: Path, released_int8: Path) -> None:
    video = shared / "data/videos/two-people.mp4"
    with PoseEstimator(released_int8, height=128, threads=2) as estimator:
        plain = PoseTracker()
        with open_source(video, frame_step=3) as source:
            expected = [plain.update(estimator(frame.image), frame.timestamp_s) for frame in source]
        tracker = PoseTracker()
        with open_source(video, frame_step=3) as source:
            results = list(process_stream(source, estimator, tracker))
    assert [r.frame.index for r in results] == list(range(0, 100, 3))
    assert tracker.count == plain.count >= 2
    for result, poses in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.poses.track_ids, poses.track_ids)
        np.testing.assert_allclose(result.poses.keypoints, poses.keypoints, atol=1e-3)
        assert result.latency_ms >= result.stage_times.postprocess_ms
