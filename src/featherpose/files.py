"""Files that get their name only when they are complete.

A result is written to a temporary file beside its target, which is renamed at the end; renaming within one folder is
atomic, so a reader of the name finds the old file or the new one, never a part of either.

- Temporary names are random and opened exclusively (``O_EXCL``, ``O_NOFOLLOW``), so a prepared link is not followed.
- A symbolic link is followed: its target is replaced, the link stays. Devices and pipes are written straight into.
- A file that is replaced passes on its mode and, where the user may do that, its owner.
- A temporary file is locked while its process lives. One without a lock was left by a process that was killed:
  hidden ones are removed by the next run in the folder, those that grow (``clip.unfinished-1a2b3c4d.mp4``) are adopted.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from featherpose.errors import OutputError
from featherpose.output_names import fitting_name

__all__ = [
    "PartFile", "check_writable", "is_special", "keep_interrupted", "make_folder", "output_error", "replacing",
    "unfinished_parts", "write_bytes",
]  # fmt: skip

fcntl: Any = None
with contextlib.suppress(ImportError):  # Windows has no such module, and lets no open file be removed anyway
    fcntl = importlib.import_module("fcntl")

_HIDDEN = re.compile(r"\..*\.featherpose-[0-9a-f]{8}(\.[^.]*)?")
_swept: set[Path] = set()


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the message for a file that could not be written.

    Example:
        >>> output_error(Path("poses.jsonl"), OSError(errno.ENOSPC, "No space left on device"))
        OutputError('poses.jsonl cannot be written: the disk is full; free some space or choose another place')
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{path} cannot be written: the disk is full", hint="free some space or choose another place"
        )
    if error.errno == errno.EROFS:
        return OutputError(
            f"{path} cannot be written: its file system is read-only", hint="choose a folder that you may write to"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return OutputError(f"{path} cannot be written: permission denied", hint="choose a folder that you may write to")
    if error.errno == errno.EFBIG:
        return OutputError(f"{path} cannot be written: it is larger than this disk or user may hold")
    if isinstance(error, IsADirectoryError):
        return OutputError(f"{path} cannot be written: it is a folder", expected="the name of a file")
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{path} cannot be written: its folder was removed while the command ran")
    return OutputError(f"{path} cannot be written: {error.strerror or error}")


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they exist.

    Raises:
        OutputError: If that is impossible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), path)
        raise OutputError(f"{file} is a file", expected="a folder, or a name that is free") from error
    except OSError as error:
        raise output_error(path, error) from error


def check_writable(path: Path) -> None:
    """Check in advance what would keep a file from being written; nothing is created.

    Raises:
        OutputError: If the name is a folder's, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise output_error(path, IsADirectoryError(errno.EISDIR, "is a folder"))
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise OutputError(f"{there} is a file", expected="a folder, or a name that is free")
    if not os.access(there, os.W_OK | os.X_OK):
        number = errno.EROFS if _is_read_only(there) else errno.EACCES
        raise output_error(path, OSError(number, os.strerror(number)))


def _is_read_only(folder: Path) -> bool:
    statvfs = getattr(os, "statvfs", None)  # Windows has none
    return statvfs is not None and bool(statvfs(folder).f_flag & os.ST_RDONLY)


def is_special(path: Path) -> bool:
    """Return True for a path that exists and is neither a file nor a folder: a device, a pipe, a socket.

    Example:
        >>> is_special(Path(os.devnull)), is_special(Path("no such file"))
        (True, False)
    """
    found = _stat(path)
    return found is not None and _is_special(found.st_mode)


