"""From a user's argument - a file, folder, pattern, camera or address - to frames.

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
import os
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from featherpose.errors import SourceError
from featherpose.media.images import IMAGE_SUFFIXES, MAX_PIXELS
from featherpose.media.sources.animation import AnimationSource
from featherpose.media.sources.content import JPEG_SUFFIXES, VIDEO_SUFFIXES, Content, content_of_file, is_jpeg
from featherpose.media.sources.image_files import ImageFilesSource
from featherpose.media.sources.network.reconnect import ReconnectOptions
from featherpose.media.sources.network.stream import URL_SCHEMES, CameraSource, open_address
from featherpose.media.sources.patterns import each_once, matching
from featherpose.media.sources.pipes import open_pipe
from featherpose.media.sources.source import Frame, Source, SourceKind, Span
from featherpose.media.sources.video import VideoSource

__all__ = ["Frame", "ReconnectOptions", "Source", "SourceKind", "SourceRef", "Span", "find_sources", "open_source"]


_PIPE = "pipe:"
_APPLE_DOUBLE = "._"  # what macOS writes beside files on foreign disks


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A source that was found and not yet opened: opening costs nothing until its turn.

    Attributes:
        name: Name for people.
        paths: The images, or the one video file; empty for a camera or an address.
        camera: Number or device file of the camera, if it is one.
        url: Address, if it is one; ``pipe:`` and a name for standard input (``-``) and named pipes.
        folder: The folder under which ``paths`` were found, or None if the file was named itself.
    """

    name: str
    paths: tuple[Path, ...] = ()
    camera: int | str | None = None
    url: str | None = None
    folder: Path | None = None

    @property
    def is_images(self) -> bool:
        """Return True for one or more image files."""
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
        """Open the source.

        Args:
            span: The part that is wanted; all unless given.
            strict: Raise at the first thing that cannot be read instead of noting it in ``Source.errors``.
            timeout_s: Longest silence of an address, seconds.
            max_pixels: Limit for one image.
            reconnect: Retry schedule after a lost connection.

        Raises:
            SourceError: If it cannot be opened.
        """
        span = span or Span()
        if self.camera is not None:
            return CameraSource(self.camera, span=span, reconnect=reconnect, strict=strict)
        if self.url is not None and self.url.startswith(_PIPE):
            return open_pipe(self.url.removeprefix(_PIPE), span=span, strict=strict, max_pixels=max_pixels)
        if self.url is not None:
            return open_address(
                self.url, span=span, timeout_s=timeout_s, max_pixels=max_pixels, reconnect=reconnect, strict=strict
            )
        if self.is_images:
            return ImageFilesSource(self.paths, self.name, span=span, strict=strict, max_pixels=max_pixels)
        if _content(self.paths[0]) == "animation":
            return AnimationSource(self.paths[0], span=span, strict=strict, max_pixels=max_pixels)
        if self.paths[0].suffix.lower() in JPEG_SUFFIXES and is_jpeg(self.paths[0]):
            # FFmpeg decides by this suffix and would read the first image only.
            return open_pipe(str(self.paths[0]), span=span, strict=strict, max_pixels=max_pixels)
        return VideoSource(self.paths[0], span=span, strict=strict, max_pixels=max_pixels)


def find_sources(source: str | int | Path) -> list[SourceRef]:
    """Return the sources that an argument names.

    Args:
        source: An image, video or animation; a folder (its images and videos, neither its subfolders nor what is
            hidden); a pattern such as ``holiday/**/*.jpg``; a camera number or device file; an address; ``-`` for
            standard input.

    Returns:
        One entry for all images of a folder or pattern together, then one for each video.

    Raises:
        SourceError: If there is nothing by that name, or a folder holds neither images nor videos.
    """
    if isinstance(source, int):
        return [SourceRef(f"camera-{source}", camera=source)]
    if isinstance(source, str):
        if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", source):
            if match[1].lower() not in URL_SCHEMES:
                raise SourceError(f"{source} has the unknown scheme {match[1]!r}", expected=", ".join(URL_SCHEMES))
            return [SourceRef(source, url=source)]
        if source == "-":
            whole = _redirected_file()
            return [SourceRef("stdin", (whole,)) if whole is not None else SourceRef("stdin", url=f"{_PIPE}-")]
        if source.isascii() and source.isdigit() and not Path(source).exists():
            return [SourceRef(f"camera-{source}", camera=int(source))]
        if not source:
            raise SourceError("the source is empty", expected="an image, video, folder, pattern, camera number or URL")
    path = Path(source)
    try:
        if path.is_dir():
            shown = (p for p in path.iterdir() if not p.name.startswith("."))
            return _of_files(sorted(shown, key=_natural), str(source), path)
        if path.is_fifo():  # a second look at it would block: its content is identified when it is read
            return [SourceRef(path.name, url=f"{_PIPE}{path}")]
        if path.is_char_device():
            return [SourceRef(path.name, camera=str(path))]
        if path.exists():
            return [SourceRef(path.name, (path,))]
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror or error}") from error
    pattern = str(source)
    if glob.has_magic(pattern):
        root = Path(re.split(r"[*?\[]", pattern, maxsplit=1)[0])
        root = root if pattern[: len(str(root)) + 1].endswith(("/", "\\")) or root.is_dir() else root.parent
        found = sorted(matching(pattern), key=_natural)
        return _of_files(found, pattern, root)
    hint = "check the spelling" if path.parent.is_dir() else f"the folder {path.parent} does not exist"
    raise SourceError(f"there is no file or folder {source}", hint=hint)


