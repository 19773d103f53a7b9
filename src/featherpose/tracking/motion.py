"""Where the people a tracker knows must be now, and how sure that is: the motion model.

A person's body moves as a whole with a velocity that wanders and slowly decays (an Ornstein-Uhlenbeck process, whose
prediction over t seconds is the same in one step or in many); each joint wanders about the body. So a joint that is
hidden is carried along by those that are seen, and a person behind somebody walks on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int

from featherpose.poses import Poses
from featherpose.tracking.options import TrackOptions

__all__ = ["MotionState", "pose_sizes"]

# 0.4 of the diagonal of the box around the keypoints: see `featherpose.tracking.options`.
_SIZE_OF_DIAGONAL = 0.4
# Nobody is smaller than this, so that a person of one joint has a scale.
_MIN_SIZE_PX = 2.0
# A newcomer's velocity is unknown: zero, give or take walking pace (sizes / s).
_FIRST_SPEED = 2.0
# A joint cannot be farther from where the body suggests than this (sizes): arms and legs have an end.
_MAX_SPREAD = 0.6


def pose_sizes(keypoints: Float32[np.ndarray, "P K 2"]) -> Float32[np.ndarray, " P"]:
    """float32[P]: size of each person in pixels, 0.4 of the diagonal of the box around the found keypoints.

    Example:
        >>> pose_sizes(np.array([[[0, 0], [30, 40], [np.nan, np.nan]]], np.float32))
        array([20.], dtype=float32)
    """
    if len(keypoints) == 0:
        return np.empty(0, np.float32)
    low = np.fmin.reduce(keypoints, axis=1)
    high = np.fmax.reduce(keypoints, axis=1)
    diagonal = np.hypot(*(high - low).T)
    return np.asarray(np.fmax(_SIZE_OF_DIAGONAL * diagonal, _MIN_SIZE_PX), np.float32)


@dataclass(slots=True)
class MotionState:
    """What is believed of N people: one row a person, updated in place of the previous belief.

    Attributes:
        keypoints: float32[N, K, 2], believed positions in pixels; NaN where a joint was never seen.
        spread: float32[N, K], variance of a joint about the body, pixels² per axis.
        velocity: float64[N, 2], pixels / s.
        position_var: float64[N], variance of the body's position, pixels² per axis.
        cross_var: float64[N], covariance of position and velocity, pixels² / s.
        velocity_var: float64[N], variance of the velocity, pixels² / s².
        sizes: float32[N], pixels.
        options: The rates of growth.
        joint_var: float32[K], variance of a detected keypoint, sizes².
    """

    keypoints: Float32[np.ndarray, "N K 2"]
    spread: Float32[np.ndarray, "N K"]
    velocity: Float64[np.ndarray, "N 2"]
    position_var: Float64[np.ndarray, " N"]
    cross_var: Float64[np.ndarray, " N"]
    velocity_var: Float64[np.ndarray, " N"]
    sizes: Float32[np.ndarray, " N"]
    options: TrackOptions
    joint_var: Float32[np.ndarray, " K"]

    @classmethod
    def start(cls, poses: Poses, options: TrackOptions) -> MotionState:
        """The first belief: everybody is where they were detected, and their velocity is unknown."""
        joint_var = (options.jitter * np.asarray(poses.skeleton.sigmas, np.float32)) ** 2
        sizes = pose_sizes(poses.keypoints)
        area = sizes.astype(np.float64) ** 2
        return cls(
            keypoints=poses.keypoints.astype(np.float32, copy=True),
            spread=np.asarray(joint_var * sizes[:, None] ** 2, np.float32),
            velocity=np.zeros((len(poses), 2)),
            # The mean of many joints is surer than one of them.
            position_var=float(joint_var.mean()) / 4 * area,
            cross_var=np.zeros(len(poses)),
            velocity_var=_FIRST_SPEED**2 * area,
            sizes=sizes,
            options=options,
            joint_var=joint_var,
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def predict(self, elapsed_s: float) -> None:
        """Move everybody on by some seconds; uncertainty grows.

        The exact transition of an Ornstein-Uhlenbeck velocity with decay time ``coast_s`` and noise density
        ``agility``: Uhlenbeck and Ornstein, Physical Review 36, 1930.
        """
        if elapsed_s <= 0 or len(self) == 0:
            return
        coast, area = self.options.coast_s, self.sizes.astype(np.float64) ** 2
        noise = self.options.agility * area
        decay = float(np.exp(-elapsed_s / coast))
        travel = coast * (1 - decay)
        self.keypoints += (self.velocity * travel).astype(np.float32)[:, None]
        self.velocity *= decay
        self.position_var += (
            2 * travel * self.cross_var
            + travel**2 * self.velocity_var
            + noise * coast**2 * (elapsed_s - 2 * travel + coast / 2 * (1 - decay**2))
        )
        self.cross_var = decay * (self.cross_var + travel * self.velocity_var) + noise * travel**2 / 2
        self.velocity_var = decay**2 * self.velocity_var + noise * coast / 2 * (1 - decay**2)
        area32 = self.sizes[:, None] ** 2
        np.minimum(
            self.spread + np.float32(self.options.limb_agility * elapsed_s) * area32,
            np.float32(_MAX_SPREAD**2) * area32,
            out=self.spread,
        )

    def correct(
        self,
        rows: Int[np.ndarray, " n"],
        detected: Float32[np.ndarray, "n K 2"],
    ) -> None:
        """Take in detections: first the body moves to them as a whole, then each joint (two Kalman updates).

        Args:
            rows: Which people were detected, each once.
            detected: float32[n, K, 2], their keypoints in pixels, NaN where missing.
        """
        if len(rows) == 0:
            return
        believed, spread = self.keypoints[rows], self.spread[rows]
        noise = self.joint_var * self.sizes[rows, None] ** 2
        offset = detected - believed
        shared = ~np.isnan(offset[..., 0])
        weight = np.where(shared, 1 / (spread + noise), np.float32(0))
        total = weight.sum(1, dtype=np.float64)
        offset = np.where(shared[..., None], offset, np.float32(0))
        known = total > 0
        total = np.where(known, total, 1.0)
        body = np.einsum("nk,nkc->nc", weight, offset) / total[:, None]

        # The body. Joints err together (clothes, a decoder's bias), hence no less than half a joint's variance.
        body_noise = np.maximum(1 / total, 0.5 * noise.mean(1))
        innovation_var = self.position_var[rows] + body_noise
        position_gain = np.where(known, self.position_var[rows] / innovation_var, 0.0)
        velocity_gain = np.where(known, self.cross_var[rows] / innovation_var, 0.0)
        self.velocity[rows] += velocity_gain[:, None] * body
        self.velocity_var[rows] -= velocity_gain * self.cross_var[rows]
        self.cross_var[rows] *= 1 - position_gain
        self.position_var[rows] *= 1 - position_gain
        shift = (position_gain[:, None] * body).astype(np.float32)[:, None]

        # Each joint, by what the body's movement has not explained. A joint seen for the first time is where it is.
        gain = np.where(shared, spread / (spread + noise), np.float32(0))
        believed = believed + shift + gain[..., None] * (offset - shift)
        fresh = np.isnan(believed[..., 0]) & ~np.isnan(detected[..., 0])
        self.keypoints[rows] = np.where(fresh[..., None], detected, believed)
        self.spread[rows] = np.where(fresh, noise, (1 - gain) * spread)
        self.sizes[rows] = pose_sizes(self.keypoints[rows])

    def keep(self, rows: np.ndarray) -> None:
        """Keep these people (a mask or indices) and forget the others."""
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[rows])

    def extend(self, others: MotionState) -> None:
        """Append other people."""
        for name in _ROWS:
            setattr(self, name, np.concatenate((getattr(self, name), getattr(others, name))))


_ROWS = ("keypoints", "spread", "velocity", "position_var", "cross_var", "velocity_var", "sizes")
