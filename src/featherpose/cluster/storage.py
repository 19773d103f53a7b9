"""Folders on disk and in object stores behind one interface, by pyarrow and fsspec.

pyarrow reads and writes local disks, S3-compatible stores, Google Cloud Storage and HDFS; every other scheme (``http``,
``abfs``, ``sftp``, …) is left to fsspec. A file is written whole or not at all: on a local disk under a temporary name
that is renamed, in an object store by one upload, which the store shows when it is complete.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from featherpose.cluster.retries import is_final, one_line, retried
from featherpose.errors import MissingExtraError, OptionError, OutputError, SourceError, StoreError
from featherpose.files import PartFile, output_error

__all__ = ["Location", "Store", "is_uri", "locate", "shown_uri"]

_T = TypeVar("_T")

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BY_PYARROW = ("s3", "gs", "gcs", "hdfs", "viewfs")
_WEB = ("http", "https")
MAX_INPUT_BYTES = 2**30
"""The most that is read of an image."""
_PIECE_BYTES = 2**24


def is_uri(text: str) -> bool:
    """Whether a source or output has a scheme, as in ``s3://bucket/folder``.

    Example:
        >>> is_uri("s3://bucket/photos"), is_uri("photos/a.jpg"), is_uri("C:/photos")
        (True, False, False)
    """
    return _URI.match(text) is not None


def shown_uri(uri: str) -> str:
    """Return an address without the query, which may hold keys, for results and messages.

    Example:
        >>> shown_uri("s3://bucket/a.jpg?endpoint_override=localhost:9000&scheme=http")
        's3://bucket/a.jpg'
    """
    return uri.partition("?")[0] if is_uri(uri) and not uri.startswith(_WEB) else uri


class Location:
    """A file or folder in a file system.

    Args:
        uri: A local path or an address.

    Attributes:
        uri: As it was given; local paths absolute.
        fs: The file system, None for the local disk.
        path: What the file system calls it.
        web: Whether it is behind HTTP, where every host may fail on its own.

    Raises:
        OptionError: If the address holds a password, or its scheme is unknown.
        MissingExtraError: If its scheme needs a package that is not installed.
        StoreError: If pyarrow refuses the address.
    """

    __slots__ = ("fs", "path", "uri", "web")

    def __init__(self, uri: str) -> None:
        self.fs: Any = None
        self.web = False
        if uri.startswith("file://"):
            uri = urlsplit(uri).path
        if not is_uri(uri):
            self.path = self.uri = str(Path(uri).absolute())
            return
        self.uri = uri
        self.web = uri.startswith(_WEB)
        self.fs, root = _file_system(_root_of(uri))
        rest = uri if self.web else shown_uri(uri)
        self.path = rest if self.web else root + rest.partition("://")[2].partition("/")[2]
        if not self.web and rest.partition("://")[0] in _BY_PYARROW:
            self.path = rest.partition("://")[2]

    @property
    def local(self) -> Path | None:
        """The path on the local disk; None elsewhere."""
        return Path(self.path) if self.fs is None else None

    @property
    def shown(self) -> str:
        """The name for people and results."""
        return shown_uri(self.uri)

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """Return the whole file, or a part of it.

        Raises:
            OSError: If that fails, or it has more than a gigabyte: a tar file may claim any size, and what a web server
                sends need not end.
        """
        if size is not None and size > MAX_INPUT_BYTES:
            raise _too_large(size)
        if self.fs is None:
            with Path(self.path).open("rb") as file:
                file.seek(offset)
                return _bounded(file) if size is None else file.read(size)
        if offset or size is not None:
            with self.fs.open_input_file(self.path) as file:
                return bytes(file.read_at(size, offset)) if size is not None else _bounded(file)[offset:]
        with self.fs.open_input_stream(self.path) as file:
            return _bounded(file)

    def open(self) -> Any:
        """Open it for reading in any order.

        Raises:
            OSError: If that fails.
        """
        return Path(self.path).open("rb") if self.fs is None else self.fs.open_input_file(self.path)


def _bounded(file: Any) -> bytes:
    """Read to the end, in pieces, so that what has no end is found out."""
    pieces, total = [], 0
    while piece := file.read(_PIECE_BYTES):
        pieces.append(bytes(piece))
        total += len(piece)
        if total > MAX_INPUT_BYTES:
            raise _too_large(total)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(size: int) -> OSError:
    return OSError(errno.EFBIG, f"it has {size:,} bytes or more; at most {MAX_INPUT_BYTES:,} are read")


def _root_of(uri: str) -> str:
    """Return the part of an address that decides on the file system: scheme, host or bucket, query."""
    parts = urlsplit(uri)
    if parts.password or (parts.username and parts.scheme in _BY_PYARROW):
        raise OptionError(
            f"the address {parts.scheme}://…@{parts.hostname or ''} holds a password, which the plan would show",
            hint="set it in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if parts.scheme in _WEB:
        return f"{parts.scheme}://"
    query = parts.query
    if parts.scheme == "s3" and "allow_delayed_open" not in query:  # small files in one request, not in parts
        query += "&allow_delayed_open=true" if query else "allow_delayed_open=true"
    return urlunsplit((parts.scheme, parts.netloc, "/", query, ""))


@lru_cache(maxsize=64)
def _file_system(root: str) -> tuple[Any, str]:
    """Return the file system of an address and what its root is called."""
    try:
        import pyarrow
        import pyarrow.fs
    except ImportError as error:
        raise MissingExtraError("reading and writing in stores", "cluster") from error
    scheme = root.partition("://")[0]
    if scheme in _BY_PYARROW:
        if scheme == "s3" and ("endpoint_override" in root or "AWS_ENDPOINT_URL" in os.environ):
            # Amazon's library sends checksums behind the data, which other stores refuse; it reads this when it starts.
            os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        try:
            fs, path = pyarrow.fs.FileSystem.from_uri(root)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise StoreError(f"{root} cannot be opened: {one_line(error)}", hint="check the address") from error
        return fs, path
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f"{scheme} addresses", "cluster") from error
    try:
        fs, path = fsspec.core.url_to_fs(root)
    except ImportError as error:
        raise OptionError(f"{scheme} addresses need a package that is not installed ({one_line(error)})") from error
    except ValueError as error:
        raise OptionError(
            f"{scheme} is no scheme that can be read", expected="a path, or s3, gs, hdfs, http(s) or one of fsspec's"
        ) from error
    except Exception as error:
        raise StoreError(f"{root} cannot be opened: {one_line(error)}") from error
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)), str(path)


@lru_cache(maxsize=256)
def locate(uri: str) -> Location:
    """Return the location of an address; recent ones are remembered."""
    return Location(uri)


class Store:
    """The folder that a run writes to.

    Args:
        uri: A local path or an address.
        patience_s: How long a store that does not answer is waited for, seconds.

    Raises:
        OptionError, StoreError, MissingExtraError: As `Location` does.
    """

    def __init__(self, uri: str, *, patience_s: float = 60.0) -> None:
        if uri.startswith(_WEB):
            raise OptionError(f"{uri} cannot be written to", expected="a folder, or an address such as s3://bucket/run")
        self.location = Location(uri.rstrip("/") if len(uri) > 1 else uri)
        self.uri = self.location.uri
        self.patience_s = patience_s

    @property
    def shown(self) -> str:
        """The name for people."""
        return self.location.shown

    def path(self, name: str) -> str:
        """Return what the file system calls a file of this folder."""
        return f"{self.location.path}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return a file, None if there is none.

        Raises:
            StoreError: If the store fails.
        """
        try:
            return self._retried(lambda: self._read(name), name)
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> bytes:
        if self.location.fs is None:
            return Path(self.path(name)).read_bytes()
        with self.location.fs.open_input_stream(self.path(name)) as file:
            return bytes(file.read())

    def open(self, name: str) -> Any:
        """Open a file for reading in any order.

        Raises:
            FileNotFoundError: If there is none.
            StoreError: If the store fails.
        """
        fs = self.location.fs
        return self._retried(
            lambda: Path(self.path(name)).open("rb") if fs is None else fs.open_input_file(self.path(name)), name
        )

    def use(self, name: str, action: Callable[[Any], _T]) -> _T:
        """Open a file and do something with it, anew while the store is away.

        Raises:
            FileNotFoundError: If there is none.
            StoreError: If the store fails.
        """
        fs = self.location.fs

        def opened() -> _T:
            with Path(self.path(name)).open("rb") if fs is None else fs.open_input_file(self.path(name)) as file:
                return action(file)

        return self._retried(opened, name)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all, in place of an earlier one.

        Raises:
            OutputError: If the disk is full or refuses.
            StoreError: If the store fails.
        """
        if self.location.fs is None:
            with PartFile(Path(self.path(name))) as part:
                try:
                    view = memoryview(data)
                    while view:
                        view = view[part.file.write(view) :]
                except OSError as error:
                    raise output_error(Path(self.path(name)), error) from error
                part.commit()
            return
        self._retried(lambda: self._upload(name, data), name)

    def _upload(self, name: str, data: bytes) -> None:
        with self.location.fs.open_output_stream(self.path(name)) as file:
            file.write(data)

    def write_file(self, name: str, path: Path) -> None:
        """Write a file of the local disk, whole or not at all.

        Raises:
            OutputError, StoreError: As `write` does.
        """
        if self.location.fs is None or path.stat().st_size < 2**26:
            self.write(name, path.read_bytes())
            return

        def upload() -> None:
            with path.open("rb") as source, self.location.fs.open_output_stream(self.path(name)) as file:
                while piece := source.read(2**24):
                    file.write(piece)

        self._retried(upload, name)

    def delete(self, name: str) -> None:
        """Remove a file unless it is gone already.

        Raises:
            StoreError: If the store fails.
        """
        try:
            if self.location.fs is None:
                Path(self.path(name)).unlink(missing_ok=True)
            else:
                self._retried(lambda: self.location.fs.delete_file(self.path(name)), name)
        except FileNotFoundError:
            pass

    def names(self, folder: str, suffix: str = "") -> Iterator[str]:
        """Yield the files of a folder and its folders, in order, as names of this store.

        Raises:
            StoreError: If the store fails.
        """
        if self.location.fs is None:
            root = Path(self.path(folder))
            for sub in sorted(root.iterdir()) if root.is_dir() else ():
                if sub.is_dir():
                    yield from self.names(f"{folder}/{sub.name}", suffix)
                elif sub.name.endswith(suffix) and not sub.name.startswith("."):
                    yield f"{folder}/{sub.name}"
            return
        from pyarrow.fs import FileSelector, FileType

        def listed() -> list[Any]:
            return list(
                self.location.fs.get_file_info(FileSelector(self.path(folder), allow_not_found=True, recursive=True))
            )

        for info in sorted(self._retried(listed, folder), key=lambda i: str(i.path)):
            if info.type == FileType.File and info.base_name.endswith(suffix):
                yield str(info.path)[len(self.location.path) + 1 :]

    def check(self) -> None:
        """Find out beforehand whether it can be written to and read from.

        Raises:
            OutputError, StoreError: If not.
        """
        patience_s, self.patience_s = self.patience_s, 5.0
        try:
            self.write("_probe", b"featherpose")
            if self.read("_probe") != b"featherpose":
                raise StoreError(f"{self.shown} does not give back what is written to it")
            self.delete("_probe")
        finally:
            self.patience_s = patience_s

    def _retried(self, action: Callable[[], _T], name: str) -> _T:
        try:
            return retried(action, f"{self.shown}/{name}", self.patience_s)
        except FileNotFoundError:
            raise
        except OSError as error:
            if self.location.fs is None:
                raise output_error(Path(self.path(name)), error) from error
            raise StoreError(
                f"{self.shown} fails: {one_line(error)}",
                hint="check address, credentials and network; the same command then continues",
            ) from error


def read_input(uri: str, *, offset: int = 0, size: int | None = None, patience_s: float = 60.0) -> bytes:
    """Read an input, or a part of it.

    Raises:
        SourceError: If this input cannot be read.
        StoreError: If its store does not answer.
    """
    place = locate(uri)
    try:
        data = retried(lambda: place.read(offset, size), place.shown, 10.0 if place.web else patience_s)
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {place.shown}") from error
    except OSError as error:
        reason = error.strerror or one_line(error)
        if place.fs is None or place.web or is_final(error):
            raise SourceError(f"{place.shown} cannot be read: {reason}") from error
        raise StoreError(
            f"{place.shown} cannot be read: {reason}", hint="check the store; the same command then continues"
        ) from error
    except (MemoryError, OutputError):
        raise
    except Exception as error:  # fsspec's implementations raise what their libraries do
        raise SourceError(f"{place.shown} cannot be read: {one_line(error)}") from error
    return data
