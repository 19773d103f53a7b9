"""Reference pages: every public name is in the API pages, the table of thresholds is the options class."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

from script_modules import load_script

import featherpose
import featherpose.errors

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "docs/reference/api"


def directives() -> list[str]:
    """Names that mkdocstrings is asked for, over all pages."""
    return [name for page in API.glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]


def test_every_public_name_is_in_the_api_reference_once() -> None:
    public = {f"featherpose.{name}" for name in featherpose.__all__} - {"featherpose.__version__"}
    named = directives()
    assert len(named) == len(set(named))
    assert set(named) - {"featherpose.errors"} == public


def test_every_error_is_in_the_api_reference() -> None:
    members = re.search(r"members: \[(.*)\]", (API / "errors.md").read_text())
    assert members
    assert set(members[1].split(", ")) | {"FeatherposeError", "MissingExtraError"} == set(featherpose.errors.__all__)


def test_every_api_page_is_linked_from_the_start_page() -> None:
    start = (ROOT / "docs/README.md").read_text()
    for page in API.glob("*.md"):
        assert f"(reference/api/{page.name})" in start


def thresholds() -> ModuleType:
    return load_script("scripts/thresholds_table.py")


def test_the_table_of_thresholds_is_that_of_the_options_class() -> None:
    module = thresholds()
    page = module.PAGE.read_text(encoding="utf-8")
    assert module.renewed(page) == page, "run: python scripts/thresholds_table.py"
    assert module.renewed(page.replace("| 0.15 |", "| 0.25 |", 1)) == page
