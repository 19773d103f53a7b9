"""From what a user names - a file, folder, pattern, camera or address - to frames.

Example:
    >>> import tempfile
    >>> import numpy as np
    >>> from featherpose.media.images import write_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.png"):
    ...         write_image(Path(folder) / name, np.zeros((2, 3, 3), np.uint8))
    ...     [(frame.index, frame.name, frame.size) for frame in open_source(folder)]
    [(0, 'a.png', (3, 2)), (1, 'b.png', (3, 2))]
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from featherpose.errors import SourceError
from featherpose.media.frames import Frame, Source, SourceKind, Span
from featherpose.media.headers import gif_frame_count
from featherpose.media.images import MAX_PIXELS, PICTURE_SUFFIXES
from featherpose.media.pictures import PicturesSource
from featherpose.media.reconnecting import ReconnectOptions
from featherpose.media.streams import URL_SCHEMES, CameraSource, open_address
from featherpose.media.video import VIDEO_SUFFIXES, VideoSource

__all__ = ["Frame", "ReconnectOptions", "Source", "SourceKind", "SourceRef", "Span", "find_sources", "open_source"]


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A source that was found but not opened yet: opening it costs nothing until its turn.

    Attributes:
        name: Name for people.
        paths: The pictures, or the one video file; empty for a camera or an address.
        camera: Number of the camera, if it is one.
        url: Address, if it is one.
        folder: The folder under which ``paths`` were found, or None if the file was named itself.
    """

    name: str
    paths: tuple[Path, ...] = ()
    camera: int | None = None
    url: str | None = None
    folder: Path | None = None

    @property
    def is_pictures(self) -> bool:
        """True for one or more picture files."""
        return bool(self.paths) and (len(self.paths) > 1 or not _is_video(self.paths[0]))

    def open(
        self,
        span: Span | None = None,
        *,
        strict: bool = False,
        timeout_s: float = 10.0,
        max_pixels: int = MAX_PIXELS,
        reconnect: ReconnectOptions | None = None,
    ) -> Source:
        """Open it.

        Args:
            span: The part that is wanted; all unless given.
            strict: Raise at the first thing that cannot be read instead of noting it in ``Source.problems``.
            timeout_s: Patience with an address.
            max_pixels: Limit for one picture.
            reconnect: How long a camera or an address that was lost is waited for.

        Raises:
            SourceError: If it cannot be opened.
        """
        span = span or Span()
        if self.camera is not None:
            return CameraSource(self.camera, span=span, reconnect=reconnect, strict=strict)
        if self.url is not None:
            return open_address(
                self.url, span=span, timeout_s=timeout_s, max_pixels=max_pixels, reconnect=reconnect, strict=strict
            )
        if self.is_pictures:
            return PicturesSource(self.paths, self.name, span=span, strict=strict, max_pixels=max_pixels)
        return VideoSource(self.paths[0], span=span, strict=strict)


def find_sources(source: str | int | Path) -> list[SourceRef]:
    """What a name stands for.

    Args:
        source: A picture, video or animated GIF; a folder (its pictures and videos, not its subfolders); a pattern
            such as ``holiday/**/*.jpg``; a camera number; an address.

    Returns:
        One entry for all pictures of a folder or pattern together, then one for each video.

    Raises:
        SourceError: If there is nothing by that name, or a folder holds neither pictures nor videos.
    """
    if isinstance(source, int):
        return [SourceRef(f"camera-{source}", camera=source)]
    if isinstance(source, str):
        if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", source):
            if match[1].lower() not in URL_SCHEMES:
                raise SourceError(f"{source} has the unknown scheme {match[1]!r}", expected=", ".join(URL_SCHEMES))
            return [SourceRef(source, url=source)]
        if source.isascii() and source.isdigit() and not Path(source).exists():
            return [SourceRef(f"camera-{source}", camera=int(source))]
        if not source:
            raise SourceError("the source is empty", expected="a picture, video, folder, pattern, camera number or URL")
    path = Path(source)
    try:
        if path.is_dir():
            return _of_files(sorted(path.iterdir(), key=_natural), str(source), path)
        if path.exists():
            return [SourceRef(path.name, (path,))]
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror or error}") from error
    pattern = str(source)
    if glob.has_magic(pattern):
        root = Path(re.split(r"[*?\[]", pattern, maxsplit=1)[0])
        root = root if pattern[: len(str(root)) + 1].endswith(("/", "\\")) or root.is_dir() else root.parent
        found = sorted((Path(p) for p in glob.glob(pattern, recursive=True)), key=_natural)  # noqa: PTH207 - absolute patterns
        return _of_files(found, pattern, root)
    hint = "check the spelling" if path.parent.is_dir() else f"the folder {path.parent} does not exist"
    raise SourceError(f"there is no file or folder {source}", hint=hint)


