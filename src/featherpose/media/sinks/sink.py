"""Base class of all writers of video files."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutputError
from featherpose.files import PartFile, output_error, unfinished_parts

__all__ = ["VIDEO_OUTPUT_SUFFIXES", "VideoSink", "earlier_files"]

VIDEO_OUTPUT_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi")
"""Suffixes of videos that can be written."""


class VideoSink(ABC):
    """A video that is being written.

    Args:
        path: Where it will be when it is complete.
        resume_at_s: Continue what an earlier run left of the video; time of the source's first frame in seconds.

    Attributes:
        path: Where it will be when it is complete.
        description: Codec, writer and sound, for messages.
        frames: Frames written so far.

    Raises:
        OutputError: If such a file cannot be written there.
    """

    def __init__(self, path: Path, *, resume_at_s: float | None = None) -> None:
        if path.suffix.lower() not in VIDEO_OUTPUT_SUFFIXES:
            raise OutputError(
                f"{path} is not a video that can be written", expected=f"a name with {', '.join(VIDEO_OUTPUT_SUFFIXES)}"
            )
        if path.is_dir():
            raise OutputError(f"{path} is a folder", expected="the name of a video file")
        self.path = path
        self.description = ""
        self.frames = 0
        self._start_s: float | None = resume_at_s
        self._earlier = earlier_files(path) if resume_at_s is not None else []
        self._part = PartFile(path, visible=True)
        self._failed = False
        self._closed = False

    @property
    def unfinished(self) -> Path | None:
        """Return the temporary name, or None where the file is written straight into its target."""
        return None if self._part.special else self._part.shown

    @abstractmethod
    def write(self, image: UInt8[np.ndarray, "H W 3"], timestamp_s: float) -> None:
        """Append an image; the first one decides size and time zero, later ones of another size are scaled.

        Args:
            image: uint8[H, W, 3], BGR.
            timestamp_s: When it is shown, seconds; must grow.

        Raises:
            OutputError: If it cannot be written.
        """

    @abstractmethod
    def _finish(self) -> None:
        """Complete the file at ``self._part``.

        Raises:
            OSError: If that fails, as OutputError does.
            OutputError: If that fails.
        """

    def _fail(self, error: OSError) -> OutputError:
        self._failed = True
        return output_error(self.path, error)

    def close(self) -> None:
        """Complete the file and give it its name; a sink without a frame leaves nothing. May be called twice.

        After a failure the file gets its name with the frames that were written before.

        Raises:
            OutputError: If the file cannot be completed.
        """
        if self._closed:
            return
        self._closed = True
        problem: OutputError | None = None
        try:
            try:
                self._finish()
            except OutputError as error:
                problem = error
            except OSError as error:
                problem = output_error(self.path, error)
            if self.frames:
                self._part.commit()
                for part in self._earlier:
                    if part != self.path:
                        with contextlib.suppress(OSError):
                            part.unlink()
        finally:
            self._part.discard()
        if problem is not None and not self._failed:  # otherwise the reason has already been reported
            raise problem

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def earlier_files(path: Path) -> list[Path]:
    """Return what earlier runs left of a video: unfinished files, and the finished one."""
    return [part for part in [*unfinished_parts(path), path] if part.is_file()]
