"""``featherpose predict`` on what is live: a real Motion JPEG stream that is cut in the middle."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_servers import Server, send_images

from featherpose.cli.commands.predict import _engine
from featherpose.cli.main import run
from featherpose.cli.options import ModelOptions
from featherpose.cli.options.predict_options import PeopleOptions
from featherpose.media.sources.find import find_sources


@pytest.fixture
def stream(grace_hopper: Path) -> Iterator[Server]:
    """A camera whose first connection ends after some images; the server itself goes away for a moment, too."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        first = handler.headers["User-Agent"] == "featherpose" and not served
        if first:
            served.append(True)
        send_images(handler, [grace_hopper.read_bytes()], lengths=True, count=40 if first else 10**9)
        if first:
            threading.Timer(0.05, server.cut).start()
            threading.Timer(0.7, server.start).start()

    served: list[bool] = []
    server = Server(answer)
    server.start()
    yield server
    server.end()


def _words(stream: Server, model: Path, out: Path) -> list[str]:
    outputs = ["--jsonl", str(out / "p.jsonl"), "--summary", str(out / "s.json"), "-o", str(out / "out.mp4"), "-q"]
    return ["predict", stream.url("/camera"), "--model", str(model), "--height", "64", "--threads", "1", *outputs]


def test_a_stream_that_is_cut_goes_on_in_the_same_files(stream: Server, released_int8: Path, tmp_path: Path) -> None:
    assert run([*_words(stream, released_int8, tmp_path), "--end", "4", "--timeout", "3"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    times = [line["timestamp_s"] for line in lines]
    assert times == sorted(set(times))
    assert max(b - a for a, b in itertools.pairwise(times)) > 0.5
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["frames"] == len(lines)
    assert summary["dropped"] >= 0
    assert (tmp_path / "out.mp4").stat().st_size > 1000


def test_a_stream_that_stays_away_ends_with_whole_files(stream: Server, released_int8: Path, tmp_path: Path) -> None:
    assert run([*_words(stream, released_int8, tmp_path), "--reconnect", "0", "--timeout", "3"]) == 1
    summary = json.loads((tmp_path / "s.json").read_text())
    assert "was lost after" in summary["failed"][0]["error"]
    assert summary["frames"] == len((tmp_path / "p.jsonl").read_text().splitlines()) > 0
    assert run([*_words(stream, released_int8, tmp_path), "--reconnect", "-1"]) == 2


def test_files_run_side_by_side_and_what_is_live_does_not(grace_hopper: Path, tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"\0\0\0\0ftypisom")
    for sources, several in (
        ([str(grace_hopper)], False), ([str(video)], True), (["0"], False), (["rtsp://camera/live"], False),
        ([str(video), "0"], False),
    ):  # fmt: skip
        refs = [ref for source in sources for ref in find_sources(source)]
        assert (_engine(ModelOptions(), refs).num_streams >= 2) == several


def test_smoothing_may_be_asked_for_refused_or_left_to_the_source() -> None:
    assert [PeopleOptions(smooth=smooth).followed for smooth in (None, True, False)] == [True, True, True]
    assert [PeopleOptions(track=False, smooth=smooth).followed for smooth in (None, True, False)] == [
        False,
        True,
        False,
    ]
