"""Cache of compiled networks between processes, so that only the first start on a machine compiles."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import platformdirs

__all__ = ["compiled_cache"]

_logger = logging.getLogger(__name__)
# Each model with each set of options is one file of about the model's size; the longest unused go first.
_KEPT_FILES = 24
# Compiling a network smaller than this is too fast to be worth a file.
_WORTH_KEEPING_BYTES = 500_000


def compiled_cache(model: Path, engine: str) -> Path | None:
    """Return a writable folder for the compiled form of a model; None if caching is not worth it or impossible.

    Engines recognize files of another version, processor or option, and damaged ones, and compile anew.

    Args:
        model: The model file; its weights may lie beside it as ``.bin``.
        engine: Name of the subfolder.
    """
    weights = model.with_suffix(".bin")
    if (weights if weights.is_file() else model).stat().st_size < _WORTH_KEEPING_BYTES:
        return None
    folder = platformdirs.user_cache_path("featherpose", appauthor=False) / engine
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        _drop_oldest(folder)
    except OSError as error:
        _logger.debug("compiled networks are not kept: %s", error)
        return None
    return folder


def _drop_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.blob"), key=lambda file: file.stat().st_atime, reverse=True)
    for file in files[_KEPT_FILES:]:
        file.unlink(missing_ok=True)
