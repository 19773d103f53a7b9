"""Several images on the page: found one after the other, chosen from a gallery, downloaded with their skeletons."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_browser import Page, open_browser
from pose_server import Running
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from featherpose.demo import PHOTOGRAPH


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("downloads")) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: Running) -> Page:
    browser.open(f"{server.url}/")
    browser.until(lambda: browser.text("server") == server.service.model_name, "the server is found")
    for path in browser.downloads.iterdir():
        path.unlink()
    return browser


@pytest.fixture
def images(tmp_path: Path, astronaut: np.ndarray, photo: bytes) -> list[Path]:
    """Two people, one person twice under one stem, and a file that is no image."""
    paths = [tmp_path / "people.jpg", tmp_path / "one.png", tmp_path / "one.jpg", tmp_path / "broken.jpg"]
    paths[0].write_bytes(PHOTOGRAPH.read_bytes())
    cv2.imwrite(str(paths[1]), astronaut)
    cv2.imwrite(str(paths[2]), astronaut)
    paths[3].write_bytes(photo[:300])
    return paths


def labels(page: Page) -> list[str]:
    found = page.driver.find_elements(By.CSS_SELECTOR, ".small-image-count")
    return [str(element.text) for element in found]


def download(page: Page, button: str) -> bytes:
    before = set(page.downloads.iterdir())
    page.find(button).send_keys(Keys.ENTER)  # as a person: browsers stop pages that download by themselves

    def finished() -> list[Path]:
        new = set(page.downloads.iterdir()) - before
        return [path for path in new if path.suffix not in (".crdownload", ".tmp") and not path.name.startswith(".")]

    path = Path(page.until(finished, "a download")[0])
    size = -1
    while size != (size := path.stat().st_size):
        time.sleep(0.2)
    return path.read_bytes()


def decode(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_several_images_are_found_chosen_and_downloaded(page: Page, images: list[Path]) -> None:
    page.find("file").send_keys("\n".join(map(str, images)))
    page.until(lambda: page.text("status") == "3 images are done. 1 could not be read.", "all of them")
    page.until(lambda: labels(page) == ["3 people", "1 person", "1 person", "not read"], "their people are counted")
    assert page.problem == ""
    page.until(lambda: page.text("people") == "3", "the first one is shown")
    page.until(lambda: page.text("session-summary").startswith("3 frames"), "all are kept")
    # The keyboard chooses another one.
    buttons = page.driver.find_elements(By.CSS_SELECTOR, ".small-image")
    assert [b.get_attribute("aria-pressed") for b in buttons] == ["true", "false", "false", "false"]
    buttons[1].send_keys(Keys.ENTER)
    page.until(lambda: page.text("people") == "1", "the second one is shown")
    assert buttons[1].get_attribute("aria-pressed") == "true"
    assert not buttons[3].is_enabled()
    # One image, as large as it was, with a skeleton on it.
    drawn, plain = decode(download(page, "download-image")), decode(images[1].read_bytes())
    assert drawn.shape == plain.shape
    changed = (np.abs(drawn.astype(int) - plain).max(axis=2) > 60).mean()
    assert 0.005 < changed < 0.15
    # All of them.
    with zipfile.ZipFile(io.BytesIO(download(page, "download-images"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["people.poses.jpg", "one.poses.jpg", "one-2.poses.jpg"]
        assert decode(archive.read("people.poses.jpg")).shape == (512, 1267, 3)
    session = json.loads(download(page, "download"))
    assert [frame["source"] for frame in session["frames"]] == ["people.jpg", "one.png", "one.jpg"]


def test_sliders_act_on_every_small_image(page: Page, images: list[Path]) -> None:
    page.find("file").send_keys("\n".join(map(str, images[:2])))
    page.until(lambda: page.text("status") == "2 images are done.", "both")
    page.find("person-certainty").send_keys(Keys.END)
    page.until(lambda: labels(page) == ["0 people", "0 people"], "nobody is as sure as can be")
    page.find("person-certainty").send_keys(Keys.HOME)
    page.until(lambda: labels(page)[1] == "1 person", "and is back")
    page.click("stop")
    assert not page.find("gallery").is_displayed()
    assert page.driver.find_elements(By.CSS_SELECTOR, ".small-image") == []


def test_one_image_has_its_download_and_a_broken_one_its_message(page: Page, images: list[Path]) -> None:
    page.find("file").send_keys(str(images[1]))
    page.until(lambda: page.text("status") == "The image is done.", "it is done")
    assert not page.find("download-images").is_displayed()
    assert decode(download(page, "download-image")).shape == (512, 512, 3)
    page.find("file").send_keys(str(images[3]))
    page.until(lambda: "cannot read broken.jpg" in page.problem, "it is told")
    assert not page.find("gallery").is_displayed()


def test_a_video_among_images_is_left_out_with_a_word(page: Page, images: list[Path], walk: Path) -> None:
    page.find("file").send_keys("\n".join(map(str, [walk, images[1]])))
    page.until(lambda: page.text("status") == "The image is done.", "the image is")
    page.until(lambda: "walk.mp4 was left out" in page.problem, "and the video is named")


def test_nothing_disturbs_the_browser(page: Page, images: list[Path]) -> None:
    page.complaints()
    page.find("file").send_keys("\n".join(map(str, images[:3])))
    page.until(lambda: page.text("status") == "3 images are done.", "all of them")
    assert page.complaints() == []
