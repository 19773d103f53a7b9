"""Names of output files: sources of one name never overwrite each other, and nothing overwrites a source."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MARK", "OutputNames", "fitting_name", "is_annotated", "source_name"]

MARK = ".poses"
"""What the name of an annotated file gets before its suffix."""

_LONGEST = 255  # bytes of a file name on the common file systems


def source_name(path: Path) -> str:
    r"""Return how outputs name a source: its path as the user gave it, with forward slashes, always valid text.

    Bytes of a name that are not UTF-8 are shown as ``\xNN``.

    Example:
        >>> source_name(Path("cam1/0001.jpg"))
        'cam1/0001.jpg'
        >>> print(source_name(Path(os.fsdecode(b"caf\xe9.jpg"))))
        caf\xe9.jpg
    """
    text = path.as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    return text


def is_annotated(path: Path, named: Path | None = None) -> bool:
    """Return True for a name that an earlier run gave to an annotated file or its folder, finished or not.

    Args:
        path: The file.
        named: The folder that the user named, which may itself hold annotated files.

    Example:
        >>> [is_annotated(Path(name)) for name in ("a.poses.jpg", "a.poses.interrupted.mp4", "b.poses/a.jpg")]
        [True, True, True]
        >>> is_annotated(Path("out.unfinished-1a2b3c4d.mp4")), is_annotated(Path("poses.jpg"))
        (True, False)
    """
    stem = re.sub(r"\.interrupted(-\d+)?$", "", path.stem)
    unfinished = re.search(r"\.unfinished-[0-9a-f]{8}$", stem)
    return stem.endswith(MARK) or unfinished is not None or (path.parent.name.endswith(MARK) and path.parent != named)


def fitting_name(stem: str, end: str) -> str:
    """Return ``stem + end``, with the stem cut where the name would be too long for the file system.

    A cut name holds a digest of the whole one, so that long names which differ late stay apart.

    Example:
        >>> fitting_name("photo", ".poses.jpg")
        'photo.poses.jpg'
        >>> name = fitting_name("ä" * 130, ".poses.jpg")
        >>> len(os.fsencode(name)), name[-20:]
        (255, 'ä~ad486372.poses.jpg')
    """
    room = _LONGEST - len(os.fsencode(end))
    data = os.fsencode(stem)
    if len(data) <= room:
        return stem + end
    digest = f"~{hashlib.sha256(data).hexdigest()[:8]}"
    cut = data[: room - len(digest)]
    while cut and data[len(cut)] & 0xC0 == 0x80:  # not in the middle of a character
        cut = cut[:-1]
    return os.fsdecode(cut) + digest + end


class OutputNames:
    """Gives every name once in a run; the second ``photo.jpg`` becomes ``photo-2.jpg``.

    Args:
        protected: Files that must survive, usually the sources.

    Example:
        >>> names = OutputNames()
        >>> [names.take(Path("out"), "photo", end).name for end in (".jpg", ".jpg", ".JPG", "_keypoints.json")]
        ['photo.jpg', 'photo-2.jpg', 'photo-3.JPG', 'photo_keypoints.json']
    """

    def __init__(self, protected: Iterable[Path] = ()) -> None:
        self._taken = {_key(path) for path in protected}
        self._folders: dict[Path, Path] = {}

    def take(self, folder: Path, stem: str, end: str) -> Path:
        """Return ``folder/stem + end``, or the next free name like it.

        Args:
            folder: Where the file will be.
            stem: The part that a number is added to, and that is cut where the name is too long.
            end: What the name must end with.
        """
        number, candidate = 1, folder / fitting_name(stem, end)
        while (key := self._quick_key(candidate)) in self._taken:
            number += 1
            candidate = folder / fitting_name(f"{stem}-{number}", end)
        self._taken.add(key)
        return candidate

    def is_taken(self, path: Path) -> bool:
        """Return True for a name that was given or is protected."""
        return _key(path) in self._taken

    def add(self, path: Path) -> None:
        """Take a name that is given."""
        self._taken.add(_key(path))

    def _quick_key(self, path: Path) -> str:
        # A link in the folder is an output's target and must be resolved; the folder is resolved once.
        if path.is_symlink():
            return _key(path)
        folder = self._folders.get(path.parent)
        if folder is None:
            folder = self._folders[path.parent] = path.parent.resolve()
        return str(folder / path.name).casefold()


def _key(path: Path) -> str:
    # Case is folded even where the file system keeps it: the files may be copied to one that does not.
    try:
        return str(path.resolve()).casefold()
    except (OSError, RuntimeError):  # a link that leads to itself
        return str(path.absolute()).casefold()
