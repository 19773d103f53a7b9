"""A real Chromium for the tests of the page: headless, with a camera that plays a video, or without one."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

__all__ = ["Page", "decode_png", "open_browser", "there_and_back", "video"]

_PATIENCE_S = 90.0  # the machine may be busy with something else

# Counts, for every socket of the page, frames that are not answered yet, and keeps the largest number.
_COUNT_UNANSWERED = """
window.mostUnanswered = 0;
window.framesSent = 0;
window.socketsOpened = 0;
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...given) {
    super(...given);
    this.unanswered = 0;
    window.socketsOpened += 1;
    this.addEventListener("message", ({ data }) => {
      const { type, frame } = JSON.parse(data);
      if (["poses", "dropped", "error"].includes(type) && frame !== null) this.unanswered -= 1;
    });
  }
  send(data) {
    if (typeof data !== "string") {
      this.unanswered += 1;
      window.framesSent += 1;
      window.mostUnanswered = Math.max(window.mostUnanswered, this.unanswered);
    }
    super.send(data);
  }
};
"""


class Page:
    """The page in a browser."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, address: str) -> None:
        """Load the page with nothing remembered."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def find(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", name))

    def run(self, script: str, *given: object) -> Any:
        return self.driver.execute_script(script, *given)

    def module(self, script: str, *given: object) -> Any:
        """Run an async function body that may import the page's modules; the arguments are its ``given``."""
        body = (
            "const done = arguments[arguments.length - 1]; const given = Array.from(arguments).slice(0, -1);"
            f"(async () => {{ {script} }})().then(done, (error) => done(`FAILED ${{error.stack}}`));"
        )
        result = self.driver.execute_async_script(body, *given)
        assert not (isinstance(result, str) and result.startswith("FAILED")), result
        return result

    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""
        ActionChains(self.driver).send_keys(key).perform()

    def click(self, name: str) -> None:
        """Click by script: where a control lies under the fold is another test's matter."""
        self.run("document.getElementById(arguments[0]).click()", name)

    def until(self, condition: Callable[[], object], what: str) -> Any:
        """Wait until something is true; the value that it had then."""
        waiting = WebDriverWait(self.driver, _PATIENCE_S, poll_frequency=0.1)
        try:
            return waiting.until(lambda _driver: condition())
        except TimeoutException:
            raise AssertionError(f"never: {what}; the page says: {self._state()}") from None

    def _state(self) -> dict[str, str]:
        return {name: self.text(name) for name in ("server", "status", "people", "problem-what", "problem-hint")}

    @property
    def ids(self) -> list[int]:
        shown = self.run("return document.getElementById('roster').dataset.ids ?? ''")
        return [int(number) for number in str(shown).split()]

    @property
    def problem(self) -> str:
        """What the page complains about, empty if nothing."""
        if self.run("return document.getElementById('problem').hidden"):
            return ""
        return f"{self.text('problem-what')} {self.text('problem-hint')}"

    @property
    def painted(self) -> int:
        """Pixels of the canvas that are drawn on."""
        script = """
        const canvas = document.getElementById("overlay");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
        return count;
        """
        return int(self.run(script))

    def stage(self) -> np.ndarray:
        """uint8[H, W, 3] BGR, what is seen of the stage."""
        return decode_png(self.find("stage").screenshot_as_png)

    def drop(self, name: str, kind: str, data: bytes) -> None:
        """Drop a file from the desktop onto the page."""
        script = """
        const [name, type, text] = arguments;
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, { type }));
        const event = (kind) => new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
        document.getElementById("stage").dispatchEvent(event("dragover"));
        document.getElementById("stage").dispatchEvent(event("drop"));
        """
        self.run(script, name, kind, base64.b64encode(data).decode())

    def set_screen(self, width: int, height: int, ratio: float = 1.0, *, phone: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, **features: str) -> None:
        """Media features, such as ``prefers_color_scheme="dark"``."""
        given = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": given})

    def complaints(self) -> list[str]:
        """What the browser's console got that is worse than a remark, since the last call."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in ("SEVERE", "WARNING") and "getImageData" not in entry["message"]  # our own reading
        ]


@contextmanager
def open_browser(
    downloads: Path,
    *,
    camera: Path | None = None,
    device: bool = True,
    refuse: bool = False,
    arguments: Sequence[str] = (),
) -> Iterator[Page]:
    """A browser with a profile of its own; skips the test where there is none.

    Args:
        downloads: Where it puts files.
        camera: A video (.mjpeg) that its camera shows.
        device: Whether it has a camera at all.
        refuse: Whether the user refuses the camera.
        arguments: Further arguments of its command line.
    """
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_binary = shutil.which("chromedriver")
    if binary is None or driver_binary is None:
        pytest.skip("no Chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = Options()
    options.binary_location = binary
    given = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1360,900"]
    if device:
        given.append("--use-fake-device-for-media-stream")
    given.append("--deny-permission-prompts" if refuse else "--use-fake-ui-for-media-stream")
    if camera is not None:
        given.append(f"--use-file-for-fake-video-capture={camera}")
    for argument in [*given, *arguments]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options=options, service=Service(driver_binary))
    try:
        driver.set_script_timeout(_PATIENCE_S)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _COUNT_UNANSWERED})
        yield Page(driver, downloads)
    finally:
        driver.quit()


def video(path: Path, images: Iterator[np.ndarray]) -> Path:
    """Motion JPEG as the browser's camera plays it: one JPEG after the other, over and over."""
    with path.open("wb") as file:
        for image in images:
            whole, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
            assert whole
            file.write(data.tobytes())
    return path


def there_and_back(images: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Played over and over without a jump in which everybody would be somewhere else."""
    yield from images
    yield from reversed(images[1:-1])


def decode_png(data: bytes) -> np.ndarray:
    """uint8[H, W, 3] BGR."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image
