"""What the page says when something is wrong, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from live_servers import Server as Camera
from live_servers import send_images
from page_browser import Page, open_browser, video
from pose_server import Running, Start, run_server
from selenium.webdriver.common.keys import Keys

from featherpose.server.options import ServeLimits, ServeOptions

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("browser")
    # Another name for this machine: to a browser, a page that is neither on loopback nor secure.
    elsewhere = "--host-resolver-rules=MAP elsewhere.test 127.0.0.1"
    camera = video(folder / "video.mjpeg", iter([astronaut, astronaut[::-1]]))
    with open_browser(folder, camera=camera, arguments=[elsewhere]) as page:
        yield page


def until_problem(page: Page, words: str) -> str:
    page.until(lambda: words in page.problem, f"a problem with {words!r}")
    return page.problem


def test_camera_refused(server: Running, tmp_path: Path) -> None:
    with open_browser(tmp_path, refuse=True) as page:
        page.open(f"{server.url}/")
        page.click("camera")
        assert "Allow the camera" in until_problem(page, "The camera was refused.")
        assert page.run("return document.getElementById('problem').getAttribute('role')") == "alert"
        assert page.find("retry").is_displayed()
        assert not page.run("return document.getElementById('welcome').hidden")
        page.click("dismiss")
        assert page.problem == ""


def test_no_camera(server: Running, tmp_path: Path) -> None:
    with open_browser(tmp_path, device=False) as page:
        page.open(f"{server.url}/")
        page.click("camera")
        assert "image or a video" in until_problem(page, "No camera was found.")


def test_insecure_page_has_no_camera(page: Page, start: Start) -> None:
    with start(ServeOptions(allowed_hosts=("elsewhere.test",))) as server:
        page.open(f"http://elsewhere.test:{server.port}/")
        page.click("camera")
        assert "https" in until_problem(page, "secure pages only")


def test_token_missing_wrong_and_right(page: Page, start: Start) -> None:
    with start(ServeOptions(token=TOKEN)) as server:
        page.open(f"{server.url}/")
        until_problem(page, "asks for its token")
        page.find("token").send_keys("not the token", Keys.ENTER)
        page.until(lambda: page.find("token").get_attribute("value") == "", "it was tried")
        until_problem(page, "asks for its token")
        page.find("token").send_keys(TOKEN, Keys.ENTER)
        page.until(lambda: page.text("server") == server.service.model_name, "the server is found")
        assert page.problem == ""
        page.click("camera")
        page.until(lambda: "No frames" not in page.text("session-summary"), "the WebSocket takes the token too")
        page.click("stop")


def test_token_in_the_address_is_used_and_disappears(page: Page, start: Start) -> None:
    with start(ServeOptions(token=TOKEN)) as server:
        page.open(f"{server.url}/#token={TOKEN}")
        page.until(lambda: page.text("server") == server.service.model_name, "the server is found")
        assert TOKEN not in page.driver.current_url


def test_connection_lost_and_found_again(page: Page, start: Start) -> None:
    with start(ServeOptions()) as server:
        page.open(f"{server.url}/")
        page.click("camera")
        page.until(lambda: "No frames" not in page.text("session-summary"), "frames are answered")
    until_problem(page, "Trying again in about")
    assert page.text("status") == "Connection lost."
    assert page.painted == 0, "what is not seen any more is not drawn"
    with run_server(ServeOptions(), port=server.port):
        page.until(lambda: page.problem == "", "the page comes back by itself")
        page.until(lambda: page.text("status") == "The camera is running.", "it runs again")
        page.click("stop")


def test_sessions_outlive_the_time_for_a_request(page: Page, start: Start) -> None:
    with start(ServeOptions(limits=ServeLimits(body_timeout_s=1.0))) as server:
        page.open(f"{server.url}/")
        page.click("camera")
        page.until(lambda: page.run("return window.framesSent") > 3, "frames are sent")
        time.sleep(3)
        sent = page.run("return window.framesSent")
        page.until(lambda: page.run("return window.framesSent") > sent, "more are sent")
        assert page.run("return window.socketsOpened") == 1
        page.click("stop")


def test_too_many_sessions(page: Page, start: Start) -> None:
    with start(ServeOptions(limits=ServeLimits(sessions=1))) as server:
        page.open(f"{server.url}/")
        page.click("camera")
        page.until(lambda: "No frames" not in page.text("session-summary"), "the first session runs")
        first = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        page.driver.get(f"{server.url}/")
        page.click("camera")
        assert "Trying again" in until_problem(page, "sessions are open already")
        page.driver.switch_to.window(first)
        page.driver.close()
        page.driver.switch_to.window(page.driver.window_handles[0])
        page.until(lambda: page.text("status") == "The camera is running.", "it gets its turn")
        page.click("stop")


def test_a_camera_of_the_server_that_comes_back(page: Page, start: Start, moving: list[bytes]) -> None:
    camera = Camera(lambda handler: send_images(handler, moving, lengths=True))
    with start(ServeOptions(sources={"door": camera.url("/live")})) as server:
        page.open(f"{server.url}/#source=door")
        assert "Trying again in about" in until_problem(page, "cannot be reached")
        try:
            camera.start()
            page.until(lambda: page.problem == "" and page.painted > 0, "the page comes back by itself")
            camera.cut()
            page.until(lambda: page.text("status") == "Waiting for door…", "it is away")
            camera.start()
            page.until(lambda: page.text("status") == "door is running.", "and back")
            assert page.problem == ""
        finally:
            page.click("stop")
            camera.end()


def test_files_that_are_no_images(page: Page, server: Running) -> None:
    page.open(f"{server.url}/")
    page.drop("notes.txt", "text/plain", b"hello")
    until_problem(page, "neither an image nor a video")
    page.drop("torn.jpg", "image/jpeg", b"\xff\xd8\xff\xe0 torn")
    until_problem(page, "cannot read torn.jpg")
    page.drop("torn.mp4", "video/mp4", b"no video")
    until_problem(page, "cannot play torn.mp4")
    whole, data = cv2.imencode(".png", np.full((60, 80, 3), 90, np.uint8))
    assert whole
    page.drop("gray.png", "image/png", data.tobytes())
    page.until(lambda: page.text("status") == "The image is done.", "the next one is fine")
    assert page.problem == ""


def test_unknown_source(page: Page, server: Running) -> None:
    page.open(f"{server.url}/#source=nowhere")
    until_problem(page, "no source 'nowhere'")