def _redirected_file() -> Path | None:
    """Return the file behind standard input (``< video.mp4``), which allows seeking, unlike a pipe."""
    path = Path("/dev/stdin")
    try:
        if path.exists() and stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode) and path.resolve().is_file():
            return path.resolve()
    except (OSError, ValueError, AttributeError):  # stdin is closed or replaced
        pass
    return None


def _of_files(files: Iterable[Path], name: str, root: Path) -> list[SourceRef]:
    # A link that leads nowhere is a file that somebody misses: reading it says so.
    known = [
        p
        for p in each_once(files)
        if not p.name.startswith(_APPLE_DOUBLE)
        and p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        and (p.is_file() or (p.is_symlink() and not p.exists()))
    ]
    videos = [p for p in known if _is_video(p, thorough=False) and not _is_program_text(p)]
    images = tuple(p for p in known if p not in set(videos) and not _is_program_text(p))
    if not images and not videos:
        raise SourceError(
            f"{name} holds no images or videos",
            expected="files such as .jpg, .png, .mp4; subfolders need a pattern like '**/*.jpg'",
        )
    label = root.name or str(root)
    refs = [SourceRef(label if len(images) > 1 else images[0].name, images, folder=root)] if images else []
    return refs + [SourceRef(p.name, (p,), folder=root) for p in videos]


def _content(path: Path, *, thorough: bool = True) -> Content:
    try:
        return content_of_file(path, thorough=thorough)
    except (OSError, MemoryError):
        return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"


def _is_video(path: Path, *, thorough: bool = True) -> bool:
    return _content(path, thorough=thorough) in ("video", "animation")


def _is_program_text(path: Path) -> bool:
    """Return whether a file is TypeScript, whose suffix is that of an MPEG transport stream."""
    if path.suffix.lower() not in (".ts", ".mts"):
        return False
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(1024)
    except OSError:
        return False


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return the sort key of natural order: frame2 before frame10."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(p), "") if p.isdigit() and p.isascii() else (1, 0, p) for p in parts]


def open_source(
    source: str | int | Path,
    *,
    start: float | None = None,
    end: float | None = None,
    frame_step: int = 1,
    strict: bool = False,
    timeout_s: float = 10.0,
    max_pixels: int = MAX_PIXELS,
    reconnect: ReconnectOptions | None = None,
) -> Source:
    """Open an image, a folder of images, a pattern, a video, an animated GIF, a camera or an address.

    Args:
        source: What to read; a number, or its digits, is a camera.
        start: Leave out what comes before this time, seconds; images have no time.
        end: Leave out what comes from this time on, seconds.
        frame_step: Take every n-th frame.
        strict: Raise at the first image of a folder that cannot be read, or at the early end of a video; otherwise
            they are logged and noted in ``Source.errors``.
        timeout_s: Longest silence of an address, seconds.
        max_pixels: Limit for one image.
        reconnect: Retry schedule after a lost camera or connection; a minute unless given.

    Returns:
        A `Source`: iterate over it for `Frame` values, use it as a context manager or close it.

    Raises:
        SourceError: If it cannot be opened, or the name stands for several videos.
        OptionError: If start, end or frame_step is impossible.
    """
    span = Span(start_s=start, end_s=end, frame_step=frame_step)
    refs = find_sources(source)
    if len(refs) > 1:
        raise SourceError(
            f"{source} holds {len(refs)} sources: {', '.join(ref.name for ref in refs[:3])}, …",
            expected="one video, or images only",
            hint="open them one by one: find_sources(...) lists them",
        )
    return refs[0].open(span, strict=strict, timeout_s=timeout_s, max_pixels=max_pixels, reconnect=reconnect)
