"""Every option that a page names exists in the command it is named for, and in some command where none is named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from cyclopts import App

from featherpose.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
CODE = re.compile(
    r"^```(?P<language>\w*)\n(?P<block>.*?)^```|`(?P<span>[^`\n]+(?:\n[^`\n]+)?)`", re.MULTILINE | re.DOTALL
)
# Every command has these.
COMMON = {"--help", "-h", "--version"}
# Options of the scripts in benchmarks/, which pages name beside the figures they made.
SCRIPTS = {
    option
    for script in (ROOT / "benchmarks").glob("*.py")
    for option in re.findall(r'"(--[a-z][a-z0-9-]+)"', script.read_text(encoding="utf-8"))
}


@cache
def commands() -> dict[tuple[str, ...], frozenset[str]]:
    """Words of a command -> the options it takes, asked of the command line itself."""

    def collect(group: App, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
        for name in group:
            if name.startswith("-"):
                continue
            command = group[name]
            if command.default_command is not None:
                arguments = command.assemble_argument_collection()
                names = {str(n) for a in arguments for n in (*a.names, *a.negatives) if str(n).startswith("-")}
                yield (*words, name), frozenset(names | COMMON)
            yield from collect(command, (*words, name))

    return dict(collect(app, ()))


def invocations(page: Path) -> Iterator[tuple[str, tuple[str, ...] | None, set[str]]]:
    """(text, command or None for an option alone, options) of each place where a page names options."""
    for match in CODE.finditer(page.read_text(encoding="utf-8")):
        text = match["block"] if match["span"] is None else match["span"].replace("\n", " ")
        if match["span"] is None and match["language"] != "bash":
            continue
        for line in text.replace("\\\n", " ").splitlines():
            if line.lstrip().startswith("--") and match["span"] is not None:
                yield line, None, set(re.findall(r"--[a-z][a-z0-9-]+", line))
            for called in re.finditer(r"(?:^|[\s(])featherpose\s+([a-z][^|;&)#]*)", line):
                words = shlex.split(called[1].replace("'", '"').replace('"', ""))
                command = next((tuple(words[:n]) for n in (2, 1) if tuple(words[:n]) in commands()), None)
                if command is not None:
                    options = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
                    yield line, command, options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_of_a_page_exist(page: Path) -> None:
    anywhere = frozenset().union(*commands().values()) | SCRIPTS
    for text, command, options in invocations(page):
        known = anywhere if command is None else commands()[command]
        assert options <= known, f"{sorted(options - known)} in {text!r}"


def test_the_pages_do_name_options() -> None:
    found = [place for page in PAGES for place in invocations(page)]
    assert len({command for _, command, _ in found if command}) > 12
    assert sum(len(options) for *_, options in found) > 100


def test_the_commands_tell_their_options() -> None:
    assert {"--jsonl", "--no-track", "--tiles", "-o"} <= commands()["predict",]
    assert "--offline" in commands()["models", "fetch"]
    assert "--config" not in commands()["predict",]
