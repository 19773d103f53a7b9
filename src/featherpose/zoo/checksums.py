"""Verification of files by their hashes: published ones, or the one recorded after the download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from featherpose.errors import ModelError
from featherpose.zoo.card import CardFile, ModelCard
from featherpose.zoo.catalog import model_folder

__all__ = ["Verdict", "check_file", "file_hash", "recorded_path", "verify_model"]

Verdict = Literal["ok", "ok, as first fetched", "ok, no hash known", "missing", "damaged"]


def file_hash(path: Path, algorithm: Literal["sha256", "sha384"]) -> str:
    """Return the hexadecimal hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def recorded_path(path: Path) -> Path:
    """Return where the hash of a file without a published one is kept."""
    return path.with_name(f"{path.name}.sha256")


def judge(path: Path, file: CardFile) -> Verdict:
    """Return the verdict on a file against its card."""
    if not path.is_file():
        return "missing"
    if file.size is not None and path.stat().st_size != file.size:
        return "damaged"
    if file.sha384 is not None and file_hash(path, "sha384") != file.sha384:
        return "damaged"
    if file.sha256 is not None and file_hash(path, "sha256") != file.sha256:
        return "damaged"
    if file.has_hash:
        return "ok"
    record = recorded_path(path)
    if not record.is_file():
        return "ok, no hash known"
    expected = record.read_text(encoding="ascii", errors="replace").split()[:1]
    return "ok, as first fetched" if expected == [file_hash(path, "sha256")] else "damaged"


def check_file(path: Path, file: CardFile, *, hint: str) -> None:
    """Raise unless a file matches its card.

    Raises:
        ModelError: If it is missing or damaged.
    """
    verdict = judge(path, file)
    if verdict == "missing":
        raise ModelError(f"there is no model file {path}", hint=hint)
    if verdict == "damaged":
        raise ModelError(f"{path} is not the file that was published: size or hash differ", hint=hint)


def verify_model(card: ModelCard) -> dict[str, Verdict]:
    """Return the verdict on each file of a model, by file name."""
    folder = model_folder(card)
    return {file.name: judge(folder / file.name, file) for file in card.files}
