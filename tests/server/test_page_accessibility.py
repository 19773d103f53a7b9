"""axe-core (MPL-2.0, a tool of the tests only) looks at the pages as those see them who cannot see them well."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from page_browser import Page, open_browser
from pose_server import Running

from featherpose.cli.main import run
from featherpose.demo import PHOTOGRAPH

# What axe calls serious and critical keeps somebody from using the page.
RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ["violations"] }).then(
  ({ violations, passes }) => done([violations.map(({ id, impact, help, nodes }) =>
    [impact, id, help, ...nodes.slice(0, 3).map(({ html }) => html)]), axe.version]),
  (error) => done(String(error)),
);
"""


@pytest.fixture(scope="module")
def axe() -> str:
    found = find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("axe-core is not here: scripts/task setup installs the package that carries it")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("downloads")) as page:
        yield page


def violations(page: Page, axe: str) -> list[list[str]]:
    """Everything that axe finds, of any weight."""
    page.run(axe)
    found = page.driver.execute_async_script(RUN)
    assert isinstance(found, list), found
    listed: list[list[str]] = found[0]
    return listed


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_every_state(page: Page, server: Running, axe: str, scheme: str, tmp_path: Path) -> None:
    page.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.open(f"{server.url}/")
    page.until(lambda: page.text("server") == server.service.model_name, "the server is found")
    assert violations(page, axe) == []
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / name).write_bytes(PHOTOGRAPH.read_bytes())
    page.find("file").send_keys("\n".join(str(tmp_path / name) for name in ("one.jpg", "two.jpg")))
    page.until(lambda: page.text("status") == "2 images are done.", "the gallery is full")
    assert violations(page, axe) == []
    page.click("camera")
    page.until(lambda: page.text("status") == "The camera is running.", "the camera runs")
    page.drop("notes.txt", "text/plain", b"hello")
    page.until(lambda: page.problem, "a problem is shown")
    assert violations(page, axe) == []
    page.click("stop")


def test_the_report_of_motion(page: Page, axe: str, walk: Path, tmp_path: Path) -> None:
    assert run(["motion", str(walk), "-o", str(tmp_path / "report")]) == 0
    (report,) = (tmp_path / "report").rglob("*.html")
    for scheme in ("light", "dark"):
        page.prefer(prefers_color_scheme=scheme)
        page.driver.get(report.as_uri())
        assert violations(page, axe) == []
