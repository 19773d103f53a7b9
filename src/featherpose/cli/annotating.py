"""Where annotated pictures and videos go, and writing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OptionError, OutputError
from featherpose.media.atomic import make_folder
from featherpose.media.frames import Frame, Source
from featherpose.media.images import PICTURE_SUFFIXES, write_image
from featherpose.media.naming import OutputNames
from featherpose.media.sinks import VIDEO_OUTPUT_SUFFIXES, VideoSink, open_video_sink
from featherpose.media.sources import SourceRef

__all__ = ["AnnotatedOutput"]

_PICTURES_WRITTEN = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
_VIDEOS_KEPT = frozenset((".mp4", ".m4v", ".mov", ".mkv"))


class AnnotatedOutput:
    """Annotated pictures and videos of a run.

    Without a target ``photo.jpg`` becomes ``photo.poses.jpg`` in the current folder and the folder ``holiday`` becomes
    ``holiday.poses``. A target with the suffix of a picture or video is one file, for one source; any other target
    is a folder, in which the files keep their names.

    Args:
        target: What the user named, or None.
        refs: All sources of the run.

    Raises:
        OptionError: If one file is named for several sources.
        OutputError: If the target is one of the sources.
    """

    def __init__(self, target: Path | None, refs: list[SourceRef]) -> None:
        self._target = target
        self._names = OutputNames(path for ref in refs for path in ref.paths)
        self._sink: VideoSink | None = None
        self._videos: list[str] = []
        self._pictures = 0
        self._last_picture = Path()
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
        if video == ref.is_pictures:
            kind, suffixes = (
                ("picture", sorted(_PICTURES_WRITTEN)) if ref.is_pictures else ("video", VIDEO_OUTPUT_SUFFIXES)
            )
            raise OptionError(
                f"--output {target} does not fit {ref.name}, a {kind}", expected=f"a name with {', '.join(suffixes)}"
            )

    def write(self, image: UInt8[np.ndarray, "H W 3"], frame: Frame, ref: SourceRef, source: Source) -> None:
        """Write one annotated frame.

        Raises:
            OutputError: If it cannot be written.
        """
        if source.kind == "image":
            path = self._path(ref, frame.path or Path(frame.name), _PICTURES_WRITTEN, ".jpg")
            write_image(path, image)
            self._pictures += 1
            self._last_picture = path
            return
        if self._sink is None:
            name = source.path or Path(frame.name)
            path = self._path(ref, name, _VIDEOS_KEPT, ".mp4")
            self._sink = open_video_sink(path, source.fps or 25.0, audio_from=source.path)
        self._sink.write(image, frame.timestamp_s)

    def _path(self, ref: SourceRef, name: Path, kept: frozenset[str], otherwise: str) -> Path:
        if self._target is not None and self._one_file:
            return self._target
        suffix = name.suffix if name.suffix.lower() in kept else otherwise
        if self._target is None:
            if ref.folder is None or len(ref.paths) == 1:
                return self._names.take(Path(f"{name.stem}.poses{suffix}"))
            root = Path(f"{ref.folder.resolve().name or 'pictures'}.poses")
        else:
            root = self._target
        inside = name.parent
        if ref.folder is not None and name.is_relative_to(ref.folder):
            inside = name.parent.relative_to(ref.folder)
        else:
            inside = Path()
        return self._names.take(root / inside / f"{name.stem}{suffix}")

    def end_source(self) -> None:
        """Complete the video of a source, if there is one.

        Raises:
            OutputError: If it cannot be completed.
        """
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()
            if sink.frames:
                self._videos.append(f"{sink.path} ({sink.description})")

    def summary(self) -> list[str]:
        """What was written, for people: each video, and the pictures one by one only if there is one."""
        if self._pictures == 0:
            return self._videos
        last = self._last_picture
        return [str(last) if self._pictures == 1 else f"{self._pictures:,} pictures in {last.parent}", *self._videos]

    def close(self) -> None:
        """Complete what is open."""
        self.end_source()


def _is_file_name(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES | set(VIDEO_OUTPUT_SUFFIXES) | {".gif", ".webm"}
