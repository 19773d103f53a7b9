"""What every file format is given: the people of one frame, and where the frame comes from."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from featherpose.poses import Poses

__all__ = ["FrameRecord", "PoseWriter", "coordinate_rows", "person_ids"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameRecord:
    """The people of one frame.

    Attributes:
        frame: Number of the frame in its source, from 0.
        timestamp_s: Seconds since the first frame of the source.
        poses: The people.
        source: Name of the picture or video.
        image_id: Number of the picture in a dataset, where it has one.
    """

    frame: int
    timestamp_s: float
    poses: Poses
    source: str = ""
    image_id: int | None = None


class PoseWriter(Protocol):
    """A file or folder that takes frames one at a time and is complete after `close`, however early that comes."""

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame.

        Raises:
            OutputError: If it cannot be written.
        """
        ...

    def close(self) -> None:
        """Complete the output; may be called twice.

        Raises:
            OutputError: If it cannot be completed.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def coordinate_rows(poses: Poses) -> list[list[list[float]]]:
    """P lists of K lists [x, y, score], rounded to a hundredth of a pixel and to four digits of score.

    float32 holds no more of a coordinate in a large picture, and the files are a third of the size. A missing
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
    """P ids; None without a tracker, and for people that the tracker has not confirmed yet (-1 in memory).

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> person_ids(Poses.empty(COCO_17, (64, 64)))
        []
    """
    if poses.track_ids is None:
        return [None] * len(poses)
    return [number if number >= 0 else None for number in poses.track_ids.tolist()]
