"""Sources of images: frames with their real times, in order, one at a time."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OptionError, SourceError

__all__ = ["Frame", "Source", "SourceKind", "Span"]

_log = logging.getLogger(__name__)

SourceKind = Literal["image", "video", "camera", "stream"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        image: uint8[H, W, 3], BGR; the receiver of the frame owns it and may write to it.
        index: Number of the frame in its source, from 0; skipped frames count.
        timestamp_s: Seconds since the first frame of the source, from the file's or stream's own clock, for a camera
            the time it arrived; 0 for images. It grows from frame to frame, also over a lost connection.
        name: Name of the file, camera or stream it came from.
        path: The file it came from, if there is one.
    """

    image: UInt8[np.ndarray, "H W 3"]
    index: int
    timestamp_s: float
    name: str
    path: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]

    def __repr__(self) -> str:
        return f"Frame({self.name!r} #{self.index}, {self.timestamp_s:.3f} s, {self.size[0]}x{self.size[1]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Part of a source.

    Attributes:
        start_s: Leave out frames before this time, seconds; images have no time and are not affected.
        end_s: Leave out frames from this time on, seconds.
        frame_step: Take every n-th frame.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> Span(start_s=2.0, end_s=1.0)
        Traceback (most recent call last):
        featherpose.errors.OptionError: the end (1 s) is not after the start (2 s)
    """

    start_s: float | None = None
    end_s: float | None = None
    frame_step: int = 1

    def __post_init__(self) -> None:
        if self.frame_step < 1:
            raise OptionError(f"frame step {self.frame_step}", expected="1 or more")
        for name, value in (("start", self.start_s), ("end", self.end_s)):
            if value is not None and not 0 <= value < float("inf"):
                raise OptionError(f"the {name} ({value:g} s) is impossible", expected="seconds, 0 or more")
        if self.end_s is not None and self.end_s <= (self.start_s or 0):
            raise OptionError(f"the end ({self.end_s:g} s) is not after the start ({self.start_s or 0:g} s)")

    def frames_of(self, frame_count: int, fps: float) -> int:
        """Return about how many frames of a video are in the span.

        Example:
            >>> Span(start_s=1, end_s=2, frame_step=2).frames_of(300, 30.0)
            15
        """
        first = int(min(frame_count, (self.start_s or 0) * fps))
        last = frame_count if self.end_s is None else int(min(frame_count, self.end_s * fps))
        return max(0, -(-(last - first) // self.frame_step))


class Source(ABC):
    """Iterator of frames, read one at a time: memory does not grow with the length of the source.

    Attributes:
        name: Name for people and for output files.
        kind: ``image`` (one or many), ``video``, ``camera`` or ``stream``.
        size: (width, height) in pixels where all frames share one, else None.
        fps: Frames per second where there is a rate, after ``frame_step``.
        frame_count: Frames to expect, where that is known; an estimate for some video containers.
        path: The file behind the source, if it is one.
        errors: What could not be read so far; such images are left out, such videos end early.
    """

    def __init__(self, name: str, kind: SourceKind, *, strict: bool = False) -> None:
        self.name = name
        self.kind: SourceKind = kind
        self.size: tuple[int, int] | None = None
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.path: Path | None = None
        self.errors: list[SourceError] = []
        self._strict = strict

    @property
    def live(self) -> bool:
        """Return whether frames come when they happen, not when they are asked for: a camera or a live stream."""
        return self.kind in ("camera", "stream")

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order.

        Raises:
            SourceError: If the source cannot be read at all, or, when strict, at the first problem.
        """

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Release the camera, connection or file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        size = f", {self.size[0]}x{self.size[1]}" if self.size else ""
        rate = f", {self.fps:.3g} fps" if self.fps else ""
        count = f", {self.frame_count} frames" if self.frame_count is not None else ""
        return f"{type(self).__name__}({self.name!r}{size}{rate}{count})"

    def _report(self, problem: SourceError) -> None:
        if self._strict:
            raise problem
        self.errors.append(problem)
        _log.warning("%s", problem)
