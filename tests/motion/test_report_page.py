"""The report page in a real browser: one file, no foreign host, curves linked to the frame."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_browser import Page, open_browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from featherpose.drawing.draw import draw_poses
from featherpose.evaluation.motion.known_people import squatting, walking
from featherpose.media.sources.source import Frame
from featherpose.motion.analysis import MotionOptions, MotionReport, analyze_motion
from featherpose.motion.report.rendering import Clip, render_videos
from featherpose.motion.report.report_page import report_page, write_report_page
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import OPENPOSE_18

NAME = 'two <people> & "others"'


@pytest.fixture(scope="module")
def report() -> MotionReport:
    """Somebody squats on the left while somebody else walks on the right."""
    squat, walk = squatting(3, period_s=2.0, lead_s=0.5).in_skeleton(OPENPOSE_18), walking(13).in_skeleton(OPENPOSE_18)
    t = min(squat.num_frames, walk.num_frames)
    points = np.stack([squat.keypoints[:t, 0], walk.keypoints[:t, 0] + (500, 0)], 1)
    both = PoseSequence.from_arrays(
        points, squat.timestamps_s[:t], OPENPOSE_18, image_size=(2400, 560), track_ids=[4, 9]
    )
    return analyze_motion(both, MotionOptions(person_height_m=1.75))


def frames(report: MotionReport) -> Iterator[Frame]:
    for row in range(report.sequence.num_frames):
        image = np.full((560, 2400, 3), 90, np.uint8)
        draw_poses(image, report.sequence.raw.poses(row))
        yield Frame(image, row, float(report.sequence.timestamps_s[row]), "known")


@pytest.fixture(scope="module")
def page(report: MotionReport, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("report")
    clip = Clip(report)
    render_videos(report, frames(report), annotated=folder / "annotated.mp4", clip=clip)
    write_report_page(folder / "report.html", report, title=NAME, clip=clip)
    with open_browser(folder) as page:
        page.open((folder / "report.html").as_uri())
        wait(lambda: page.run("return document.getElementById('video').readyState") >= 2, "the video is there")
        yield page


def severe(page: Page) -> list[Any]:
    log: Callable[[str], list[Any]] = page.driver.get_log
    return [entry for entry in log("browser") if entry["level"] == "SEVERE"]


def wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)


def test_nothing_is_asked_of_another_host(report: MotionReport) -> None:
    text = report_page(report, title=NAME)
    addresses = set(re.findall(r"""(?:src|href)=["']?([^"'\s>]*)""", text)) | set(re.findall(r"url\(([^)]*)\)", text))
    assert all(not a or a.startswith("data:") for a in addresses), addresses
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_page_has_no_error(page: Page) -> None:
    assert severe(page) == []
    assert page.text("title") == NAME
    assert "lengths in m (a height of 1.75 m" in page.text("facts")


def test_it_answers_how_many_and_how_deep(page: Page) -> None:
    choose(page, "4")
    assert page.text("answer").startswith("3 squat repetitions, 110 to 110° deep; one every 2.000 ± 0.0")
    choose(page, "9")
    assert re.match(r"12 steps at 110\.0+ ± 0\.\d+ steps/min; 1\.1[89]", page.text("answer"))
    assert "Gait (ankle)" in page.text("tables")


def choose(page: Page, who: str) -> None:
    page.run(
        "const s = document.getElementById('person'); s.value = [...s.options].findIndex((o) => o.text.startsWith("
        "arguments[0])); s.dispatchEvent(new Event('change'));",
        who,
    )


def test_the_curve_under_the_pointer_chooses_the_frame(page: Page, report: MotionReport) -> None:
    choose(page, "4")
    knee = page.driver.find_element(By.CSS_SELECTOR, "svg[data-joint=knee]")
    width = knee.size["width"]
    ActionChains(page.driver).move_to_element_with_offset(knee, int(width * 0.25), 0).perform()
    row = int(page.run("return document.body.dataset.row"))
    assert row == pytest.approx(0.75 * report.sequence.num_frames, abs=3)
    shown = page.run("return [...document.querySelectorAll('figcaption span')].map((s) => s.textContent)")
    value = round(float(report.angles["left_knee"][row, 0]))
    assert any(f"left {value}°" in text for text in shown)
    wait(lambda: not page.run("return document.getElementById('video').seeking"), "the video is there")
    second = page.run("return document.getElementById('video').currentTime")
    assert second == pytest.approx((row + 0.5) / 30, abs=0.02)


def test_the_video_shows_the_frame_of_the_cursor(page: Page, report: MotionReport) -> None:
    """The skeleton that is burned into the film lies under the one that the page draws."""
    row = 60
    page.run(
        "const s = document.getElementById('seek'); s.value = arguments[0]; s.dispatchEvent(new Event('input'));", row
    )
    wait(lambda: not page.run("return document.getElementById('video').seeking"), "the frame is shown")
    time.sleep(0.3)
    pixels = page.run(
        "const c = document.createElement('canvas'), v = document.getElementById('video'); c.width = v.videoWidth;"
        "c.height = v.videoHeight; const x = c.getContext('2d'); x.drawImage(v, 0, 0);"
        "return [c.width, c.height, ...x.getImageData(0, 0, c.width, c.height).data];"
    )
    width, height, *rest = pixels
    seen = np.array(rest, np.uint8).reshape(height, width, 4)[..., :3]
    image = np.full((560, 2400, 3), 90, np.uint8)
    draw_poses(image, report.sequence.raw.poses(row))
    truth = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1]
    other = np.full((560, 2400, 3), 90, np.uint8)
    draw_poses(other, report.sequence.raw.poses(row + 2))
    wrong = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1]

    def apart(a: np.ndarray) -> float:
        return float(np.abs(a.astype(float) - seen).mean())

    assert apart(truth) < apart(wrong)


