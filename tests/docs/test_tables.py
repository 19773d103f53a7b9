"""Tables of the pages tell the figures of benchmarks/results, not others."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from script_modules import load_script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load_script("benchmarks/tables.py")


def test_pages_say_what_was_measured(tables: ModuleType) -> None:
    found = []
    for page in tables.PAGES:
        _, changed = tables.renewed(page.read_text(encoding="utf-8"))
        assert not changed, f"{page.name}: {', '.join(changed)} differ; run: python benchmarks/tables.py"
        found += tables._TABLE.findall(page.read_text(encoding="utf-8"))
    assert {name for _, name, *_ in found} >= {"accuracy", "speed", "postprocessing", "pipeline", "roofline", "pareto"}


def test_another_figure_is_noticed(tables: ModuleType) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.renewed(page.replace("<!-- table: speed -->\n", "<!-- table: speed -->\n| more |\n"))[1] == ["speed"]
    with pytest.raises(SystemExit, match="there is no table 'nothing'"):
        tables.renewed("<!-- table: nothing -->\n<!-- end of table -->")


@pytest.mark.parametrize(("value", "text"), [(0.4419, "0.442"), (38.42, "38.4"), (1181.4, "1180"), (999.9, "1000")])
def test_three_digits(tables: ModuleType, value: float, text: str) -> None:
    assert tables.short(value) == text
