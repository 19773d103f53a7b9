"""Annotated video that plays: in a real Chromium, also as a killed process leaves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherpose.media.sinks.packet_sink import PacketSink

pytest.importorskip("selenium")
from page_browser import open_browser

_PLAY = """
const done = arguments[arguments.length - 1];
const video = document.createElement("video");
video.muted = true;
video.onerror = () => done({error: video.error.message});
video.onloadeddata = async () => {
  const seekable = video.seekable.length ? video.seekable.end(0) : 0;
  video.onseeked = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const pixel = Array.from(context.getImageData(20, 20, 1, 1).data);
    done({duration: video.duration, width: video.videoWidth, seekable, pixel, at: video.currentTime});
  };
  video.currentTime = 1.5;
};
video.src = arguments[0];
"""


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("finished", [True, False])
def test_chromium_plays_and_seeks(tmp_path: Path, suffix: str, finished: bool) -> None:
    path = tmp_path / f"clip{suffix}"
    sink = PacketSink(path, 25)
    for i in range(50):
        image = np.full((144, 256, 3), (40, 80, 200) if i >= 25 else (200, 80, 40), np.uint8)
        sink.write(image, i / 25)
    if not finished:  # as a killed process leaves it
        assert sink.unfinished is not None
        data = sink.unfinished.read_bytes()
    sink.close()
    if not finished:
        path.write_bytes(data)
    (tmp_path / "page.html").write_text("<!doctype html><title>video</title>")
    with open_browser(tmp_path / "downloads", arguments=["--allow-file-access-from-files"]) as page:
        page.open((tmp_path / "page.html").as_uri())
        seen = page.driver.execute_async_script(_PLAY, path.as_uri())
    assert "error" not in seen, seen
    assert seen["width"] == 256
    if finished:
        assert seen["duration"] == pytest.approx(2.0, abs=0.05)
        assert seen["at"] == pytest.approx(1.5, abs=0.05)
        assert seen["seekable"] == pytest.approx(2.0, abs=0.05)
        assert np.abs(np.array(seen["pixel"][:3]) - (200, 80, 40)).max() < 12  # red, green, blue
