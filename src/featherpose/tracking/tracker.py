"""`PoseTracker`: persistent ids from frame to frame and through occlusions."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Int

from featherpose.errors import OptionError, SkeletonError
from featherpose.poses import Poses
from featherpose.tracking.matching import assign, shifted_oks
from featherpose.tracking.motion import MotionState, pose_sizes
from featherpose.tracking.track_options import TrackOptions

__all__ = ["PoseTracker", "certainties"]

_UNCONFIRMED = -1
# A person is remembered for at most this many times as long as they were known.
_MOMENTS = 3.0


def certainties(poses: Poses) -> Float32[np.ndarray, " P"]:
    """Return float32[P] in 0..1: mean score of the found keypoints times sqrt(found / K).

    Person scores rank people within one model; this is comparable between models, because keypoint scores are.
    """
    found = poses.detected.sum(1)
    k = poses.skeleton.num_keypoints
    return np.asarray(poses.keypoint_scores.sum(1) / np.sqrt(np.maximum(found, 1) * k), np.float32)


class PoseTracker:
    """Assigns persistent ids to people.

    In each frame the motion model predicts all known people (`featherpose.tracking.motion`). Strong detections are
    assigned to known people by similarity (`featherpose.tracking.matching`), then weak detections to those left over,
    then the rest to unconfirmed people; what remains starts new people. Lost people are remembered for a while. Ids
    count from 0 for each tracker, so two cameras share nothing. Not thread-safe: one stream, one tracker.

    Args:
        options: Thresholds; the defaults were chosen on rendered scenes (``featherpose evaluate-tracking``).

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> tracker = PoseTracker()
        >>> points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
        >>> pose = Poses(points, np.full((1, 17), 0.8, np.float32), np.ones(1, np.float32), COCO_17, (200, 100))
        >>> [tracker.update(pose, timestamp_s=i / 25).track_ids.item() for i in range(4)]
        [-1, 0, 0, 0]
    """

    def __init__(self, options: TrackOptions | None = None) -> None:
        self._options = options or TrackOptions()
        self._clear(next_id=0)

    def _clear(self, next_id: int) -> None:
        self._next_id = next_id
        self._time_s = -math.inf
        self._image_size = (0, 0)
        self._state: MotionState | None = None
        self._ids = np.empty(0, np.int64)
        self._evidence = np.empty(0)
        self._born_s = np.empty(0)
        self._seen_s = np.empty(0)

    @property
    def options(self) -> TrackOptions:
        """Return the thresholds."""
        return self._options

    @property
    def count(self) -> int:
        """Return how many people have been given an id since the last `reset`."""
        return self._next_id

    def reset(self) -> None:
        """Forget all people; ids start from 0 again."""
        self._clear(next_id=0)

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Assign ids to the people of the next frame.

        Args:
            poses: All detected people, in pixels of the source; nothing is removed or changed.
            timestamp_s: Time of the frame in seconds, from any origin; not before the previous frame's.

        Returns:
            The same people in the same order with ``track_ids``; -1 means not confirmed: seen too briefly or too
            faintly to be counted. ``tracked[tracked.track_ids >= 0]`` are the confirmed ones.

        Raises:
            OptionError: If time goes backwards or is not a number.
            SkeletonError: If the skeleton is another than before.
        """
        if not math.isfinite(timestamp_s) or timestamp_s < self._time_s:
            raise OptionError(
                f"timestamp {timestamp_s} s after {self._time_s} s",
                expected="times that do not decrease",
                hint="call reset() when a source starts again",
            )
        ids = np.full(len(poses), _UNCONFIRMED, np.int64)
        state, size_before = self._state, self._image_size
        self._image_size = poses.image_size
        if state is None:
            self._time_s = timestamp_s
            self._start(poses, np.arange(len(poses)), certainties(poses), ids)
            return poses.with_track_ids(ids)
        if state.keypoints.shape[1] != poses.skeleton.num_keypoints:
            raise SkeletonError(
                f"poses of skeleton {poses.skeleton.name!r} with {poses.skeleton.num_keypoints} keypoints",
                expected=f"{state.keypoints.shape[1]} keypoints as in the frames before",
                hint="use one tracker for each model",
            )
        if poses.image_size != size_before and min(*poses.image_size, *size_before) > 0:
            # A camera that came back, or a stream that adapts to its network: the same view at another resolution.
            state.rescale(poses.image_size[0] / size_before[0], poses.image_size[1] / size_before[1])
        self._forget(timestamp_s)
        state.predict(timestamp_s - self._time_s)
        self._time_s = float(timestamp_s)
        if len(poses):
            self._associate(state, poses, ids)
        return poses.with_track_ids(ids)

    def _associate(self, state: MotionState, poses: Poses, ids: np.ndarray) -> None:
        options = self._options
        certainty = certainties(poses)
        usable = certainty >= options.weak_certainty
        strong = certainty >= options.strong_certainty
        fits = shifted_oks(
            state.keypoints,
            state.spread,
            state.position_var,
            state.sizes,
            np.ascontiguousarray(poses.keypoints, np.float32),  # one type for the compiler
            pose_sizes(poses.keypoints),
            np.asarray(poses.skeleton.sigmas, np.float32),
        )
        unseen_s = self._time_s - self._seen_s
        if options.max_lost_s > 0:
            fits *= (1 - options.lost_penalty * np.minimum(unseen_s / options.max_lost_s, 1)).astype(np.float32)[
                :, None
            ]

        free_row = np.ones(len(state), np.bool_)
        free_column = np.ones(len(poses), np.bool_)
        matches: list[tuple[np.ndarray, np.ndarray]] = []
        confirmed = self._ids >= 0
        for people, detections, least in (
            (confirmed, strong, options.min_similarity),
            (confirmed, usable, options.weak_min_similarity),
            (~confirmed, usable, options.weak_min_similarity),
        ):
            rows = np.flatnonzero(people & free_row)
            columns = np.flatnonzero(detections & free_column)
            if len(rows) == 0 or len(columns) == 0:
                continue
            some_rows, some_columns = assign(fits[rows][:, columns], least)
            rows, columns = rows[some_rows], columns[some_columns]
            free_row[rows] = False
            free_column[columns] = False
            matches.append((rows, columns))

        if matches:
            rows = np.concatenate([m[0] for m in matches])
            columns = np.concatenate([m[1] for m in matches])
            state.correct(rows, np.ascontiguousarray(poses.keypoints[columns], np.float32))
            self._seen_s[rows] = self._time_s
            self._evidence[rows] += certainty[columns]
            self._confirm(rows)
            ids[columns] = self._ids[rows]

        newcomers = np.flatnonzero(strong & free_column)
        if len(newcomers) and options.fragment_similarity < 1:
            seen = ~free_row & (self._ids >= 0)
            torn = (fits[np.ix_(seen, newcomers)] >= options.fragment_similarity).any(0)
            newcomers = newcomers[~torn]
        self._start(poses, newcomers, certainty, ids)

    def _start(
        self,
        poses: Poses,
        columns: Int[np.ndarray, " n"],
        certainty: Float32[np.ndarray, " P"],
        ids: np.ndarray,
    ) -> None:
        columns = columns[certainty[columns] >= self._options.strong_certainty]
        if len(columns) == 0:
            return
        started = MotionState.start(poses[columns], self._options)
        if self._state is None:
            self._state = started
        else:
            self._state.extend(started)
        now = np.full(len(columns), self._time_s)
        first = len(self._ids)
        self._ids = np.concatenate((self._ids, np.full(len(columns), _UNCONFIRMED, np.int64)))
        self._evidence = np.concatenate((self._evidence, certainty[columns].astype(np.float64)))
        self._born_s = np.concatenate((self._born_s, now))
        self._seen_s = np.concatenate((self._seen_s, now))
        rows = np.arange(first, len(self._ids))
        self._confirm(rows)
        ids[columns] = self._ids[rows]

    def _confirm(self, rows: Int[np.ndarray, " n"]) -> None:
        ready = rows[(self._ids[rows] < 0) & (self._evidence[rows] >= self._options.min_init_score)]
        self._ids[ready] = np.arange(self._next_id, self._next_id + len(ready))
        self._next_id += len(ready)

    def _forget(self, now_s: float) -> None:
        options = self._options
        # A person seen for a moment is remembered for a few such moments.
        known_s = self._seen_s - self._born_s
        memory = np.minimum(options.max_lost_s, options.max_unconfirmed_s + _MOMENTS * known_s)
        memory = np.where(self._ids >= 0, memory, options.max_unconfirmed_s)
        # The frame after the last detection is never too late, however long it took: a slow source drops no person.
        keep = (now_s - self._seen_s <= memory) | (self._seen_s >= self._time_s)
        if keep.all() or self._state is None:
            return
        self._state.keep(keep)
        self._ids, self._evidence = self._ids[keep], self._evidence[keep]
        self._born_s, self._seen_s = self._born_s[keep], self._seen_s[keep]
