"""Names of sources in outputs: unique names, and stable COCO numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from featherpose.data.coco_file import MAX_ANNOTATION_BYTES
from featherpose.errors import DatasetError
from featherpose.formats.coco import stable_image_id
from featherpose.media.sources.find import SourceRef
from featherpose.output_names import is_annotated, source_name
from featherpose.parsing import ParseError, parse_json, read_document

__all__ = ["ImageIds", "SourceNames", "join_images", "read_image_ids", "without_annotated"]


class SourceNames:
    """Names of the sources of a run.

    A source is named by its path as the user gave it. A file of a frame gets the same name as its source; if the
    sources are in several folders, so are the files, and if two differ in the suffix only, the suffix is kept.

    Args:
        refs: All sources of the run.

    Attributes:
        order: Place of each source in the run, by its name.

    Example:
        >>> names = SourceNames([SourceRef(p, (Path(p),)) for p in ("cam1/1.jpg", "cam2/1.jpg", "cam2/1.png")])
        >>> [names.stem(Path(p)).as_posix() for p in ("cam1/1.jpg", "cam2/1.jpg", "cam2/1.png")]
        ['cam1/1', 'cam2/1.jpg', 'cam2/1.png']
        >>> names.order
        {'cam1/1.jpg': 0, 'cam2/1.jpg': 1, 'cam2/1.png': 2}
    """

    def __init__(self, refs: list[SourceRef]) -> None:
        paths = list(dict.fromkeys(path for ref in refs for path in ref.paths))
        self.order: dict[str, int] = {}
        for ref in refs:
            for name in [source_name(path) for path in ref.paths] or [ref.name]:
                self.order.setdefault(name, len(self.order))
        self._folders = _folders({path.parent for path in paths})
        self._doubles = Counter((self._folders.get(path.parent), path.stem.casefold()) for path in paths)

    def stem(self, path: Path) -> Path:
        """Return the name for files of a source, without suffix, with its folder if needed."""
        folder = self._folders.get(path.parent, Path())
        double = self._doubles[folder, path.stem.casefold()] > 1
        return folder / (path.name if double else path.stem)


def _folders(parents: Iterable[Path]) -> dict[Path, Path]:
    """Return for each folder of sources the folder of their files: what follows the part that all have in common."""
    absolute = {parent: parent.absolute() for parent in parents}
    if len(set(absolute.values())) < 2:
        return dict.fromkeys(absolute, Path())
    # Without links and dots, so that no file ends outside the output folder.
    plain = {parent: Path(os.path.normpath(folder)) for parent, folder in absolute.items()}
    try:
        root = Path(os.path.commonpath(plain.values()))
    except ValueError:  # different drives
        return {parent: Path(*folder.parts[1:]) for parent, folder in plain.items()}
    return {parent: folder.relative_to(root) for parent, folder in plain.items()}


def without_annotated(refs: list[SourceRef]) -> tuple[list[SourceRef], int]:
    """Leave out annotated files of an earlier run, unless only such files were named.

    Returns:
        The other sources, and how many files were left out.

    Example:
        >>> refs, count = without_annotated([SourceRef("a", (Path("a/1.jpg"), Path("a/1.poses.jpg")))])
        >>> refs[0].paths, count
        ((PosixPath('a/1.jpg'),), 1)
    """
    if len(refs) == 1 and len(refs[0].paths) == 1 and refs[0].folder is None:
        return refs, 0
    kept: list[SourceRef] = []
    left_out = 0
    for ref in refs:
        own = [path for path in ref.paths if not is_annotated(path, ref.folder)]
        left_out += len(ref.paths) - len(own)
        if len(own) == len(ref.paths):
            kept.append(ref)
        elif own:
            kept.append(replace(ref, paths=tuple(own)))
    return kept, left_out


def join_images(refs: list[SourceRef]) -> list[SourceRef]:
    """Make one source of image files that were named one after another, as a shell does that expands ``*.jpg``.

    Their frames are then numbered as those of a folder or pattern, and are read while others are inferred.

    Example:
        >>> [(ref.name, len(ref.paths)) for ref in join_images([SourceRef(p, (Path(p),)) for p in ("1.jpg", "2.jpg")])]
        [('2 images', 2)]
    """
    joined: list[SourceRef] = []
    for named, group in groupby(refs, key=lambda ref: ref.folder is None and ref.is_images):
        together = list(group)
        if named and len(together) > 1:
            paths = tuple(path for ref in together for path in ref.paths)
            joined.append(SourceRef(f"{len(paths)} images", paths))
        else:
            joined += together
    return joined


@dataclass(frozen=True, slots=True)
class ImageIds:
    """COCO image ids of a run's image files.

    Attributes:
        ids: Id of each file, where it has one; -1 leaves it out of the COCO results.
        message: Message for the user, or empty.
    """

    ids: dict[Path, int]
    message: str = ""

    @classmethod
    def of_names(cls, refs: list[SourceRef]) -> ImageIds:
        """Take the id from each file's own name: its number, else a digest of the name.

        No id depends on the other files, but for two that would have the same one: both then take a digest of their
        path.

        Example:
            >>> ids = ImageIds.of_names([SourceRef("a", (Path("a/000000000872.jpg"), Path("a/logo.jpg")))])
            >>> list(ids.ids.values())
            [872, 3209533158259018]
        """
        paths = list(dict.fromkeys(path for ref in refs if ref.is_images for path in ref.paths))
        wanted = {path: _own_id(path) for path in paths}
        counts = Counter(wanted.values())
        doubles = [path for path in paths if counts[wanted[path]] > 1]
        for path in doubles:
            wanted[path] = stable_image_id(source_name(path))
        if not doubles:
            return cls(wanted)
        return cls(
            wanted,
            f"{len(doubles)} images share their COCO image ids with others, such as {source_name(doubles[0])}: their "
            "ids are made from their paths (--coco-ids takes ids from a file)",
        )

    @classmethod
    def of_annotations(cls, refs: list[SourceRef], annotations: Path) -> ImageIds:
        """Take the ids from a COCO annotation file, by file name.

        Raises:
            DatasetError: If the file cannot be read or names none of the images.
        """
        numbers = read_image_ids(annotations)
        by_name: dict[str, list[int]] = {}
        for name, number in numbers.items():
            by_name.setdefault(name.rsplit("/", 1)[-1], []).append(number)
        paths = list(dict.fromkeys(path for ref in refs if ref.is_images for path in ref.paths))
        ids = {path: _annotated_id(source_name(path), numbers, by_name) for path in paths}
        missing = [path for path, number in ids.items() if number < 0]
        if paths and len(missing) == len(paths):
            raise DatasetError(
                f"{annotations} names none of the {len(paths)} images, such as {source_name(paths[0])}",
                expected="the annotation file of these images",
            )
        if not missing:
            return cls(ids)
        return cls(
            ids,
            f"{len(missing)} of {len(paths)} images are not in {annotations}, such as {source_name(missing[0])}: they "
            "are left out of the COCO results",
        )


def _own_id(path: Path) -> int:
    stem = path.stem
    if stem.isascii() and stem.isdigit() and len(stem) <= 15:
        return int(stem)
    return stable_image_id(source_name(Path(path.name)))


def _annotated_id(name: str, numbers: dict[str, int], by_name: dict[str, list[int]]) -> int:
    """Return the id of an image by the longest end of its path that the annotations name; -1 if there is none."""
    parts = name.split("/")
    for first in range(len(parts)):
        if (number := numbers.get("/".join(parts[first:]))) is not None:
            return number
    alike = by_name.get(parts[-1], [])
    return alike[0] if len(alike) == 1 else -1


def read_image_ids(path: Path) -> dict[str, int]:
    """Read the ids of a COCO annotation file's images.

    Returns:
        Id by file name.

    Raises:
        DatasetError: If it is no such file.
    """
    try:
        images = parse_json(read_document(path, MAX_ANNOTATION_BYTES))["images"]
        return {str(image["file_name"]): _integer(image["id"]) for image in images}
    except ParseError as error:
        raise DatasetError(f"{path} {error}", expected="a COCO annotation file") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{path} is no COCO annotation file", expected='"images" with a number "id" and a "file_name" each'
        ) from error


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("no image id")
    return value
