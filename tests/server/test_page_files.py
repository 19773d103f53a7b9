"""Images, videos and sources on the page; its looks on phones, in the dark, and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_browser import Page, open_browser
from pose_server import Running
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import featherpose

TWO_CAMERAS = "--use-fake-device-for-media-stream=device-count=2"
FOLDER = Path(featherpose.__file__).parent / "server/static"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("downloads")) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: Running) -> Iterator[Page]:
    browser.open(f"{server.url}/")
    browser.until(lambda: browser.text("server") == server.service.model_name, "the server is found")
    yield browser
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.prefer()


def test_dropped_image(page: Page, photo: bytes) -> None:
    page.drop("grace.jpg", "image/jpeg", photo)
    page.until(lambda: page.text("people") not in ("–", "0"), "somebody is found")
    page.until(lambda: page.painted > 100, "the skeleton is drawn")
    assert page.text("status") == "The image is done."
    assert page.text("session-summary").startswith("1 frame")
    # Everyone was sent: the sliders need no new answer.
    page.find("person-certainty").send_keys(Keys.END)
    page.until(lambda: page.painted == 0, "nobody is good enough")
    page.find("person-certainty").send_keys(Keys.HOME)
    page.until(lambda: page.painted > 100, "and is back")


def test_chosen_video(page: Page, walk: Path, tmp_path: Path) -> None:
    # VP8, which every Chromium plays whatever codecs it was built with.
    av = pytest.importorskip("av")
    video = tmp_path / "walk.webm"
    with av.open(str(walk)) as source, av.open(str(video), "w") as target:
        stream = target.add_stream("libvpx", rate=15)
        stream.width, stream.height, stream.pix_fmt = 480, 384, "yuv420p"
        stream.bit_rate = 2_000_000
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode())
    page.find("file").send_keys(str(video))
    page.until(lambda: page.text("status") == "The video is playing.", "it plays")
    page.until(lambda: page.ids, "somebody has an id")
    assert page.find("transport").is_displayed()
    page.click("play")
    page.until(lambda: page.text("play") == "Play", "it pauses")
    still = page.run("return document.getElementById('video').currentTime")
    # A paused video answers to controls that need a new look at it.
    before = page.run("return window.framesSent")
    page.click("smoothing")
    page.until(lambda: page.run("return window.framesSent") > before, "the still frame is sent again")
    page.click("smoothing")
    assert page.run("return document.getElementById('video').currentTime") == still
    page.run("const s = document.getElementById('seek'); s.value = 0.4; s.dispatchEvent(new Event('input'))")
    page.until(lambda: page.text("time").startswith("0:00 / 0:0"), "it says where it is")
    page.click("stop")
    assert not page.find("transport").is_displayed()


def test_source_of_the_server(page: Page, server: Running) -> None:
    page.open(f"{server.url}/#source=walk")
    page.until(lambda: page.text("status") == "walk is running.", "it runs")
    page.until(lambda: page.ids, "somebody has an id")
    assert page.stage().max(-1).mean() > 40, "the image is seen"
    pressed = page.driver.find_elements(By.CSS_SELECTOR, "#sources [aria-pressed=true]")
    assert [button.text for button in pressed] == ["walk"]
    page.click("skeleton-only")
    page.until(lambda: page.painted > 0 and page.stage().max(-1).mean() < 30, "only the skeleton is left")
    page.click("skeleton-only")
    page.until(lambda: page.stage().max(-1).mean() > 40, "the image is back")
    page.click("stop")
    page.until(lambda: server.app.state.hub.viewers == 0, "nobody watches any more")


def test_phone(page: Page, photo: bytes) -> None:
    page.set_screen(360, 740, 2, phone=True)
    page.drop("grace.jpg", "image/jpeg", photo)
    page.until(lambda: page.text("people") not in ("–", "0"), "somebody is found")
    inside = "return document.documentElement.scrollWidth <= innerWidth"
    assert page.run(inside), "nothing is wider than the screen"
    for element in page.driver.find_elements(By.CSS_SELECTOR, "button, select, label.button, label.switch, .slider"):
        if element.is_displayed():
            assert element.rect["x"] >= 0
            assert element.rect["x"] + element.rect["width"] <= 360, element.text
            assert element.rect["height"] >= 28, element.text
    overlay = page.run("const c = document.getElementById('overlay'); return [c.width, c.clientWidth]")
    assert overlay[0] == 2 * overlay[1], "skeletons are as sharp as the screen"


CONTRAST = """
const channel = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const context = document.createElement("canvas").getContext("2d");
const luminance = (color) => {
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
  return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
};
const background = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(color)) return color;
  }
};
const weak = [];
for (const element of document.querySelectorAll("h1, p, dt, dd, label, legend, button, output, select")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || element.disabled || !element.checkVisibility()) continue;
  const [a, b] = [luminance(getComputedStyle(element).color), luminance(background(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) weak.push(`${element.textContent.trim()}: ${ratio.toFixed(2)}`);
}
return [weak, luminance(getComputedStyle(document.body).backgroundColor)];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(page: Page, scheme: str) -> None:
    page.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.drop("notes.txt", "text/plain", b"hello")  # so that a problem is shown as well
    weak, paper = page.run(CONTRAST)
    assert weak == [], "contrast of at least 4.5 to 1 (WCAG 2, AA)"
    assert paper > 0.8 if scheme == "light" else paper < 0.05


def test_reduced_motion(page: Page) -> None:
    page.prefer(prefers_reduced_motion="reduce")
    assert page.run("return getComputedStyle(document.getElementById('smoothing')).transitionDuration") == "0s"


def test_everything_is_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    reached = []
    for _ in range(40):
        page.press(Keys.TAB)
        element = page.driver.switch_to.active_element
        if element.tag_name == "body":
            break
        reached.append(element.get_attribute("id") or element.get_attribute("data-action") or element.text)
        assert element.accessible_name, reached[-1]
        # Of a hidden file chooser its label is what shows the focus.
        outlined = "const e = arguments[0]; return [e, e.parentElement].map((x) => getComputedStyle(x).outlineStyle)"
        if reached[-1] != "Skip to the controls":
            assert "solid" in page.run(outlined, element), reached[-1]
    wanted = {
        "camera",
        "file",
        "keypoint-certainty",
        "person-certainty",
        "skeleton-only",
        "in-step",
        "ids",
        "smoothing",
    }
    assert wanted | {"long-side", "choose", "walk"} <= set(reached), reached
    assert reached[0] == "Skip to the controls"


def test_camera_by_keyboard(page: Page) -> None:
    page.find("camera").send_keys(Keys.ENTER)
    page.until(lambda: page.text("status") == "The camera is running.", "it starts")
    page.find("stop").send_keys(Keys.SPACE)
    assert page.text("status") == "Nothing is running."


def test_other_camera(server: Running, tmp_path: Path) -> None:
    with open_browser(tmp_path, device=False, arguments=[TWO_CAMERAS]) as page:
        page.open(f"{server.url}/")
        page.click("camera")
        page.until(lambda: page.text("status") == "The camera is running.", "it starts")
        page.until(lambda: page.find("other-camera").is_displayed(), "there is another one")
        which = "return document.getElementById('video').srcObject.getVideoTracks()[0].getSettings().deviceId"
        first = page.run(which)
        page.click("other-camera")
        page.until(lambda: page.run(which) != first, "the other one is shown")
        before = page.run("return window.framesSent")
        page.until(lambda: page.run("return window.framesSent") > before, "and sent")
        page.click("other-camera")
        page.until(lambda: page.run(which) == first, "the first one is back")
        assert page.problem == ""


def test_settings_are_remembered(page: Page, server: Running) -> None:
    page.find("keypoint-certainty").send_keys(Keys.HOME)
    page.click("ids")
    page.open(f"{server.url}/")
    try:
        assert page.text("keypoint-certainty-value") == "0 % sure"
        assert not page.find("ids").is_selected()
    finally:
        page.run("localStorage.clear()")


def test_files_of_the_page_are_strict() -> None:
    """No code or style inside the page, no foreign host, every file that is named is there, and small."""
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert not re.findall(r"<script(?![^>]*\ssrc=)", html)
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        foreign = set(re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+", text)) - {"http://www.w3.org"}  # an SVG's namespace
        assert not foreign, path.name
        assert not re.search(r"\beval\(|new Function|innerHTML", text), path.name
        for name in re.findall(r"""(?:from "\./|static/)([\w.-]+)""", text):
            assert (FOLDER / name).is_file(), f"{path.name} names {name}"
        if path.suffix == ".js":
            assert len(text.splitlines()) <= 360, path.name
            assert text.startswith("/**"), f"{path.name} says what it is for"


def test_every_id_that_code_names_exists() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([\w-]+)"', html)
    assert len(ids) == len(set(ids))
    main = (FOLDER / "main.js").read_text(encoding="utf-8")
    assert set(re.findall(r'\$\("([\w-]+)"\)', main)) <= set(ids)
    assert set(re.findall(r'(?:for|aria-labelledby)="([\w-]+)"', html)) <= set(ids)
