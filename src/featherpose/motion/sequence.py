"""Poses over time: T frames of P tracked people as one array, with real timestamps and the history of changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from featherpose.errors import OptionError, SkeletonError, SourceError
from featherpose.formats.record import FrameRecord
from featherpose.motion.body_points import body_points
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["PoseSequence", "Step"]

_MAX_CELLS = 400_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """One change that was made to a sequence.

    Attributes:
        name: Name of the function, such as ``fill_gaps``.
        settings: Its arguments, by name.
        changed: How many values (keypoints of one frame and person) it changed, added or removed.
        text: One readable line.
    """

    name: str
    settings: dict[str, float | int | str]
    changed: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class PoseSequence:
    """T frames of P people with K keypoints each.

    Attributes:
        keypoints: float64[T, P, K, 2], (x, y); a missing keypoint is NaN. In pixels (y down) or meters (y up).
        scores: float64[T, P, K] in 0..1; 0 for a missing keypoint, and for one that a gap filler put in.
        timestamps_s: float64[T], seconds, increasing; never assumed to be evenly spaced.
        frames: int64[T], number of the frame in its source.
        track_ids: P ids, as the tracker gave them.
        skeleton: What the K keypoints are.
        image_size: (width, height) of the source in pixels, (0, 0) if unknown.
        unit: ``px`` or ``m``.
        steps: The steps so far, in order.
        original: The sequence as it was read; None if this is it.

    Raises:
        SkeletonError: If the arrays do not fit each other.
        SourceError: If the timestamps do not increase.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> times = np.arange(5) / 25
        >>> sequence = PoseSequence.from_arrays(np.zeros((5, 17, 2)), times, COCO_17)
        >>> sequence
        PoseSequence(5 frames, 1 person, coco_17, 0.160 s, px)
    """

    keypoints: Float64[np.ndarray, "T P K 2"]
    scores: Float64[np.ndarray, "T P K"]
    timestamps_s: Float64[np.ndarray, " T"]
    frames: Int64[np.ndarray, " T"]
    track_ids: tuple[int, ...]
    skeleton: Skeleton
    image_size: tuple[int, int] = (0, 0)
    unit: str = "px"
    steps: tuple[Step, ...] = ()
    original: PoseSequence | None = None

    def __post_init__(self) -> None:
        t, p, k = len(self.timestamps_s), len(self.track_ids), self.skeleton.num_keypoints
        if self.keypoints.shape != (t, p, k, 2) or self.scores.shape != (t, p, k) or self.frames.shape != (t,):
            raise SkeletonError(
                f"keypoints {self.keypoints.shape}, scores {self.scores.shape} and {len(self.frames)} frame numbers",
                expected=f"{t} frames, {p} people and the {k} keypoints of {self.skeleton.name}",
            )
        if t and not np.isfinite(self.timestamps_s).all():
            raise SourceError("a timestamp is not a number", expected="seconds for every frame")
        if (np.diff(self.timestamps_s) <= 0).any():
            raise SourceError("the timestamps do not increase", expected="a later time for every frame")

    @classmethod
    def from_arrays(
        cls,
        keypoints: np.ndarray,
        timestamps_s: np.ndarray,
        skeleton: Skeleton,
        *,
        scores: np.ndarray | None = None,
        image_size: tuple[int, int] = (0, 0),
        track_ids: Sequence[int] | None = None,
    ) -> PoseSequence:
        """Make a sequence from arrays.

        Args:
            keypoints: [T, K, 2] of one person or [T, P, K, 2]; NaN where missing.
            timestamps_s: [T] seconds.
            skeleton: What the K keypoints are.
            scores: [T, K] or [T, P, K]; 1 for every keypoint that is there unless given.
            image_size: (width, height) in pixels.
            track_ids: P ids; 0 .. P-1 unless given.
        """
        points = np.array(keypoints, np.float64)
        points = points[:, None] if points.ndim == 3 else points
        there = np.isfinite(points).all(-1)
        points[~there] = np.nan
        given = np.asarray(there if scores is None else scores, np.float64)
        given = given[:, None] if given.ndim == 2 else given
        return cls(
            points,
            np.asarray(np.where(there, given, 0.0)),
            np.asarray(timestamps_s, np.float64),
            np.arange(len(points), dtype=np.int64),
            tuple(range(points.shape[1])) if track_ids is None else tuple(track_ids),
            skeleton,
            image_size,
        )

    @classmethod
    def from_records(cls, records: Iterable[FrameRecord]) -> PoseSequence:
        """Collect the frames of one source.

        Without a tracker everything belongs to one person, if there is never more than one a frame. People whom the
        tracker has not confirmed (id -1) are left out, and so is a frame whose time is not later than the one
        before; ``steps`` counts the latter.

        Args:
            records: Frames in order, all of one source and skeleton.

        Raises:
            SourceError: If there is no frame, no person in them, no id although there are several people, or time
                stands still.
            SkeletonError: If the skeleton changes.
        """
        return _collect(records)

    @property
    def num_frames(self) -> int:
        """Return T."""
        return len(self.timestamps_s)

    @property
    def num_people(self) -> int:
        """Return P."""
        return len(self.track_ids)

    @property
    def rate_hz(self) -> float:
        """Return frames per second by the median interval; NaN for a single frame.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> PoseSequence.from_arrays(np.zeros((5, 17, 2)), np.arange(5) / 25, COCO_17).rate_hz
            25.0
        """
        if self.num_frames < 2:
            return float("nan")
        return float(round(1 / np.median(np.diff(self.timestamps_s)), 6))

    @property
    def raw(self) -> PoseSequence:
        """Return the sequence as it was read, before any step."""
        return self if self.original is None else self.original

    @property
    def found(self) -> Bool[np.ndarray, "T P K"]:
        """Return bool[T, P, K]: which keypoints were found or filled."""
        return np.asarray(np.isfinite(self.keypoints[..., 0]))

    def person(self, track_id: int) -> PoseSequence:
        """Return the sequence of one person.

        Raises:
            OptionError: If no person has this id.
        """
        if track_id not in self.track_ids:
            shown = ", ".join(map(str, self.track_ids[:20])) + (" ..." if self.num_people > 20 else "")
            raise OptionError(f"there is no person {track_id}", expected=f"one of {shown}")
        return self.select([self.track_ids.index(track_id)])

    def select(self, people: Sequence[int]) -> PoseSequence:
        """Return the sequence of some people, by their places 0 .. P-1."""
        which = list(people)
        if which == list(range(self.num_people)):
            return self
        return replace(
            self,
            keypoints=self.keypoints[:, which],
            scores=self.scores[:, which],
            track_ids=tuple(self.track_ids[p] for p in which),
            original=None if self.original is None else self.original.select(which),
        )

    def point(self, name: str) -> Float64[np.ndarray, "T P 2"]:
        """Return one keypoint by name, or ``neck``, ``mid_hip``, ``mid_ear`` from their two sides.

        Raises:
            SkeletonError: If the skeleton has no such point.
        """
        points = body_points(self, [name])
        if name not in points:
            raise SkeletonError(
                f"skeleton {self.skeleton.name!r} has no {name!r}",
                expected=f"one of {', '.join(self.skeleton.keypoints)}",
            )
        return points[name]

    def changed(
        self,
        keypoints: np.ndarray,
        step: Step,
        *,
        scores: np.ndarray | None = None,
        timestamps_s: np.ndarray | None = None,
        frames: np.ndarray | None = None,
        unit: str | None = None,
    ) -> PoseSequence:
        """Return the same people with other values; the step is recorded, and the first values are kept."""
        return replace(
            self,
            keypoints=keypoints,
            scores=self.scores if scores is None else scores,
            timestamps_s=self.timestamps_s if timestamps_s is None else timestamps_s,
            frames=self.frames if frames is None else frames,
            unit=self.unit if unit is None else unit,
            steps=(*self.steps, step),
            original=self.raw,
        )

    def without(self, out: np.ndarray, step: Step) -> PoseSequence:
        """Return the same people with keypoints marked as missing.

        Args:
            out: bool[T, P, K]: which ones.
            step: Recorded; it says why.

        Example:
            >>> from featherpose.skeleton import Skeleton
            >>> dot = Skeleton.create("dot", ["tip"], [])
            >>> sequence = PoseSequence.from_arrays(np.zeros((2, 1, 2)), np.arange(2.0), dot)
            >>> sequence.without(np.array([[[True]], [[False]]]), Step("by_hand", {}, 1, "")).found.ravel().tolist()
            [False, True]
        """
        keypoints, scores = self.keypoints.copy(), self.scores.copy()
        keypoints[out], scores[out] = np.nan, 0.0
        return self.changed(keypoints, step, scores=scores)

    def poses(self, frame: int) -> Poses:
        """Return the people in row ``frame`` as `Poses`."""
        points, scores = self.keypoints[frame], self.scores[frame]
        there = np.isfinite(points[..., 0]).any(-1)
        # A filled keypoint has no score of its own; it is drawn like a found one.
        shown = np.where(np.isfinite(points[..., 0]), np.maximum(scores, 0.1), 0.0)
        return Poses(
            points[there].astype(np.float32),
            shown[there].astype(np.float32),
            shown[there].max(-1, initial=0.0).astype(np.float32),
            self.skeleton,
            self.image_size,
            np.asarray(self.track_ids, np.int64)[there],
        )

    def __repr__(self) -> str:
        people = "1 person" if self.num_people == 1 else f"{self.num_people} people"
        lasts = float(self.timestamps_s[-1] - self.timestamps_s[0]) if self.num_frames else 0.0
        return f"PoseSequence({self.num_frames} frames, {people}, {self.skeleton.name}, {lasts:.3f} s, {self.unit})"


def _collect(records: Iterable[FrameRecord]) -> PoseSequence:
    kept: list[FrameRecord] = []
    stopped = 0
    for record in records:
        if kept and not record.timestamp_s > kept[-1].timestamp_s:
            stopped += 1
            continue
        kept.append(record)
    if not kept:
        raise SourceError("there is no frame in the source")
    if stopped and len(kept) == 1:
        raise SourceError(f"the time of all {stopped + 1} frames is the same", expected="a later time for every frame")
    skeleton = kept[0].poses.skeleton
    if any(record.poses.skeleton.keypoints != skeleton.keypoints for record in kept):
        raise SkeletonError("the skeleton changes from frame to frame", expected="one skeleton")
    alone = all(len(record.poses) <= 1 and record.poses.track_ids is None for record in kept)
    ids = sorted({number for record in kept for number in _ids(record, alone) if number >= 0})
    if not ids:
        if any(len(record.poses) for record in kept):
            raise SourceError(
                "nobody has an id although there are several people", hint="write the file with tracking (the default)"
            )
        raise SourceError(f"there is nobody in any of the {len(kept)} frames", hint="try a larger --height")
    t, p, k = len(kept), len(ids), skeleton.num_keypoints
    if t * p * k > _MAX_CELLS:
        raise SourceError(f"{t} frames of {p} people are too many at once", hint="take a shorter part of the source")
    place = {number: i for i, number in enumerate(ids)}
    keypoints = np.full((t, p, k, 2), np.nan)
    scores = np.zeros((t, p, k))
    for i, record in enumerate(kept):
        for row, number in enumerate(_ids(record, alone)):
            if number >= 0:
                keypoints[i, place[number]] = record.poses.keypoints[row]
                scores[i, place[number]] = record.poses.keypoint_scores[row]
    missing = ~np.isfinite(keypoints).all(-1)
    keypoints[missing], scores[missing] = np.nan, 0.0
    sequence = PoseSequence(
        keypoints,
        scores,
        np.array([record.timestamp_s for record in kept], np.float64),
        np.array([record.frame for record in kept], np.int64),
        tuple(ids),
        skeleton,
        kept[0].poses.image_size,
    )
    if stopped:
        text = f"left out {stopped} frames whose time is not later than that of the frame before"
        sequence = replace(sequence, steps=(Step("read", {}, stopped, text),))
    return sequence


def _ids(record: FrameRecord, alone: bool) -> list[int]:
    if alone:
        return [0] * len(record.poses)
    if record.poses.track_ids is None:
        return [-1] * len(record.poses)
    return [int(number) for number in record.poses.track_ids]
