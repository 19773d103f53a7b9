"""Annotations and results in the format of PoseTrack 2018: one JSON file a video, people with track ids.

The format is COCO's with ``track_id`` for each person and ``is_labeled`` for each frame; see
https://github.com/leonid-pishchulin/poseval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.errors import DatasetError
from featherpose.parsing import ParseError, parse_json, read_document
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["PoseTrackFrame", "outside_ignored", "read_posetrack"]

_MAX_BYTES = 2**28


@dataclass(frozen=True, slots=True, eq=False)
class PoseTrackFrame:
    """One frame of a video.

    Attributes:
        file_name: The image, relative to the folder of the data set.
        index: Number of the frame in its video.
        labeled: Whether people were annotated in it; PoseTrack annotates some frames only.
        people: The people with their track ids.
        ignored: Polygons, float64[n, 2] each, in which people were not annotated.
    """

    file_name: str
    index: int
    labeled: bool
    people: Poses
    ignored: tuple[np.ndarray, ...] = ()


def read_posetrack(path: Path) -> list[PoseTrackFrame]:
    """Return the frames of one video in order.

    Raises:
        DatasetError: If the file is not such a file.
    """
    try:
        data = parse_json(read_document(path, _MAX_BYTES))
        category = next(c for c in data["categories"] if c.get("keypoints"))
        skeleton = Skeleton.create("posetrack", [str(n) for n in category["keypoints"]], [])
        people: dict[int, list[Mapping[str, Any]]] = {}
        for annotation in data["annotations"]:
            people.setdefault(int(annotation["image_id"]), []).append(annotation)
        frames = [
            PoseTrackFrame(
                file_name=str(image.get("file_name", "")),
                index=int(image.get("frame_id", position)),
                labeled=bool(image.get("is_labeled", True)),
                people=_people(people.get(int(image["id"]), ()), skeleton, image),
                ignored=_polygons(image),
            )
            for position, image in enumerate(data["images"])
        ]
    except StopIteration:
        raise DatasetError(f"{path} names no keypoints", expected="a category with a list of keypoints") from None
    except ParseError as error:
        raise DatasetError(f"{path} {error}", expected="a PoseTrack 2018 annotation file") from error
    except KeyError as error:
        raise DatasetError(f"{path} lacks {error}", expected="a PoseTrack 2018 annotation file") from error
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path} cannot be read ({reason})", expected="a PoseTrack 2018 annotation file") from error
    return sorted(frames, key=lambda frame: frame.index)


def _people(annotations: Sequence[Mapping[str, Any]], skeleton: Skeleton, image: Mapping[str, Any]) -> Poses:
    k = skeleton.num_keypoints
    rows = np.array([a["keypoints"] for a in annotations], np.float32).reshape(len(annotations), k, 3)
    there = rows[..., 2] > 0
    some = there.any(1)
    scores = np.array([a.get("scores", there[i]) for i, a in enumerate(annotations)], np.float32).reshape(-1, k)
    return Poses(
        np.where(there[..., None], rows[..., :2], np.float32(np.nan))[some],
        np.where(there, scores, np.float32(0))[some],
        np.array([a.get("score", 1.0) for a in annotations], np.float32)[some],
        skeleton,
        (int(image.get("width", 0)), int(image.get("height", 0))),
        np.array([a["track_id"] for a in annotations], np.int64)[some],
    )


def _polygons(image: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    xs, ys = image.get("ignore_regions_x", []), image.get("ignore_regions_y", [])
    if xs and not isinstance(xs[0], list):
        xs, ys = [xs], [ys]
    return tuple(np.column_stack((x, y)).astype(np.float64) for x, y in zip(xs, ys, strict=True) if len(x) > 2)


def outside_ignored(poses: Poses, polygons: Sequence[np.ndarray]) -> Poses:
    """Return the people whose center lies in no ignored region."""
    if len(poses) == 0 or not polygons:
        return poses
    centers = np.nanmean(poses.keypoints, axis=1)
    inside = np.zeros(len(poses), np.bool_)
    for polygon in polygons:
        # Even-odd rule: a ray to the right crosses the edges of a polygon an odd number of times from within.
        (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
        x, y = centers[:, :1], centers[:, 1:]
        spans = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        inside |= (spans & crossing).sum(1) % 2 == 1
    return poses[~inside]
