"""Trackers for comparison, and plain references of the tracker's algorithms."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from featherpose.errors import FeatherposeError
from featherpose.poses import Poses
from featherpose.tracking.motion import MAX_SPREAD, MotionState, pose_sizes
from featherpose.tracking.track_options import SmoothOptions
from featherpose.tracking.tracker import certainties

__all__ = [
    "BoxTracker",
    "PlainOneEuro",
    "PreviousFrameTracker",
    "Tracker",
    "plain_correct",
    "plain_predict",
    "plain_shifted_oks",
]


class Tracker(Protocol):
    """Interface of a tracker."""

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Return the same people with ids; -1 for unconfirmed people."""
        ...


class PreviousFrameTracker:
    """The rule of Osokin's Lightweight OpenPose demonstration (2018): greedy matching with the previous frame only.

    People are taken from the most certain on; each takes the id of that person of the previous frame, not taken yet,
    with the most similar keypoints (their OKS term exceeds one half, with the area of the larger box); fewer
    than three similar keypoints make a new person. Every person gets an id at once, lost people are forgotten.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
        >>> pose = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (100, 100))
        >>> tracker = PreviousFrameTracker()
        >>> [tracker.update(p, t).track_ids.tolist() for t, p in enumerate([pose, pose, pose[:0], pose])]
        [[0], [0], [], [1]]
    """

    def __init__(self, *, min_similar: int = 3) -> None:
        self._min_similar = min_similar
        self._next_id = 0
        self._previous: Poses | None = None

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Assign ids; the time is ignored."""
        ids = np.full(len(poses), -1, np.int64)
        previous = self._previous
        similar = np.zeros((len(poses), 0 if previous is None else len(previous)), np.int64)
        if previous is not None and len(previous) and len(poses):
            variances = (2 * np.asarray(poses.skeleton.sigmas)) ** 2
            now, then = _box_areas(poses), _box_areas(previous)
            area = np.maximum(now[:, None], then[None]) + np.spacing(1)
            distance = ((poses.keypoints[:, None] - previous.keypoints[None]) ** 2).sum(-1)
            terms = np.exp(-np.nan_to_num(distance, nan=np.inf) / (2 * area[..., None] * variances))
            similar = (terms > 0.5).sum(-1)
        for i in np.argsort(-poses.scores, kind="stable"):
            best = int(similar[i].argmax()) if similar.shape[1] else -1
            if best >= 0 and similar[i, best] >= self._min_similar:
                assert previous is not None
                assert previous.track_ids is not None
                ids[i] = previous.track_ids[best]
                similar[:, best] = 0
            else:
                ids[i] = self._next_id
                self._next_id += 1
        self._previous = poses.with_track_ids(ids)
        return self._previous


def _box_areas(poses: Poses) -> np.ndarray:
    boxes = poses.boxes().astype(np.float64)
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


class BoxTracker:
    """ByteTrack (Zhang et al. 2022) on the boxes around the keypoints, as the ``trackers`` package implements it.

    It is given the real timestamps, and the certainty that `PoseTracker` uses as its confidence.

    Args:
        frame_rate_hz: Nominal frame rate.
        activation: Least confidence of a new track.
        high: Confidence from which a detection takes part in the first association.
        min_iou: Least overlap of a match.
        consecutive: Frames until a track counts.
        buffer_frames: Frames of 1/30 s for which a lost track is kept.

    Raises:
        FeatherposeError: If the package is not installed.
    """

    def __init__(
        self,
        *,
        frame_rate_hz: float = 25.0,
        activation: float = 0.3,
        high: float = 0.25,
        min_iou: float = 0.1,
        consecutive: int = 2,
        buffer_frames: int = 60,
    ) -> None:
        try:
            supervision = import_module("supervision")
            trackers = import_module("trackers")
        except ImportError as error:
            raise FeatherposeError(
                "the comparison with ByteTrack needs the packages trackers and supervision",
                hint="run: pip install --no-deps trackers supervision pydeprecate defusedxml tqdm "
                "(their dependency opencv-python would displace opencv-python-headless)",
            ) from error
        self._detections: Any = supervision.Detections
        self._tracker: Any = trackers.ByteTrackTracker(
            frame_rate=frame_rate_hz,
            track_activation_threshold=activation,
            high_conf_det_threshold=high,
            minimum_iou_threshold=min_iou,
            minimum_consecutive_frames=consecutive,
            lost_track_buffer=buffer_frames,
        )

    def update(self, poses: Poses, timestamp_s: float) -> Poses:
        """Assign ids."""
        ids = np.full(len(poses), -1, np.int64)
        given = self._detections(
            xyxy=poses.boxes().astype(np.float64).reshape(-1, 4),
            confidence=certainties(poses).astype(np.float64),
            data={"row": np.arange(len(poses))},
        )
        out = self._tracker.update(given, timestamp=timestamp_s)
        if len(out):
            ids[np.asarray(out.data["row"], np.int64)] = out.tracker_id
        return poses.with_track_ids(ids)


def plain_shifted_oks(
    believed: np.ndarray,
    spread: np.ndarray,
    position_var: float,
    believed_size: float,
    detected: np.ndarray,
    detected_size: float,
    sigmas: np.ndarray,
) -> float:
    """Compute `featherpose.tracking.matching.shifted_oks` for one pair, without its cut-offs."""
    shared = [k for k in range(len(sigmas)) if not math.isnan(believed[k, 0] + detected[k, 0])]
    if not shared:
        return 0.0
    area = max(believed_size, detected_size) ** 2
    tolerance = {k: (2 * float(sigmas[k])) ** 2 * area for k in shared}
    weight = {k: tolerance[k] / (tolerance[k] + float(spread[k])) for k in shared}
    total = sum(weight.values())
    residual = {k: np.asarray(detected[k], np.float64) - np.asarray(believed[k], np.float64) for k in shared}
    mean = sum(weight[k] * residual[k] for k in shared) / total
    mean_tolerance = sum(weight[k] * tolerance[k] for k in shared) / total
    shift = position_var / (position_var + mean_tolerance) * np.asarray(mean)
    alike = sum(
        weight[k] * math.exp(-float(((residual[k] - shift) ** 2).sum()) / (2 * (tolerance[k] + float(spread[k]))))
        for k in shared
    )
    far = float((shift**2).sum()) / (2 * position_var)
    return math.exp(-far) * alike / total * len(shared) / (len(shared) + 1)


def plain_predict(state: MotionState, elapsed_s: float) -> None:
    """Compute `MotionState.predict` as array formulas."""
    coast, area = state.options.velocity_decay_s, state.sizes.astype(np.float64) ** 2
    noise = state.options.velocity_noise * area
    decay = float(np.exp(-elapsed_s / coast))
    travel = coast * (1 - decay)
    state.keypoints += (state.velocity * travel).astype(np.float32)[:, None]
    state.velocity *= decay
    state.position_var += (
        2 * travel * state.cross_var
        + travel**2 * state.velocity_var
        + noise * coast**2 * (elapsed_s - 2 * travel + coast / 2 * (1 - decay**2))
    )
    state.cross_var = decay * (state.cross_var + travel * state.velocity_var) + noise * travel**2 / 2
    state.velocity_var = decay**2 * state.velocity_var + noise * coast / 2 * (1 - decay**2)
    area32 = state.sizes[:, None] ** 2
    grown = np.float32(state.options.limb_velocity_noise * elapsed_s) * area32
    state.spread = np.minimum(state.spread + grown, np.float32(MAX_SPREAD**2) * area32)


def plain_correct(state: MotionState, rows: np.ndarray, detected: np.ndarray) -> None:
    """Compute `MotionState.correct` in numpy: first the body moves to the detections as a whole, then each joint."""
    believed, spread = state.keypoints[rows], state.spread[rows]
    noise = state.joint_var * state.sizes[rows, None] ** 2
    offset = detected - believed
    shared = ~np.isnan(offset[..., 0])
    weight = np.where(shared, 1 / (spread + noise), 0)
    total = weight.sum(1)
    offset = np.where(shared[..., None], offset, 0)
    known = total > 0
    total = np.where(known, total, 1.0)
    body = np.einsum("nk,nkc->nc", weight, offset) / total[:, None]
    innovation_var = state.position_var[rows] + np.maximum(1 / total, 0.5 * noise.mean(1))
    position_gain = np.where(known, state.position_var[rows] / innovation_var, 0.0)
    velocity_gain = np.where(known, state.cross_var[rows] / innovation_var, 0.0)
    state.velocity[rows] += velocity_gain[:, None] * body
    state.velocity_var[rows] -= velocity_gain * state.cross_var[rows]
    state.cross_var[rows] *= 1 - position_gain
    state.position_var[rows] *= 1 - position_gain
    shift = (position_gain[:, None] * body)[:, None]
    gain = np.where(shared, spread / (spread + noise), 0)
    believed = believed + shift + gain[..., None] * (offset - shift)
    fresh = np.isnan(believed[..., 0]) & ~np.isnan(detected[..., 0])
    state.keypoints[rows] = np.where(fresh[..., None], detected, believed)
    state.spread[rows] = np.where(fresh, noise, (1 - gain) * spread)
    state.sizes[rows] = pose_sizes(state.keypoints[rows])


class PlainOneEuro:
    """The One-Euro filter of one joint, step by step as in the paper (Casiez et al. 2012, section "1€ filter").

    Args:
        options: The options; ``max_gap_s`` is ignored.
        size_px: The person's size, the unit of speed.
    """

    def __init__(self, options: SmoothOptions, size_px: float) -> None:
        self._options, self._size_px = options, size_px
        self._last: tuple[float, float, float] | None = None
        self._speed = (0.0, 0.0)

    @staticmethod
    def _alpha(cutoff_hz: float, step_s: float) -> float:
        tau = 1 / (2 * math.pi * cutoff_hz)
        return 1 / (1 + tau / step_s)

    def __call__(self, x: float, y: float, time_s: float) -> tuple[float, float]:
        """Return the next position, filtered."""
        if self._last is None:
            self._last = (x, y, time_s)
            return x, y
        last_x, last_y, last_s = self._last
        step = time_s - last_s
        a = self._alpha(self._options.derivative_cutoff_hz, step)
        dx = a * (x - last_x) / step / self._size_px + (1 - a) * self._speed[0]
        dy = a * (y - last_y) / step / self._size_px + (1 - a) * self._speed[1]
        self._speed = (dx, dy)
        a = self._alpha(self._options.min_cutoff_hz + self._options.beta * math.hypot(dx, dy), step)
        out = (a * x + (1 - a) * last_x, a * y + (1 - a) * last_y)
        self._last = (*out, time_s)
        return out