def _of_files(files: Iterable[Path], name: str, root: Path) -> list[SourceRef]:
    known = [p for p in files if p.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES and p.is_file()]
    films = [p for p in known if _is_video(p)]
    pictures = tuple(p for p in known if p not in set(films))
    if not known:
        raise SourceError(
            f"{name} holds no pictures or videos",
            expected="files such as .jpg, .png, .mp4; subfolders need a pattern like '**/*.jpg'",
        )
    label = root.name or str(root)
    refs = [SourceRef(label if len(pictures) > 1 else pictures[0].name, pictures, folder=root)] if pictures else []
    return refs + [SourceRef(p.name, (p,), folder=root) for p in films]


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".gif":
        try:
            return gif_frame_count(path.read_bytes()) > 1
        except OSError:
            return False
    if suffix in VIDEO_SUFFIXES or suffix in PICTURE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    return _looks_like_video(path)


def _looks_like_video(path: Path) -> bool:
    """By the first bytes, for files with a foreign suffix or none."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    if start[4:8] == b"ftyp":
        return start[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    return start[:4] == b"\x1a\x45\xdf\xa3" or (start[:4] == b"RIFF" and start[8:12] == b"AVI ")


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Order of files for people: frame2 before frame10."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(p), "") if p.isdigit() and p.isascii() else (1, 0, p) for p in parts]


def open_source(
    source: str | int | Path,
    *,
    start: float | None = None,
    end: float | None = None,
    every: int = 1,
    strict: bool = False,
    timeout_s: float = 10.0,
    max_pixels: int = MAX_PIXELS,
    reconnect: ReconnectOptions | None = None,
) -> Source:
    """Open a picture, a folder of pictures, a pattern, a video, an animated GIF, a camera or an address.

    Args:
        source: What to read; a number, or its digits, is a camera.
        start: Leave out what comes before this time, seconds; pictures have no time.
        end: Leave out what comes from this time on, seconds.
        every: Take one frame of so many.
        strict: Raise at the first picture of a folder that cannot be read, or at the early end of a video; otherwise
            they are logged and noted in ``Source.problems``.
        timeout_s: Patience with an address that does not answer.
        max_pixels: Limit for one picture.
        reconnect: How long a camera or an address that was lost is waited for, and how often it is tried; a minute
            unless given.

    Returns:
        A `Source`: iterate over it for `Frame` values, use it as a context manager or close it.

    Raises:
        SourceError: If it cannot be opened, or the name stands for several videos.
        OptionError: If start, end or every is impossible.
    """
    span = Span(start_s=start, end_s=end, every=every)
    refs = find_sources(source)
    if len(refs) > 1:
        raise SourceError(
            f"{source} holds {len(refs)} sources: {', '.join(ref.name for ref in refs[:3])}, …",
            expected="one video, or pictures only",
            hint="open them one by one: find_sources(...) lists them",
        )
    return refs[0].open(span, strict=strict, timeout_s=timeout_s, max_pixels=max_pixels, reconnect=reconnect)
