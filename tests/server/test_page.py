"""The page in a real browser, with a camera that shows real people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_browser import Page, open_browser, there_and_back, video
from pose_server import Running
from selenium.webdriver.common.keys import Keys


@pytest.fixture(scope="module", params=["video", "photograph"])
def camera(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the camera sees: people in a real video, or a photograph that moves."""
    path = tmp_path_factory.mktemp("camera") / "video.mjpeg"
    if request.param == "video":
        shared: Path = request.getfixturevalue("shared")
        capture = cv2.VideoCapture(str(shared / "data/videos/two-people.mp4"))
        frames = []
        while (read := capture.read())[0]:
            frames.append(cv2.resize(read[1], (360, 640), interpolation=cv2.INTER_AREA))
        capture.release()
        return video(path, there_and_back(frames))
    astronaut: np.ndarray = request.getfixturevalue("astronaut")
    moving = [astronaut[20 : 20 + 432, 2 * shift : 2 * shift + 432] for shift in range(40)]
    return video(path, there_and_back(moving))


@pytest.fixture(scope="module")
def page(camera: Path, server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("downloads"), camera=camera) as page:
        page.open(f"{server.url}/")
        page.until(lambda: page.text("server") == server.service.model_name, "the server is found")
        page.click("camera")
        page.until(lambda: page.ids, "somebody has an id")
        yield page


def test_people_appear_and_keep_their_ids(page: Page) -> None:
    first = set(page.until(lambda: page.ids, "somebody has an id"))
    seen = []
    for _ in range(14):
        time.sleep(0.3)
        seen.append(set(page.ids))
    kept = [ids for ids in seen if ids & first]
    assert len(kept) >= 0.7 * len(seen), (first, seen)
    assert len(set().union(*seen)) <= len(first) + 3, seen
    assert page.problem == ""
    assert page.text("status") == "The camera is running."


def test_figures_are_shown(page: Page) -> None:
    page.until(lambda: page.text("people").isdigit() and int(page.text("people")) > 0, "people are counted")
    assert float(page.until(lambda: page.text("fps").removeprefix("–"), "a rate")) > 0
    assert 0 < float(page.until(lambda: page.text("latency").removeprefix("–"), "a latency")) < 60_000


def test_no_more_frames_are_under_way_than_the_server_allows(page: Page) -> None:
    page.until(lambda: page.run("return window.framesSent") > 10, "frames are sent")
    assert 1 <= page.run("return window.mostUnanswered") <= 2


def test_sliders_act_at_once_and_by_keyboard(page: Page) -> None:
    page.until(lambda: page.painted > 0, "skeletons are drawn")
    slider = page.find("person-certainty")
    slider.send_keys(Keys.END)
    page.until(lambda: page.painted == 0, "nobody is as sure as can be")
    assert page.text("person-certainty-value") == "100 % sure"
    page.until(lambda: page.text("people") == "0", "nobody is counted")
    slider.send_keys(Keys.HOME)
    page.until(lambda: page.painted > 0, "everybody is back")
    page.find("keypoint-certainty").send_keys(Keys.END)
    fewer = page.until(lambda: page.painted < 400, "hardly a joint is as sure as can be")
    assert fewer
    page.run(
        "const s = document.getElementById('keypoint-certainty'); s.value = 0.15; s.dispatchEvent(new Event('input'))"
    )
    page.until(lambda: page.painted > 0, "joints are back")


def test_skeletons_alone(page: Page) -> None:
    page.until(lambda: page.painted > 0, "skeletons are drawn")
    before = page.stage()
    page.click("skeleton-only")
    try:
        page.until(lambda: page.painted > 0, "skeletons are still drawn")
        after = page.stage()
    finally:
        page.click("skeleton-only")
    # The stage is nearly black where no skeleton is; before, the video filled a good part of it.
    assert (before.max(-1) > 40).mean() > 0.3
    assert 0 < (after.max(-1) > 40).mean() < 0.15


def test_mirror_turns_image_and_skeletons(page: Page) -> None:
    assert page.run("return document.getElementById('stage').hasAttribute('data-mirrored')")
    page.click("mirror")
    assert not page.run("return document.getElementById('stage').hasAttribute('data-mirrored')")
    page.click("mirror")


def test_download_holds_every_frame(page: Page) -> None:
    page.until(lambda: not page.find("download").get_attribute("disabled"), "there is something to download")
    page.click("download")
    files = page.until(
        lambda: [file for file in page.downloads.glob("featherpose-*.json") if file.stat().st_size], "the download"
    )
    session = json.loads(files[0].read_text(encoding="utf-8"))
    frames = session["frames"]
    assert session["featherpose"] == 1
    assert session["dropped_oldest"] == 0
    assert len(session["skeleton"]["keypoints"]) == 18
    assert [frame["frame"] for frame in frames] == list(range(len(frames)))
    times = [frame["timestamp_s"] for frame in frames]
    assert times == sorted(times)
    assert all(max(frame["size"]) <= 640 for frame in frames)
    assert any(person["id"] is not None for frame in frames for person in frame["people"])
    assert all(len(person["keypoints"]) == 18 for frame in frames for person in frame["people"])


def test_ids_start_anew_and_smoothing_switches(page: Page) -> None:
    page.until(lambda: page.ids, "somebody has an id")
    page.click("smoothing")
    page.click("new-ids")
    page.until(lambda: min(page.ids, default=-1) == 0, "ids begin at 0")
    page.click("smoothing")


def test_nothing_disturbs_the_browser(page: Page) -> None:
    # The Content-Security-Policy forbids inline code, inline style and other hosts: a breach would be logged.
    assert page.complaints() == []


def test_stop_ends_camera_and_session(page: Page, server: Running) -> None:
    page.click("stop")
    page.until(lambda: server.service.sockets == 0, "the session has ended")
    assert page.run("return document.getElementById('video').srcObject") is None
    assert page.text("status") == "Nothing is running."
    assert page.painted == 0
    page.click("camera")
    page.until(lambda: page.ids, "it can start again")
