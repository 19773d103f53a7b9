"""From what a user names - folders, patterns, lists, tar files, addresses - to the units of a run, one at a time."""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin, urlsplit

from featherpose.cluster.inputs.lists import LIST_SUFFIXES, read_list
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.retries import retried
from featherpose.cluster.storage import Location, is_uri, shown_uri
from featherpose.errors import SourceError, StoreError
from featherpose.media.images import IMAGE_SUFFIXES
from featherpose.media.sources.content import VIDEO_SUFFIXES
from featherpose.media.sources.patterns import each_once, matching

__all__ = ["find_units"]

_log = logging.getLogger(__name__)

_TAR = ".tar"
_PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MAX_DEPTH = 64


def find_units(source: str, *, patience_s: float = 60.0) -> Iterator[Unit]:
    """Yield the units of a source; videos are whole.

    Args:
        source: An image, a video, a folder (with its folders, without what is hidden), a pattern, a list (``.txt``,
            ``.csv``, ``.parquet``), a tar file, or the address of one of these.
        patience_s: How long a store that does not answer is waited for, seconds.

    Raises:
        SourceError: If there is nothing by that name, or nothing in it.
        StoreError: If its store does not answer.
    """
    found = False
    for unit in _of_name(source, patience_s):
        found = True
        yield unit
    if not found:
        raise SourceError(f"{shown_uri(source)} holds no images or videos", expected="files such as .jpg, .mp4 or .tar")


def _of_name(source: str, patience_s: float) -> Iterator[Unit]:
    if not source:
        raise SourceError("a source is empty", expected="a folder, pattern, list, tar file, image, video or address")
    if not is_uri(source) and not os.path.lexists(source) and glob.has_magic(source):
        yield from _of_pattern(source, patience_s)
        return
    place = Location(source)
    suffix = PurePosixPath(urlsplit(place.uri).path if is_uri(place.uri) else place.path).suffix.lower()
    if place.web:
        if suffix in LIST_SUFFIXES:
            yield from _of_list(place, suffix, patience_s)
        else:
            yield from _of_file(place.uri, suffix, patience_s)
    elif place.fs is None:
        yield from _of_local(place, suffix, patience_s)
    else:
        yield from _of_store(place, suffix, patience_s)


