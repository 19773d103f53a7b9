"""Every configuration key that a page names exists: in TOML blocks, in ``--set``, and as ``table.key`` in the text."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

pytest.importorskip("torch")

from featherpose.methods import METHODS
from featherpose.training.config import TrainConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")])
# Shipped configurations are read by tests/training; recipes are not run by any test.
RECIPES = sorted((ROOT / "benchmarks/recipes").rglob("*.toml"))
TARGETS = frozenset(field.name for method in METHODS for field in dataclasses.fields(method.Targets))


def dataclass_of(kind: Any) -> type | None:
    """Return the dataclass in an annotation such as ``X | None`` or ``tuple[X, ...]``."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return kind
    return next((found for part in get_args(kind) if (found := dataclass_of(part)) is not None), None)


def unknown_keys(values: Mapping[str, Any], kind: type, where: str = "") -> Iterator[str]:
    """Yield the dotted keys that the dataclass does not have."""
    hints = get_type_hints(kind)
    for key, value in values.items():
        path = f"{where}{key}"
        if path == "data.targets":
            yield from (f"{path}.{name}" for name in value if name not in TARGETS)
        elif key not in hints:
            yield path
        elif (inner := dataclass_of(hints[key])) is not None:
            for table in value if isinstance(value, list) else [value]:
                yield from unknown_keys(table, inner, f"{path}.")


def all_keys(kind: type = TrainConfig, where: str = "") -> Iterator[str]:
    """Yield every dotted key of a configuration."""
    for name, hint in get_type_hints(kind).items():
        yield f"{where}{name}"
        if (inner := dataclass_of(hint)) is not None:
            yield from all_keys(inner, f"{where}{name}.")
        elif name == "targets":
            yield from (f"{where}{name}.{target}" for target in TARGETS)


KEYS = frozenset(all_keys())
# Extras of the package are written like tables.
EXTRAS = frozenset(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
TABLES = "|".join(sorted({key.partition(".")[0] for key in KEYS}))


def is_configuration(block: str) -> bool:
    """Return whether a TOML block configures training; others are skeletons or calibrations."""
    return not block.startswith("# file:") and not set(tomllib.loads(block)) & {"keypoints", "limbs", "matrix"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_keys_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if is_configuration(block):
            assert list(unknown_keys(tomllib.loads(block), TrainConfig)) == [], block
    named = re.findall(r"--set ([a-z_.0-9]+)=", text)
    named += re.findall(rf"`((?:{TABLES})\.(?!yaml|json)[a-z_0-9]+(?:\.[a-z_0-9]+)?)`", text)
    assert set(named) <= KEYS, sorted(set(named) - KEYS)
    tables = {key for key in KEYS if "." not in key}
    assert set(re.findall(r"`\[([a-z_0-9]+)\]`", text)) <= tables | EXTRAS


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_a_configuration(recipe: Path) -> None:
    assert list(unknown_keys(tomllib.loads(recipe.read_text(encoding="utf-8")), TrainConfig)) == []
    assert load_config(recipe).data.sources


def test_the_check_sees_what_is_wrong() -> None:
    assert {"run.batch_size", "optimizer.wise_ft_alpha", "data.targets.sigma_px", "data.augment.flip"} <= KEYS
    wrong = {"run": {"batch": 1}, "data": {"targets": {"sigma": 7}, "sources": [{"image": "x"}]}}
    assert list(unknown_keys(wrong, TrainConfig)) == ["run.batch", "data.targets.sigma", "data.sources.image"]
