"""The page as a phone in the same network sees it: by TLS, under the machine's name, with a token, its own camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from page_browser import open_browser, there_and_back, video
from pose_server import Start

from featherpose.server.options import ServeOptions

TOKEN = "correct-horse-battery"


def test_the_camera_of_a_phone(
    start: Start, certified: tuple[Path, Path], walk: Path, astronaut: np.ndarray, tmp_path: Path
) -> None:
    moving = [astronaut[20 : 20 + 432, 2 * shift : 2 * shift + 432] for shift in range(40)]
    camera = video(tmp_path / "video.mjpeg", there_and_back(moving))
    # The certificate is accepted as its user does, once; the name is not one of loopback.
    strange = ["--host-resolver-rules=MAP pose.test 127.0.0.1", "--ignore-certificate-errors"]
    certificate, key = certified
    options = ServeOptions(
        token=TOKEN, certificate=certificate, key=key, allowed_hosts=("pose.test",), sources={"walk": str(walk)}
    )
    with start(options) as server, open_browser(tmp_path, camera=camera, arguments=strange) as page:
        page.set_screen(390, 844, 2, phone=True)
        page.open(f"https://pose.test:{server.port}/#source=walk&token={TOKEN}")
        page.until(lambda: page.ids, "somebody in the source has an id")
        assert TOKEN not in page.driver.current_url
        page.click("camera")
        page.until(lambda: page.text("status") == "The camera is running.", "the camera is given to a secure page")
        page.until(lambda: page.ids, "somebody before the camera has an id")
        assert page.run("return document.documentElement.scrollWidth") == 390
        assert page.problem == ""
        assert page.complaints() == []
