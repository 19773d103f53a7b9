"""Tables: one row a person, for spreadsheets and data frames; CSV and Parquet have the same columns.

``source, frame, timestamp_s, person, id, score``, then ``<keypoint>_x, <keypoint>_y, <keypoint>_score`` for every
keypoint. A missing keypoint is empty in CSV and null in Parquet; ``id`` is empty without a tracker. A frame without
people has no row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from featherpose.formats.record import FrameRecord, coordinate_rows, person_ids
from featherpose.skeleton import Skeleton

__all__ = ["table_columns", "table_rows"]


def table_columns(skeleton: Skeleton) -> list[str]:
    """Return the names of the columns.

    Example:
        >>> table_columns(Skeleton.create("dot", ["tip"], []))
        ['source', 'frame', 'timestamp_s', 'person', 'id', 'score', 'tip_x', 'tip_y', 'tip_score']
    """
    points = [f"{name}_{part}" for name in skeleton.keypoints for part in ("x", "y", "score")]
    return ["source", "frame", "timestamp_s", "person", "id", "score", *points]


def table_rows(record: FrameRecord) -> list[list[Any]]:
    """Return one row for each person of a frame, in the order of `table_columns`; None is an empty cell."""
    poses = record.poses
    ids = person_ids(poses)
    scores = np.round(poses.scores.astype(np.float64), 4).tolist()
    start = [record.source, record.frame, round(record.timestamp_s, 6)]
    return [
        [*start, p, ids[p], scores[p], *(v for x, y, s in person for v in ((x, y, s) if x == x else (None,) * 3))]
        for p, person in enumerate(coordinate_rows(poses))
    ]
