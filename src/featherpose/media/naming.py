"""Names of output files: sources of one name never overwrite each other, and nothing overwrites a source."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["OutputNames"]


class OutputNames:
    """Hands out every name once in a run; the second ``photo.jpg`` becomes ``photo-2.jpg``.

    Args:
        protected: Files that must survive, usually the sources.

    Example:
        >>> names = OutputNames()
        >>> [str(names.take(Path("out") / name)) for name in ("photo.jpg", "photo.jpg", "Photo.jpg")]
        ['out/photo.jpg', 'out/photo-2.jpg', 'out/Photo-3.jpg']
    """

    def __init__(self, protected: Iterable[Path] = ()) -> None:
        self._taken = {_key(path) for path in protected}

    def take(self, path: Path) -> Path:
        """This name, or the next free one like it."""
        number, candidate = 1, path
        while _key(candidate) in self._taken:
            number += 1
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        self._taken.add(_key(candidate))
        return candidate

    def is_taken(self, path: Path) -> bool:
        """True for a name that was handed out or is protected."""
        return _key(path) in self._taken


def _key(path: Path) -> str:
    # Case is folded even where the file system keeps it: the files may be copied to one that does not.
    return str(path.resolve()).casefold()
