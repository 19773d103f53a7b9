"""Annotation exports as folders: a zip file is unpacked into a temporary one, within limits."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featherpose.data.coco_file import MAX_ANNOTATION_BYTES
from featherpose.errors import DatasetError
from featherpose.parsing import is_file, is_folder, reason_of

__all__ = ["unpacked"]

_MAX_FILES = 1_000_000
# Images hardly shrink in a zip, annotations to a twentieth; a thousandth is made to fill the disk.
_MAX_RATIO, _ANY_RATIO_BYTES = 200, 64 * 2**20


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Give the source itself, or for a zip file a folder with its content, which is removed in the end.

    Raises:
        DatasetError: If there is no such file or folder, or the zip file is damaged, encrypted, or unpacks to more
            than its size explains.
    """
    if is_folder(source) or (is_file(source) and not zipfile.is_zipfile(source)):
        yield source
        return
    if not is_file(source):
        raise DatasetError(f"there is no {source}", expected="a folder, a zip file or a file of annotations")
    with tempfile.TemporaryDirectory(prefix="featherpose-") as name:
        _unpack(source, Path(name))
        yield Path(name)


def _unpack(source: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            if len(members) > _MAX_FILES:
                raise DatasetError(f"{source} holds {len(members):,} files; the limit is {_MAX_FILES:,}")
            if total > max(_ANY_RATIO_BYTES, _MAX_RATIO * source.stat().st_size):
                raise DatasetError(f"{source} unpacks to {total:,} bytes, far more than its size explains")
            for member in members:
                if not stat.S_ISLNK(member.external_attr >> 16):  # links may lead anywhere
                    _extract(archive, member, folder, source)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DatasetError(
            f"{source} is a zip file that cannot be unpacked: {reason_of(error)}", hint="export it again"
        ) from error
    except OSError as error:
        raise DatasetError(f"{source} cannot be unpacked: {error.strerror or error}") from error


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, source: Path) -> None:
    parts = [part for part in member.filename.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or not parts or ":" in parts[0]:
        raise DatasetError(f"{source} holds a file outside itself: {member.filename!r}")
    is_text = member.filename.lower().endswith((".json", ".xml", ".txt", ".yaml", ".yml"))
    if is_text and member.file_size > MAX_ANNOTATION_BYTES:
        raise DatasetError(f"{source}: {member.filename} has {member.file_size:,} bytes; the limit is 1 GB")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    # What is read ends at the stated size, whatever the compressed data hold.
    with archive.open(member) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 2**20)
