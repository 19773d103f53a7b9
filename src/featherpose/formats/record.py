"""Input of every file format: the people of one frame, and where the frame comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TextIO

import numpy as np

from featherpose.errors import OptionError, OutputError
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["FrameRecord", "PoseWriter", "Progress", "WriterOptions", "coordinate_rows", "person_ids"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameRecord:
    """The people of one frame.

    Attributes:
        frame: Number of the frame in its source, from 0.
        timestamp_s: Seconds since the first frame of the source.
        poses: The people.
        source: Name of the image or video: its path as the user named it.
        image_id: Number of the image in a dataset; None leaves it to the writer, a negative one leaves the image out.
        is_image: Whether the source is an image file, which has no frame numbers.
        file_stem: Name for a file of this frame, with folders where several sources need them; by ``source`` if empty.
    """

    frame: int
    timestamp_s: float
    poses: Poses
    source: str = ""
    image_id: int | None = None
    is_image: bool = False
    file_stem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """Facts of a run for its writers; each uses what concerns it.

    Attributes:
        several: The run has more than one source, so that each frame must name its source.
        header: Name the skeleton and the facts of the run in the file, where the format leaves the choice.
        facts: Facts of the run, such as `featherpose.PoseEstimator.describe` returns them.
        resume: Continue what an earlier run left instead of starting anew.
        order: Place of each source of the run, by its name; what is resumed was written in this order.
    """

    several: bool = False
    header: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    order: Mapping[str, int] = field(default_factory=dict)


class Progress:
    """Progress of an earlier run in one output that is written in order.

    Args:
        path: The output, for messages.
        order: Place of each source of this run.
    """

    def __init__(self, path: Path, order: Mapping[str, int]) -> None:
        self._path = path
        self._order = order
        self._last = (-1, -1)

    def note(self, source: str, frame: int) -> None:
        """Note a frame that the output holds.

        Raises:
            OutputError: If it is of no source of this run.
        """
        place = 0 if not source and len(self._order) == 1 else self._order.get(source)
        if place is None:
            raise OutputError(
                f"{self._path} cannot be resumed: it holds frames of {source or 'a source without a name'}, which is "
                "none of this run",
                hint="name the same sources in the same order, or leave out --resume",
            )
        self._last = max(self._last, (place, frame))

    def holds(self, record: FrameRecord) -> bool:
        """Return True for a frame that the earlier run wrote, or found empty."""
        return (self._order.get(record.source, len(self._order)), record.frame) <= self._last


class PoseWriter(ABC):
    """A file or folder that takes frames one at a time and is complete after `close`, however early that comes.

    A format is one module with one subclass, listed in ``featherpose.formats.WRITERS``; ``predict``, ``live --save``
    and the documentation read that list.

    Args:
        target: Path of the file or folder, or an open text stream where `STREAMS` is true.
        skeleton: What the keypoints are; all frames have this skeleton.
        options: What the run tells its writers.

    Attributes:
        OPTION: Name of the command line option, without dashes.
        HELP: One line for the help.
        SUFFIXES: Suffixes by which ``live --save`` recognizes the format; empty for a folder.
        MISSING: How a missing keypoint is written, for the documentation.
        STREAMS: Whether standard output (``-``) can be the target.

    Raises:
        OutputError: If the file cannot be written.
        MissingExtraError: If the format needs a package that is not installed.
    """

    OPTION: ClassVar[str]
    HELP: ClassVar[str]
    SUFFIXES: ClassVar[tuple[str, ...]] = ()
    MISSING: ClassVar[str] = "`null`"
    STREAMS: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, target: Path | TextIO, skeleton: Skeleton, options: WriterOptions = WriterOptions()) -> None:
        """Open the output."""

    @abstractmethod
    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame.

        Raises:
            OutputError: If it cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Complete the output; may be called twice.

        Raises:
            OutputError: If it cannot be completed.
        """

    def abandon(self) -> None:
        """Close after a failure: an output without a frame leaves the earlier file unchanged."""
        self.close()

    @property
    def unfinished(self) -> Path | None:
        """Return the name of the file until it is closed, if that differs from its own."""
        return None

    def holds(self, record: FrameRecord) -> bool:
        """Return True if an earlier run that is resumed wrote this frame; its poses may be empty here."""
        return False

    @classmethod
    def recover(cls, path: Path) -> list[Path]:
        """Complete what killed runs left of this output, under separate names.

        Returns:
            The files, for the message to the user.
        """
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def _path(cls, target: Path | TextIO) -> Path:
        """Return the target of a format that needs a name.

        Raises:
            OptionError: If it is a stream.
        """
        if not isinstance(target, Path):
            raise OptionError(f"--{cls.OPTION} - is impossible", expected="a name; this format is no stream of text")
        return target


def coordinate_rows(poses: Poses) -> list[list[list[float]]]:
    """Return P lists of K lists [x, y, score], rounded to a hundredth of a pixel and to four digits of score.

    float32 holds no more of a coordinate in a large image, and the files are a third of the size. A missing
    keypoint is [NaN, NaN, 0].

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> dot = Skeleton.create("dot", ["tip"], [])
        >>> tip = np.array([[[1.23456, 7]]], np.float32)
        >>> coordinate_rows(Poses(tip, np.ones((1, 1), np.float32), np.ones(1, np.float32), dot, (9, 9)))
        [[[1.23, 7.0, 1.0]]]
    """
    points = np.round(poses.keypoints.astype(np.float64), 2)
    scores = np.round(poses.keypoint_scores.astype(np.float64), 4)
    rows: list[list[list[float]]] = np.concatenate((points, scores[..., None]), axis=-1).tolist()
    return rows


def person_ids(poses: Poses) -> list[int | None]:
    """Return P ids; None without a tracker, and for people that the tracker has not confirmed yet (-1 in memory).

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> person_ids(Poses.empty(COCO_17, (64, 64)))
        []
    """
    if poses.track_ids is None:
        return [None] * len(poses)
    return [number if number >= 0 else None for number in poses.track_ids.tolist()]
