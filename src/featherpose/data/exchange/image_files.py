"""Find the images that annotations name, however the tool that wrote them changed their paths."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from featherpose.errors import DatasetError, SourceError
from featherpose.media.headers import read_header
from featherpose.media.images import IMAGE_SUFFIXES, decode_image, read_file
from featherpose.parsing import is_file

__all__ = ["ImageFiles", "image_size", "plain_name"]

# Label Studio puts eight digits in front of the name of a file that is uploaded.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")


class ImageFiles:
    """The images below some folders, found by path, by the end of a path or by name alone.

    Args:
        folders: Searched with their subfolders; links to folders are not followed.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for folder in self._folders:
            for root, _, names in os.walk(folder):
                for name in sorted(names):
                    if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("._"):
                        self._by_name[name].append(Path(root) / name)

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def find(self, name: str) -> Path | None:
        """Return the matching file, or None.

        Args:
            name: A path with ``/``, relative to a folder that may not be one of these.

        Raises:
            DatasetError: If several files match equally well.
        """
        for folder in self._folders:
            if is_file(path := folder / name):
                return path
        base = PurePosixPath(name).name
        found = self._by_name.get(base) or self._by_name.get(_UPLOAD.sub("", base, count=1)) or []
        if len(set(found)) > 1:
            parts = PurePosixPath(name).parts
            shared = [_common_end(path.parts, parts) for path in found]
            found = [path for path, length in zip(found, shared, strict=True) if length == max(shared)]
        if len(set(found)) > 1:
            raise DatasetError(
                f"{len(set(found))} images are called {base}: {found[0]}, {found[1]}, …",
                hint="name the right folder with --images",
            )
        return found[0] if found else None


def _common_end(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    length = 0
    for x, y in zip(reversed(a), reversed(b), strict=False):
        if x != y:
            break
        length += 1
    return length


def plain_name(address: str) -> str:
    r"""Return the relative path in what a tool wrote: an address, a Windows path, an uploaded file.

    Example:
        >>> plain_name("/data/local-files/?d=photos/a%20b.jpg"), plain_name(r"..\photos\a.jpg")
        ('photos/a b.jpg', 'photos/a.jpg')
        >>> plain_name("s3://bucket/photos/a.jpg"), plain_name("/data/upload/1/0a1b2c3d-a.jpg")
        ('photos/a.jpg', 'data/upload/1/a.jpg')
    """
    text = address.strip()
    if "://" in text or text.startswith("/data/"):
        parts = urlsplit(text)
        local = parse_qs(parts.query).get("d")
        text = local[0] if local else unquote(parts.path)
    names = [name for name in text.replace("\\", "/").split("/") if name not in ("", ".", "..")]
    if names and names[0].endswith(":"):
        names = names[1:]
    if names and "/upload/" in address:
        names[-1] = _UPLOAD.sub("", names[-1], count=1)
    return "/".join(names)


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels of an image as it is seen.

    Raises:
        DatasetError: If the file is no image.
    """
    try:
        data = read_file(path)
        header = read_header(data)
        turned = b"Exif\0\0" in data[: 2**16] or (header is not None and header.orientation != 1)
        if header is None or header.size is None or header.damage or turned or header.format in ("AVIF", "HEIC"):
            height, width = decode_image(data, str(path)).shape[:2]
            return width, height
        return header.size
    except SourceError as error:
        raise DatasetError(str(error)) from error