def _of_local(place: Location, suffix: str, patience_s: float) -> Iterator[Unit]:
    path = Path(place.path)
    try:
        if path.is_dir():
            for file in _walk(path):
                yield from _of_file(str(file), file.suffix.lower(), patience_s, named=False)
            return
        if not path.exists():
            hint = "check the spelling" if path.parent.is_dir() else f"the folder {path.parent} does not exist"
            raise SourceError(f"there is no file or folder {place.path}", hint=hint)
    except OSError as error:
        raise SourceError(f"{place.path} cannot be read: {error.strerror or error}") from error
    if suffix in LIST_SUFFIXES:
        yield from _of_list(place, suffix, patience_s)
    else:
        yield from _of_file(place.path, suffix, patience_s)


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Files of a folder and its folders, in order; nothing hidden, and no folder twice by a link."""
    with os.scandir(folder) as entries:
        known = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in known:
        if entry.is_dir(follow_symlinks=False):
            if depth < _MAX_DEPTH:
                yield from _walk(Path(entry.path), depth + 1)
        elif entry.is_file():
            yield Path(entry.path)


def _of_pattern(pattern: str, patience_s: float) -> Iterator[Unit]:
    found = False
    for path in sorted(each_once(matching(pattern)), key=str):
        if path.is_file():
            found = True
            yield from _of_file(str(path.absolute()), path.suffix.lower(), patience_s, named=False)
    if not found:
        raise SourceError(f"no file fits the pattern {pattern}", hint="subfolders need '**/*.jpg', in quotes")


def _of_store(place: Location, suffix: str, patience_s: float) -> Iterator[Unit]:
    from pyarrow.fs import FileSelector, FileType

    query = f"?{urlsplit(place.uri).query}" if urlsplit(place.uri).query else ""
    scheme = place.uri.partition("://")[0]
    pattern = place.path if glob.has_magic(place.path) else ""
    root = re.split(r"[*?\[]", place.path, maxsplit=1)[0].rpartition("/")[0] if pattern else place.path.rstrip("/")
    try:
        info = retried(lambda: place.fs.get_file_info(root), place.shown, patience_s)
        if info.type == FileType.File:
            if suffix in LIST_SUFFIXES:
                yield from _of_list(place, suffix, patience_s)
            else:
                yield from _of_file(place.uri, suffix, patience_s)
            return
        if info.type == FileType.NotFound:
            raise SourceError(f"there is no file or folder {place.shown}", hint="check the spelling")
        folders = [root]
        while folders:
            folder = folders.pop()
            inside = retried(lambda at=folder: place.fs.get_file_info(FileSelector(at)), place.shown, patience_s)  # type: ignore[misc]
            inside.sort(key=lambda i: i.path)
            for entry in inside:
                if entry.base_name.startswith("."):
                    continue
                if entry.type == FileType.Directory:
                    folders.append(entry.path)
                elif not pattern or fnmatch.fnmatchcase(entry.path, pattern.replace("**/", "*")):
                    suffix = PurePosixPath(entry.path).suffix.lower()
                    yield from _of_file(f"{scheme}://{entry.path}{query}", suffix, patience_s, named=False)
    except OSError as error:
        raise StoreError(
            f"{place.shown} cannot be listed: {' '.join(str(error).split())[:300]}",
            hint="check address, credentials and network",
        ) from error


def _of_file(uri: str, suffix: str, patience_s: float, *, named: bool = True) -> Iterator[Unit]:
    """Units of one file; one that a user named is taken whatever its suffix."""
    if suffix == _TAR:
        yield from _members(uri, patience_s)
    elif uri.lower().endswith(_PACKED_TARS):
        if named:
            raise SourceError(
                f"{shown_uri(uri)} is compressed as a whole, so that its members cannot be read one by one",
                expected="an uncompressed .tar",
            )
        _log.warning("%s is a compressed tar file and is left out; uncompress it", shown_uri(uri))
    elif suffix in VIDEO_SUFFIXES:
        yield Unit(uri, "video")
    elif named or suffix in IMAGE_SUFFIXES:
        yield Unit(uri, "image")


def _members(uri: str, patience_s: float) -> Iterator[Unit]:
    """Yield the images of a tar file, each with its place, so that a worker reads just that."""
    place = Location(uri)
    try:
        raw = retried(place.open, place.shown, patience_s)
        with raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                tar.members.clear()  # type: ignore[attr-defined] # or it would remember each of them
                if member.isreg() and member.size and name.suffix.lower() in IMAGE_SUFFIXES and name.name[0] != ".":
                    yield Unit(uri, "image", member.name, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise SourceError(f"{place.shown} is not a whole tar file: {error}", hint="get the file again") from error
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {place.shown}") from error
    except OSError as error:
        raise SourceError(f"{place.shown} cannot be read: {error.strerror or error}") from error


def _of_list(place: Location, suffix: str, patience_s: float) -> Iterator[Unit]:
    for entry in read_list(place, suffix, patience_s):
        uri = _beside(place, entry)
        path = urlsplit(uri).path if is_uri(uri) else uri
        inner = PurePosixPath(path).suffix.lower()
        if inner in LIST_SUFFIXES:
            raise SourceError(f"{place.shown} names the list {entry}", expected="images, videos and tar files")
        yield from _of_file(uri, inner, patience_s)


def _beside(place: Location, entry: str) -> str:
    """Return what an entry of a list stands for; relative ones are beside the list."""
    if entry.startswith("file://"):
        return urlsplit(entry).path
    if is_uri(entry) or entry.startswith("/"):
        return entry
    if place.fs is None:
        return str(Path(place.path).parent / entry)
    if place.web:
        return urljoin(place.uri, entry)
    head, _, query = place.uri.partition("?")
    return f"{head.rpartition('/')[0]}/{entry}" + (f"?{query}" if query else "")
