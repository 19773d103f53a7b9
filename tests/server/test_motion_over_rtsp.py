"""Counting repetitions of a network camera: a real RTSP server sends a real clip, and the server says what it saw."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from live_servers import RTSP_MISSING, Camera, clip_units, rtsp_is_here
from pose_server import serve_command
from websockets.sync.client import connect

from featherpose.media.sources.find import open_source

# jump-and-walk.mp4: two jumping jacks by eye, arms overhead in frames 24 and 60, at the thighs in 4, 40 and 76 (see
# tests/motion/test_real_videos.py). The clip stands still before and after: what FFmpeg reads to learn about a stream
# comes all at once, and most of that is dropped.
LAST, BEFORE, AFTER = 80, 40, 24
# Slow enough for every machine to see most frames.
FPS = 4.0


@pytest.fixture
def camera(tmp_path: Path, shared: Path) -> Iterator[Camera]:
    if not rtsp_is_here():
        pytest.skip(RTSP_MISSING)
    with open_source(shared / "data/videos/jump-and-walk.mp4") as source:
        images = [cv2.resize(frame.image, (640, 360)) for frame, _ in zip(source, range(LAST + 1), strict=False)]
    camera = Camera(tmp_path)
    camera.start(clip_units([*[images[0]] * BEFORE, *images, *[images[-1]] * AFTER]), fps=FPS)
    yield camera
    camera.kill()


def test_jumping_jacks_are_counted_over_rtsp(camera: Camera) -> None:
    counts: dict[int, list[int]] = {}
    options = ("--motion", "jumping-jack", "--quality", "fast")
    with serve_command("--source", f"gym={camera.url}", *options) as (_, address):
        poses = address.replace("http://", "ws://") + "v1/sources/gym/poses"
        with connect(poses, proxy=None, open_timeout=60) as socket:
            assert json.loads(socket.recv(timeout=60))["type"] == "hello"
            end = time.monotonic() + 0.95 * (BEFORE + LAST + AFTER) / FPS  # before the clip begins again
            while time.monotonic() < end:
                for person in json.loads(socket.recv(timeout=60))["people"]:
                    if "motion" in person:
                        assert person["motion"]["exercise"] == "jumping-jack"
                        counts.setdefault(person["id"], []).append(person["motion"]["count"])
    (man,) = (seen for seen in counts.values() if seen[-1])
    assert sorted(set(man)) == [0, 1, 2]
    assert man == sorted(man)
