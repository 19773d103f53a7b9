"""Files that appear under their name only when they are whole.

A result is written to a hidden neighbour and renamed at the end; renaming within one folder is atomic, so whoever
opens the name finds the old file or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from featherpose.errors import OutputError

__all__ = ["check_writable", "make_folder", "output_error", "part_path", "replacing", "write_bytes"]


def output_error(path: Path, error: OSError) -> OutputError:
    """What to tell someone whose file could not be written.

    Example:
        >>> output_error(Path("poses.jsonl"), OSError(errno.ENOSPC, "No space left on device"))
        OutputError('poses.jsonl cannot be written: the disk is full; free some space or choose another place')
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{path} cannot be written: the disk is full", hint="free some space or choose another place"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{path} cannot be written: permission denied", hint="choose a folder that you may write to")
    if error.errno == errno.EFBIG:
        return OutputError(f"{path} cannot be written: it is larger than this disk or user may hold")
    if isinstance(error, IsADirectoryError):
        return OutputError(f"{path} cannot be written: it is a folder", expected="the name of a file")
    return OutputError(f"{path} cannot be written: {error.strerror or error}")


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they exist.

    Raises:
        OutputError: If that is impossible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(p for p in (path, *path.parents) if p.is_file())
        raise OutputError(f"{file} is a file", expected="a folder, or a name that is free") from error
    except OSError as error:
        raise output_error(path, error) from error


def check_writable(path: Path) -> None:
    """Find out beforehand what would keep a file from being written; nothing is made.

    Raises:
        OutputError: If the name is a folder's, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise output_error(path, IsADirectoryError(errno.EISDIR, "is a folder"))
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise OutputError(f"{there} is a file", expected="a folder, or a name that is free")
    if not os.access(there, os.W_OK | os.X_OK):
        raise output_error(path, PermissionError(errno.EACCES, "permission denied"))


def part_path(path: Path) -> Path:
    """The hidden neighbour that a file is written to; it keeps the suffix, by which writers choose their format.

    Example:
        >>> part_path(Path("out/clip.mp4")).suffix
        '.mp4'
    """
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it on success, remove it on failure.

    Raises:
        OutputError: If writing fails for a reason of the file system.
    """
    make_folder(path.parent)
    part = part_path(path)
    try:
        yield part
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file at once, atomically.

    Raises:
        OutputError: If the file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(data)
