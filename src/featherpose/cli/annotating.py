"""Annotated images and videos of a run: their names, and writing them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from featherpose.cli.source_names import SourceNames
from featherpose.errors import FeatherposeError, OptionError, OutputError
from featherpose.files import make_folder
from featherpose.media.images import IMAGE_SUFFIXES, write_image
from featherpose.media.sinks.video import (
    VIDEO_OUTPUT_SUFFIXES,
    VideoSink,
    frames_written,
    open_video_sink,
    recover_videos,
)
from featherpose.media.sources.find import SourceRef
from featherpose.media.sources.source import Frame, Source
from featherpose.output_names import MARK, OutputNames, source_name

__all__ = ["AnnotatedOutput"]

_IMAGES_WRITTEN = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
_VIDEOS_KEPT = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm"))


class AnnotatedOutput:
    """Annotated images and videos of a run.

    Without a target ``photo.jpg`` becomes ``photo.poses.jpg`` in the current folder and the folder ``holiday`` becomes
    ``holiday.poses``. A target with the suffix of an image or video is one file, for one source; any other target
    is a folder, in which the files keep their names, and their folders where the sources are in several.

    Args:
        target: What the user named, or None.
        refs: All sources of the run.
        names: What the sources are called.
        resume: Continue the outputs of an earlier run.
        mark: What the names of files get before their suffix, where the target does not say them.

    Attributes:
        recovered: Files in which videos of earlier, killed runs are now found.
        opened: Called when the file of a video exists, before its first frame is encoded: from then on it may be found
            under its temporary name.

    Raises:
        OptionError: If one file is named for several sources.
        OutputError: If the target is one of the sources.
    """

    def __init__(
        self, target: Path | None, refs: list[SourceRef], names: SourceNames, *, resume: bool = False, mark: str = MARK
    ) -> None:
        self._target = target
        self._mark = mark
        self._source_names = names
        self._names = OutputNames(path for ref in refs for path in ref.paths)
        self._resume = resume
        self.opened: Callable[[], None] = lambda: None
        self._sink: VideoSink | None = None
        self._videos: list[str] = []
        self._paths: dict[Path, Path] = {}
        self._before: dict[Path, int] = {}
        self._held: dict[Path, int] = {}
        self._images = 0
        self._last_image = Path()
        self._folders: dict[Path, os.stat_result] = {}
        self.recovered: list[Path] = []
        self._one_file = target is not None and not target.is_dir() and _is_file_name(target)
        if target is not None and self._one_file:
            if len(refs) > 1 or any(len(ref.paths) > 1 for ref in refs):
                raise OptionError(
                    f"--output {target} names one file for several sources",
                    expected="a folder",
                    hint=f"try --output {target.stem}",
                )
            if self._names.is_taken(target):
                raise OutputError(f"--output {target} would overwrite the source", hint="choose another name")
            self._check_kind(target, refs[0])
        elif target is not None:
            make_folder(target)

    def _check_kind(self, target: Path, ref: SourceRef) -> None:
        if ref.url is not None:
            return  # known when it is open
        video = target.suffix.lower() in VIDEO_OUTPUT_SUFFIXES
        if video == ref.is_images:
            suffixes = sorted(_IMAGES_WRITTEN) if ref.is_images else VIDEO_OUTPUT_SUFFIXES
            raise OptionError(
                f"--output {target} does not fit {ref.name}, {'an image' if ref.is_images else 'a video'}",
                expected=f"a name with {', '.join(suffixes)}",
            )

    def write(
        self, image: UInt8[np.ndarray, "H W 3"], frame: Frame, ref: SourceRef, source: Source, *, first_s: float = 0.0
    ) -> None:
        """Write one annotated frame.

        Args:
            image: The annotated frame.
            frame: The frame as it was read.
            ref: Its source.
            source: The same, open.
            first_s: Time of the first frame of the run's part of a video that is resumed.

        Raises:
            OutputError: If it cannot be written.
        """
        if source.kind == "image":
            path = self._path(ref, frame.path or Path(frame.name), video=False)
            if path.parent not in self._folders:
                make_folder(path.parent)
                self._folders[path.parent] = path.parent.stat()
            write_image(path, image, make=False)
            self._images += 1
            self._last_image = path
            return
        path = self._path(ref, source.path or Path(frame.name), video=True)
        if frame.index <= self._held.get(path, -1):
            return  # another output lacked the frame
        if self._sink is None:
            if not self._resume:
                self.recovered += recover_videos(path)
            self._sink = open_video_sink(
                path, source.fps or 25.0, audio_from=source.path, resume_at_s=first_s if self._resume else None
            )
            self.opened()
        self._sink.write(image, frame.timestamp_s)

    def holds(self, frame: Frame, ref: SourceRef, kind: str, count: int) -> bool:
        """Return True if the run is resumed and has this frame annotated.

        Args:
            frame: The frame.
            ref: Its source.
            kind: ``Source.kind``.
            count: Frames of the source before it.
        """
        if not self._resume:
            return False
        if kind == "image":
            return self.holds_image(frame.path or Path(frame.name), ref)
        path = self._path(ref, frame.path or Path(frame.name), video=True)
        if path not in self._before:
            self._before[path] = frames_written(path)
        if count >= self._before[path]:
            return False
        self._held[path] = frame.index
        return True

    def holds_image(self, path: Path, ref: SourceRef) -> bool:
        """Return True if the run is resumed and has this image file annotated."""
        return self._resume and self._path(ref, path, video=False).is_file()

    def _path(self, ref: SourceRef, name: Path, *, video: bool) -> Path:
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = self._new_path(ref, name, _VIDEOS_KEPT if video else _IMAGES_WRITTEN, video)
        return path

    def _new_path(self, ref: SourceRef, name: Path, kept: frozenset[str], video: bool) -> Path:
        if self._target is not None and self._one_file:
            return self._target
        suffix = name.suffix if name.suffix.lower() in kept else (".mp4" if video else ".jpg")
        if self._target is None:
            if ref.folder is None or len(ref.paths) == 1:
                return self._names.take(Path(), name.stem, f"{self._mark}{suffix}")
            root = Path(f"{ref.folder.resolve().name or 'images'}{self._mark}")
        else:
            root = self._target
        stem = self._source_names.stem(name)
        return self._names.take(root / stem.parent, name.stem, suffix)

    @property
    def unfinished(self) -> Path | None:
        """Temporary name of the video that is being written."""
        return None if self._sink is None else self._sink.unfinished

    def end_source(self) -> None:
        """Complete the video of a source, if there is one.

        Raises:
            OutputError: If it cannot be completed.
        """
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()
            if sink.frames:
                self._videos.append(f"{source_name(sink.path)} ({sink.description})")

    def summary(self) -> list[str]:
        """Return the files that were written: each video, and images one by one only if there is one."""
        if self._images == 0:
            return self._videos
        last = source_name(self._last_image)
        folder = source_name(self._last_image.parent)
        return [last if self._images == 1 else f"{self._images:,} images in {folder}", *self._videos]

    def close(self) -> None:
        """Complete what is open, and check that the folders still exist.

        Raises:
            OutputError: If a video cannot be completed, or a folder was removed while images were written to it.
        """
        self.end_source()
        folders, self._folders = self._folders, {}
        for folder, before in folders.items():
            if not _is_same(folder, before):
                raise OutputError(
                    f"{source_name(folder)} was removed or replaced while it was written to",
                    hint="run the command again",
                )

    def abandon(self) -> None:
        """Complete what is open after a failure, and suppress further failures: the first one is reported."""
        with contextlib.suppress(FeatherposeError):
            self.close()


def _is_same(folder: Path, before: os.stat_result) -> bool:
    try:
        return os.path.samestat(folder.stat(), before)
    except OSError:
        return False


def _is_file_name(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | set(VIDEO_OUTPUT_SUFFIXES) | {".gif"}
