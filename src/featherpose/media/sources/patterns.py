"""Names of files by a pattern such as ``holiday/**/*.jpg``, each file once.

`glob` follows links into every folder: one link that leads back gives each file 41 times, two give it a trillion times.
Here ``**`` enters each folder once, however many links lead to it.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.png", "far/away/b.png"):
    ...         Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
    ...         Path(folder, name).touch()
    ...     Path(folder, "far/back").symlink_to(folder)
    ...     [path.name for path in each_once(matching(f"{folder}/**/*.png"))]
    ['a.png', 'b.png']
"""

from __future__ import annotations

import glob
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["each_once", "matching"]

_SEPARATORS = f"[{re.escape(os.sep + (os.altsep or ''))}]"
_BELOW = re.compile(rf"(?:^|(?<={_SEPARATORS}))(?:\*\*(?:{_SEPARATORS}+|$))+")


def matching(pattern: str) -> Iterator[Path]:
    """Yield what fits a pattern, the nearest folders first; like `glob.glob` nothing hidden unless it is named.

    Args:
        pattern: With ``*``, ``?``, ``[a-z]``, and ``**`` for any number of folders.
    """
    below = _BELOW.search(pattern)
    if below is None:
        yield from map(Path, glob.iglob(pattern))  # noqa: PTH207 - absolute patterns
        return
    before, behind = pattern[: below.start()], pattern[below.end() :] or "*"
    for base in glob.iglob(before) if before else ("",):  # noqa: PTH207 - absolute patterns
        for folder in _folders(base):
            yield from matching(glob.escape(folder) + behind)


def each_once(files: Iterable[Path]) -> list[Path]:
    """Return each file once, by its shortest path; a file that is itself a link is one of its own."""
    folders: dict[Path, Path] = {}
    kept: dict[tuple[Path, str], Path] = {}
    for path in files:
        if path.parent not in folders:
            folders[path.parent] = path.parent.resolve()
        key = (folders[path.parent], path.name)
        if key not in kept or len(path.parts) < len(kept[key].parts):
            kept[key] = path
    return list(kept.values())


def _folders(base: str) -> Iterator[str]:
    """Yield a folder and those below it, each with a separator at its end, the nearest first and none twice."""
    seen: set[str] = set()
    waiting = deque([base])
    while waiting:
        folder = waiting.popleft()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder or os.curdir) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except OSError:  # no folder, or one that nobody may look into: nothing in it fits
            continue
        yield folder
        below = (os.path.join(folder, name, "") for name in names)  # noqa: PTH118 - an empty end is its separator
        waiting.extend(path for path in below if os.path.isdir(path))  # noqa: PTH112