def _is_special(mode: int) -> bool:
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _stat(path: Path) -> os.stat_result | None:
    """Return what a name stands for, behind links; None where there is nothing, or nothing that may be seen."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


class PartFile:
    """A file under a temporary name, which becomes the one at ``path`` by `commit`.

    Args:
        path: The final name. A symbolic link stands for its target; a device or pipe is opened itself.
        visible: Use a readable name (``clip.unfinished-1a2b3c4d.mp4``), for files that grow for a long time and are
            readable at any moment; otherwise a hidden one.
        suffix: Suffix of the temporary name, where it is not that of ``path``.
        adopt: Continue this temporary file of an earlier run (`unfinished_parts`) instead of making a new one.
        make: Make the folder unless it exists.

    Attributes:
        path: The final name as it was given.
        part: The temporary name.
        file: The open file, unbuffered, for reading and writing.
        special: Whether ``path`` is a device or pipe: nothing is renamed, and nothing can be written twice.

    Raises:
        OutputError: If no file can be made there.
    """

    def __init__(
        self,
        path: Path,
        *,
        visible: bool = False,
        suffix: str | None = None,
        adopt: Path | None = None,
        make: bool = True,
    ) -> None:
        self.path = path
        self._renamed = False
        if make:
            make_folder(path.parent)
        try:
            # One look at the name, since there may be a file for each frame; links and special files get a second one.
            before = _stat(path)
            self.special = before is not None and _is_special(before.st_mode)
            if before is not None and stat.S_ISDIR(before.st_mode):
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            self._target = path.absolute()
            if self.special:  # what /dev/stdout stands for may have no name to resolve to
                self.part = path
                self.file = FileIO(os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)), "w")
                return
            if path.is_symlink():
                self._target = path.resolve()
                if self._target.parent != path.parent.resolve():
                    make_folder(self._target.parent)
            if adopt is not None:
                self.part = adopt
                self.file = FileIO(os.open(adopt, os.O_RDWR | _FLAGS), "r+")
                _lock(self.file.fileno())
                return
            if not visible:
                _sweep(self._target.parent)
            self.part, self.file = _create(self._target, visible, self._target.suffix if suffix is None else suffix)
            if before is not None:
                self._inherit(before)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself, before Python 3.13
            raise output_error(path, error if isinstance(error, OSError) else OSError(str(error))) from error

    @property
    def shown(self) -> Path:
        """Return the temporary name in the folder as the user gave it."""
        return self.part if self.path.is_symlink() else self.path.with_name(self.part.name)

    def _inherit(self, before: os.stat_result) -> None:
        """Take over mode and owner of the file that will be replaced."""
        with contextlib.suppress(OSError):
            if hasattr(os, "fchmod"):
                os.fchmod(self.file.fileno(), stat.S_IMODE(before.st_mode))
            now = os.fstat(self.file.fileno())
            if hasattr(os, "fchown") and (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
                os.fchown(self.file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(self.file.fileno(), stat.S_IMODE(before.st_mode))  # a change of owner clears set-id bits

    def commit(self) -> None:
        """Close the file and give it its final name.

        Raises:
            OutputError: If that fails; the folder may have been removed.
        """
        try:
            if not self.special:
                self.part.replace(self._target)
                self._renamed = True
            self.file.close()
        except OSError as error:
            taken = self._target.is_dir()
            raise output_error(self.path, IsADirectoryError(errno.EISDIR, "is a folder") if taken else error) from error

    def discard(self) -> None:
        """Close and remove the temporary file, unless it has its final name already; never fails."""
        with contextlib.suppress(OSError):
            if not self.special and not self._renamed:
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(self.part.stat(), os.fstat(self.file.fileno())):
                        self.part.unlink()
        with contextlib.suppress(OSError, ValueError):
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.file.closed:
            self.discard()


_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _create(target: Path, visible: bool, suffix: str) -> tuple[Path, FileIO]:
    for _ in range(100):
        token = secrets.token_hex(4)
        stem = target.stem if suffix == target.suffix else target.name
        name = (
            fitting_name(stem, f".unfinished-{token}{suffix}")
            if visible
            else fitting_name(f".{stem}", f".featherpose-{token}{suffix}")
        )
        part = target.with_name(name)
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
        except FileExistsError:
            continue
        file = FileIO(descriptor, "r+")
        # Another process that cleans the folder may have seen the file before it was locked.
        if _lock(descriptor) and part.exists():
            return part, file
        file.close()
    raise FileExistsError(errno.EEXIST, "no free temporary name")


def _lock(descriptor: int) -> bool:
    """Return False if another process holds the file; file systems without locks count as free."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_stale(part: Path) -> bool:
    """Return True if no living process writes to the file."""
    if fcntl is None:
        return True
    try:
        with FileIO(os.open(part, os.O_RDWR | _FLAGS), "r+") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the hidden temporary files that killed processes left in a folder; once for each folder and process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == "." and _HIDDEN.fullmatch(entry.name) and _is_stale(Path(entry.path)):
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()


def unfinished_parts(path: Path, suffix: str | None = None) -> list[Path]:
    """Return the visible temporary files that killed runs left of an output, oldest first.

    Args:
        path: Final name of the output.
        suffix: Suffix of the temporary names, where it is not that of ``path``.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        suffix = target.suffix if suffix is None else suffix
        stem = target.stem if suffix == target.suffix else target.name
        # The name as `_create` makes it, with the random part left open.
        like = re.escape(fitting_name(stem, f".unfinished-{'0' * 8}{suffix}")).replace("0" * 8, "[0-9a-f]{8}")
        found = [p for p in target.parent.iterdir() if re.fullmatch(like, p.name) and _is_stale(p)]
        return sorted(found, key=lambda p: p.stat().st_mtime)
    except (OSError, RuntimeError):
        return []


def keep_interrupted(part: Path, path: Path, suffix: str | None = None) -> Path:
    """Give what a killed run left of an output a lasting name: ``clip.interrupted.mp4``, or the next free one.

    Args:
        part: The temporary file, complete.
        path: Final name of the output.
        suffix: Suffix of the new name, where it is not that of ``path``.

    Raises:
        OSError: If it cannot be renamed.
    """
    suffix = path.suffix if suffix is None else suffix
    number, kept = 1, part.with_name(fitting_name(path.stem, f".interrupted{suffix}"))
    while kept.exists():
        number += 1
        kept = part.with_name(fitting_name(path.stem, f".interrupted-{number}{suffix}"))
    return part.rename(kept)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it on success, remove it on failure.

    Raises:
        OutputError: If writing fails for a reason of the file system.
    """
    part = PartFile(path)
    try:
        yield part.part
        part.commit()
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        part.discard()


def write_bytes(path: Path, data: bytes, *, make: bool = True) -> None:
    """Write a whole file at once, atomically.

    Args:
        path: The file.
        data: All of it.
        make: Make the folder unless it exists; False where it was made before and its absence is an error.

    Raises:
        OutputError: If the file cannot be written.
    """
    part = PartFile(path, make=make)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[part.file.write(rest) :]
        part.commit()
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        part.discard()
