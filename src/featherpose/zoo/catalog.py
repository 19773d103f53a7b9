"""Models by name, and where their files are: bundled with the package, or in the download cache."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal

import platformdirs

from featherpose.errors import ModelError
from featherpose.zoo.card import ModelCard, read_card

__all__ = ["State", "bundled_card", "cache_folder", "cards", "find_card", "list_models", "model_folder", "state"]

_HERE = Path(__file__).parent
_CARDS = _HERE / "cards"
_WEIGHTS = _HERE / "weights"

State = Literal["bundled", "fetched", "incomplete", "not fetched"]


def cache_folder() -> Path:
    """Return the folder of downloaded models: ``FEATHERPOSE_CACHE`` if set, else the system's cache folder."""
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
    """Return the card of the bundled model, ``weights/default.card.json``; None if there is none.

    Raises:
        ModelError: If the card is damaged.
    """
    path = weights / "default.card.json"
    return read_card(path.read_bytes(), path) if path.is_file() else None


def _bundled() -> dict[str, ModelCard]:
    """Return the cards of all models that come with the package, the default one first."""
    default = bundled_card()
    found_cards = sorted(_WEIGHTS.glob("*.card.json"), key=lambda path: path.name.removesuffix(".card.json"))
    more = [path for path in found_cards if path.name != "default.card.json"]
    found = ([default] if default else []) + [read_card(path.read_bytes(), path) for path in more]
    return {card.name: card for card in found}


def cards() -> dict[str, ModelCard]:
    """Return every model known by name, the bundled ones first.

    Example:
        >>> "human-pose-estimation-0001" in cards()
        True
    """
    return _bundled() | _published()


def list_models() -> list[ModelCard]:
    """Return the card of every model known by name, the bundled ones first.

    Example:
        >>> [card.name for card in list_models()][0]
        'feather'
    """
    return list(cards().values())


def find_card(name: str) -> ModelCard:
    """Return the card of a model by name.

    Raises:
        ModelError: If there is no such model.
    """
    known = cards()
    if name not in known:
        raise ModelError(f"there is no model named {name!r}", expected=f"one of {', '.join(known)}")
    return known[name]


def model_folder(card: ModelCard) -> Path:
    """Return the folder that holds (or would hold) a model's files."""
    return _WEIGHTS if card.name in _bundled() else cache_folder() / card.name


def state(card: ModelCard) -> State:
    """Return whether a model's files are present; only existence and size are checked."""
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
