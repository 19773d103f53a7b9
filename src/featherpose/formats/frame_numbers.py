"""People of files that number their frames and hold no times: the time, frames without people, and the skeleton.

COCO results and OpenPose JSON share these questions; each file leaves some of them open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from featherpose.errors import OptionError, SourceError
from featherpose.formats.record import FrameRecord
from featherpose.parsing import is_finite, is_integer, shown
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton, builtin_skeletons

__all__ = ["FoundPerson", "number_in_name", "numbered_records", "skeleton_by_size"]

# Nobody may be seen for most of a video, but numbers far apart are those of a collection of images.
_FRAMES_PER_SIGHTING, _FRAMES_FREE = 100, 10_000
# COCO's files hold visibility in the place of the score: 1 hidden, 2 visible.
_VISIBILITY = (0.0, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class FoundPerson:
    """One person of one frame as a file holds them.

    Attributes:
        values: 3 K numbers: x, y and score of each keypoint.
        score: Of the person; None where the file has none.
        track_id: Id that persists over time; None where the file has none.
    """

    values: Sequence[float]
    score: float | None = None
    track_id: int | None = None

    @classmethod
    def checked(cls, values: object, score: object, track_id: object, where: str) -> FoundPerson:
        """Return a person whose values are of the right kind.

        Raises:
            SourceError: If they are not.
        """
        if not isinstance(values, list) or not values or len(values) % 3 or not all(map(is_finite, values)):
            raise SourceError(f"{where} has the keypoints {shown(values)}", expected="numbers x, y, score, x, y, ...")
        if score is not None and not is_finite(score):
            raise SourceError(f"{where} has the score {shown(score)}", expected="a number")
        number = track_id if is_integer(track_id) and track_id >= 0 else None
        return cls(values, None if score is None else float(score), number)


def number_in_name(name: str) -> int | None:
    """Return the last number in the name of a file, which is the frame's; None if there is none.

    Example:
        >>> number_in_name("a/clip2_000000000012_keypoints.json"), number_in_name("17.jpg"), number_in_name("me.png")
        (12, 17, None)
    """
    found = re.findall(r"\d{1,15}", PurePosixPath(name).stem)
    return int(found[-1]) if found else None


def skeleton_by_size(k: int, path: object) -> Skeleton:
    """Return the built-in skeleton of K keypoints.

    Raises:
        SourceError: If there is none, or more than one.

    Example:
        >>> skeleton_by_size(26, "poses").name
        'halpe_26'
    """
    known = sorted(builtin_skeletons().values(), key=lambda skeleton: skeleton.num_keypoints)
    fitting = [skeleton for skeleton in known if skeleton.num_keypoints == k]
    if not fitting:
        raise SourceError(
            f"{path} has people of {k} keypoints, whose names are not known",
            expected=", ".join(f"{skeleton.num_keypoints} ({skeleton.name})" for skeleton in known),
            hint="in Python, read_poses takes a skeleton of your own",
        )
    if len(fitting) > 1:
        names = " or ".join(skeleton.name for skeleton in fitting)
        raise SourceError(
            f"{path} has people of {k} keypoints, which may be those of {names}",
            hint="in Python, read_poses takes the one that is meant; files of `predict --jsonl-header` name theirs",
        )
    return fitting[0]


def numbered_records(
    frames: Mapping[int, Sequence[FoundPerson]],
    *,
    path: object,
    fps: float | None,
    skeleton: Skeleton | None = None,
    image_size: tuple[int, int] = (0, 0),
    source: str = "",
) -> list[FrameRecord]:
    """Return the frames of one source in order, those without people included.

    Args:
        frames: Number of the frame -> its people.
        path: What was read, for messages.
        fps: Frames a second of the numbers.
        skeleton: What the keypoints are; by their number unless given.
        image_size: (width, height) in pixels; (0, 0) if unknown.
        source: Name of the source.

    Raises:
        OptionError: If ``fps`` is missing or impossible.
        SourceError: If the keypoints are of several kinds, not in pixels, or the numbers are not those of a video.

    Example:
        >>> person = FoundPerson([3.0, 4.0, 0.9] * 17)
        >>> [
        ...     (r.frame, r.timestamp_s, len(r.poses))
        ...     for r in numbered_records({4: [person], 6: [], 10: []}, path="p", fps=10)
        ... ]
        [(4, 0.4, 1), (6, 0.6, 0), (8, 0.8, 0), (10, 1.0, 0)]
    """
    if fps is None:
        raise OptionError(
            f"{path} numbers its frames and holds no times",
            expected="frames a second of the video as well: --fps 30, or fps=30 in Python",
        )
    if not 0 < fps <= 1e6:
        raise OptionError(f"{fps} frames a second", expected="a positive number")
    people = [person for found in frames.values() for person in found]
    if not people:
        raise SourceError(f"there is nobody in any of the {len(frames)} frames of {path}")
    xy, keypoint_scores, scores = _values(people, path, skeleton)
    skeleton = skeleton or skeleton_by_size(xy.shape[1], path)
    ids = np.array([-1 if person.track_id is None else person.track_id for person in people], np.int64)
    tracked = bool((ids >= 0).any())
    rows: dict[int, slice] = {}
    end = 0
    for number, found in frames.items():
        rows[number] = slice(end, end := end + len(found))
    records = []
    for number in _grid(list(frames), path):
        row = rows.get(number, slice(0, 0))
        poses = Poses(
            xy[row], keypoint_scores[row], scores[row], skeleton, image_size, ids[row] if tracked else None
        )  # fmt: skip
        records.append(FrameRecord(number, number / fps, poses, source))
    return records


def _values(
    people: Sequence[FoundPerson], path: object, skeleton: Skeleton | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return float32[P, K, 2] with NaN where missing, float32[P, K] and float32[P], the people's own scores."""
    sizes = {len(person.values) // 3 for person in people}
    if len(sizes) > 1:
        raise SourceError(f"{path} has people of {min(sizes)} and of {max(sizes)} keypoints", expected="one skeleton")
    k = sizes.pop()
    if skeleton is not None and skeleton.num_keypoints != k:
        raise SourceError(
            f"{path} has people of {k} keypoints", expected=f"the {skeleton.num_keypoints} of {skeleton.name}"
        )
    values = np.array([person.values for person in people], np.float32).reshape(-1, k, 3)
    xy, scores = values[..., :2], values[..., 2]
    there = (scores > 0) & (xy != 0).any(-1)
    if there.any() and np.abs(xy[there]).max() <= 1:
        raise SourceError(
            f"the coordinates of {path} are within 0 and 1", expected="pixels", hint="OpenPose: --keypoint_scale 0"
        )
    if scores.max() == _VISIBILITY[-1] and np.isin(scores, _VISIBILITY).all():
        scores = scores * np.float32(0.5)
    scores = np.where(there, np.clip(scores, 0, 1), np.float32(0))
    mean = scores.sum(-1) / np.maximum(there.sum(-1), 1)
    own = np.array([np.nan if person.score is None else person.score for person in people], np.float32)
    return np.where(there[..., None], xy, np.float32(np.nan)), scores, np.where(np.isfinite(own), own, mean)


def _grid(numbers: list[int], path: object) -> range:
    """Return the numbers from first to last by their common step, so that frames without people are there as well."""
    first, last = min(numbers), max(numbers)
    step = math.gcd(*(number - first for number in numbers)) or 1
    if (last - first) // step > _FRAMES_PER_SIGHTING * len(numbers) + _FRAMES_FREE:
        raise SourceError(
            f"{path} has people in {len(numbers)} images, whose numbers go from {first} to {last}",
            expected="frames of one video, numbered in order",
        )
    return range(first, last + 1, step)
