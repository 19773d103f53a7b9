"""Which models there are by name, and where their files lie: bundled with the package, or in the download cache."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal

import platformdirs

from featherpose.errors import ModelError
from featherpose.zoo.card import ModelCard, read_card

__all__ = ["State", "bundled_card", "cache_folder", "cards", "find_card", "model_folder", "state"]

_HERE = Path(__file__).parent
_CARDS = _HERE / "cards"
_WEIGHTS = _HERE / "weights"

State = Literal["bundled", "fetched", "incomplete", "not fetched"]


def cache_folder() -> Path:
    """Where downloaded models are kept: ``FEATHERPOSE_CACHE`` if set, else the system's place for caches."""
    override = os.environ.get("FEATHERPOSE_CACHE")
    root = (
        Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("featherpose", appauthor=False))
    )
    return root / "models"


@cache
def _published() -> dict[str, ModelCard]:
    found = [read_card(path.read_bytes(), path.name) for path in sorted(_CARDS.glob("*.json"), key=lambda p: p.stem)]
    return {card.name: card for card in found}


def bundled_card(weights: Path = _WEIGHTS) -> ModelCard | None:
    """The card of the model that comes with the package: ``weights/default.card.json``; None if there is none.

    Raises:
        ModelError: If the card is damaged.
    """
    path = weights / "default.card.json"
    return read_card(path.read_bytes(), path) if path.is_file() else None


def cards() -> dict[str, ModelCard]:
    """Every model known by name, the bundled one first.

    Example:
        >>> "human-pose-estimation-0001" in cards()
        True
    """
    bundled = bundled_card()
    return ({bundled.name: bundled} if bundled else {}) | _published()


def find_card(name: str) -> ModelCard:
    """The card of a model by name.

    Raises:
        ModelError: If there is no such model.
    """
    known = cards()
    if name not in known:
        raise ModelError(f"there is no model named {name!r}", expected=f"one of {', '.join(known)}")
    return known[name]


def model_folder(card: ModelCard) -> Path:
    """The folder that holds (or would hold) a model's files."""
    bundled = bundled_card()
    return _WEIGHTS if bundled is not None and bundled.name == card.name else cache_folder() / card.name


def state(card: ModelCard) -> State:
    """Whether a model's files are here; only their presence and size are looked at."""
    folder = model_folder(card)
    if folder == _WEIGHTS:
        return "bundled"
    present = [_is_whole(folder / file.name, file.size) for file in card.files]
    if all(present):
        return "fetched"
    return (
        "incomplete" if any(present) or any((folder / f"{f.name}.part").exists() for f in card.files) else "not fetched"
    )


def _is_whole(path: Path, size: int | None) -> bool:
    return path.is_file() and (path.stat().st_size == size if size is not None else path.stat().st_size > 0)
