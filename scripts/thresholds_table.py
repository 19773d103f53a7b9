"""Write the table of docs/reference/thresholds.md from the options class: ``python scripts/thresholds_table.py``.

The meaning of a field is its text in the docstring, so that page, ``help()`` and the API reference say the same.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from featherpose.cli.options.predict_options import PeopleOptions
from featherpose.methods.paf.decode_options import PafOptions

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/thresholds.md"
_TABLE = re.compile(r"(<!-- fields of PafOptions -->\n).*?(<!-- end of fields -->)", re.DOTALL)
_PREDICT = {field.name for field in dataclasses.fields(PeopleOptions)}
# Options of the command line that are not called as the field is.
_OTHER_NAMES = {"min_mean_score": "min_person_score"}


def table() -> str:
    """Return the table in Markdown: field, default, the papers' value, option of ``predict``, meaning."""
    meanings = _meanings()
    better, papers = PafOptions(), PafOptions.published()
    lines = ["| field | default | papers | option | meaning |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(PafOptions):
        name = _OTHER_NAMES.get(field.name, field.name)
        option = f"`--{name.replace('_', '-')}`" if name in _PREDICT else ""
        values = (_short(getattr(better, field.name)), _short(getattr(papers, field.name)))
        lines.append(f"| `{field.name}` | {' | '.join(values)} | {option} | {meanings[field.name]} |")
    return "\n".join(lines) + "\n"


def renewed(page: str) -> str:
    """Return the page with the table of today."""
    return _TABLE.sub(lambda match: match[1] + table() + match[2], page)


def _meanings() -> dict[str, str]:
    """Return field -> its text in the section "Attributes" of the docstring."""
    text = inspect.getdoc(PafOptions) or ""
    section = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(meaning.split()).replace("``", "`").replace("|", "\\|") for name, meaning in found}


def _short(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "off"}[value]
    return "∞" if value == float("inf") else f"{value:g}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