def test_a_click_on_somebody_chooses_them(page: Page, report: MotionReport) -> None:
    choose(page, "4")
    overlay = page.find("overlay")
    row = int(page.run("return document.body.dataset.row"))
    x, y = report.sequence.point("neck")[row, 1]
    size = overlay.size
    ActionChains(page.driver).move_to_element_with_offset(
        overlay, int((x / 2400 - 0.5) * size["width"]), int((y / 560 - 0.5) * size["height"])
    ).click().perform()
    assert page.text("person-option") == "--person 9"


def test_points_of_a_field_are_marked_by_clicks(page: Page) -> None:
    page.click("marking")
    overlay = page.find("overlay")
    for dx, dy in ((-100, -20), (50, 30)):
        ActionChains(page.driver).move_to_element_with_offset(overlay, dx, dy).click().perform()
    assert re.fullmatch(r"--field '\d+,\d+=X,Y \d+,\d+=X,Y'", page.text("field-option"))
    page.click("marking")
    assert page.text("field-option") == ""


def test_keys_and_the_play_button_move_the_frame(page: Page) -> None:
    row = int(page.run("return document.body.dataset.row"))
    page.run("document.activeElement.blur()")
    page.press(Keys.ARROW_RIGHT)
    assert int(page.run("return document.body.dataset.row")) == row + 1
    page.click("play")
    wait(lambda: int(page.run("return document.body.dataset.row")) > row + 5, "it plays")
    page.click("play")
    page.run("document.querySelector('tr[data-row]')?.click()")


def test_the_annotated_video_has_every_frame(page: Page, report: MotionReport) -> None:
    capture = cv2.VideoCapture(str(page.downloads / "annotated.mp4"))
    count = 0
    while (read := capture.read())[0]:
        count += 1
        last = read[1]
    capture.release()
    assert count == report.sequence.num_frames
    assert last.shape == (560, 2400, 3)
    assert (last[:120, :400].max(-1) > 150).any()  # the counters in the corner


def test_without_a_video_the_page_draws_skeletons_alone(report: MotionReport, tmp_path: Path) -> None:
    write_report_page(tmp_path / "report.html", report, title="poses")
    with open_browser(tmp_path) as page:
        page.open((tmp_path / "report.html").as_uri())
        assert page.text("answer").startswith("3 squat")
        painted = page.run(
            "const c = document.getElementById('overlay'); const d = c.getContext('2d').getImageData(0, 0, c.width,"
            " c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n"
        )
        assert painted > 500
        assert severe(page) == []
