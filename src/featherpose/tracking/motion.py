"""Motion model: predicted positions of tracked people, and their uncertainty.

A person's body moves as a whole with a velocity that wanders and slowly decays (an Ornstein-Uhlenbeck process, whose
prediction over t seconds is the same in one step or in many); each joint wanders about the body. So a hidden joint
moves with the visible ones, and an occluded person continues on their path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int

from featherpose.jit import kernel
from featherpose.poses import Poses
from featherpose.tracking.track_options import TrackOptions

__all__ = ["MAX_SPREAD", "MotionState", "pose_sizes"]

# 0.4 of the diagonal of the box around the keypoints: see `featherpose.tracking.track_options`.
_SIZE_OF_DIAGONAL = 0.4
# Lower bound of the size, so that a person of one joint has a scale.
_MIN_SIZE_PX = 2.0
# Initial velocity: zero, with the standard deviation of walking pace (sizes / s).
_FIRST_SPEED = 2.0
# Upper bound on a joint's offset from where the body suggests, in sizes: limbs have a length.
MAX_SPREAD = 0.6


def pose_sizes(keypoints: Float32[np.ndarray, "P K 2"]) -> Float32[np.ndarray, " P"]:
    """Return float32[P]: size of each person in pixels, 0.4 of the diagonal of the box around the found keypoints.

    Example:
        >>> pose_sizes(np.array([[[0, 0], [30, 40], [np.nan, np.nan]]], np.float32))
        array([20.], dtype=float32)
    """
    sizes = np.empty(len(keypoints), np.float32)
    _sizes_of(np.ascontiguousarray(keypoints, np.float32), sizes)  # one type for the compiler
    return sizes


@kernel
def _sizes_of(keypoints: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(keypoints)):
        left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
        for k in range(keypoints.shape[1]):
            x, y = keypoints[i, k, 0], keypoints[i, k, 1]
            if x == x:  # not NaN
                left, right = min(left, x), max(right, x)
                top, bottom = min(top, y), max(bottom, y)
        diagonal = np.hypot(right - left, bottom - top) if right >= left else 0.0
        out[i] = max(_SIZE_OF_DIAGONAL * diagonal, _MIN_SIZE_PX)


@kernel
def _predict(
    elapsed_s: float,
    velocity_decay_s: float,
    velocity_noise: float,
    limb_velocity_noise: float,
    keypoints: np.ndarray,
    spread: np.ndarray,
    velocity: np.ndarray,
    position_var: np.ndarray,
    cross_var: np.ndarray,
    velocity_var: np.ndarray,
    sizes: np.ndarray,
) -> None:
    decay = np.exp(-elapsed_s / velocity_decay_s)
    travel = velocity_decay_s * (1 - decay)
    wander = elapsed_s - 2 * travel + velocity_decay_s / 2 * (1 - decay * decay)
    for i in range(len(sizes)):
        area = float(sizes[i]) * float(sizes[i])
        noise = velocity_noise * area
        step_x, step_y = velocity[i, 0] * travel, velocity[i, 1] * travel
        grown = limb_velocity_noise * elapsed_s * area
        most = MAX_SPREAD * MAX_SPREAD * area
        for k in range(keypoints.shape[1]):
            keypoints[i, k, 0] += step_x
            keypoints[i, k, 1] += step_y
            spread[i, k] = min(spread[i, k] + grown, most)
        velocity[i, 0] *= decay
        velocity[i, 1] *= decay
        cross, speed = cross_var[i], velocity_var[i]
        position_var[i] += (
            2 * travel * cross + travel * travel * speed + noise * velocity_decay_s * velocity_decay_s * wander
        )
        cross_var[i] = decay * (cross + travel * speed) + noise * travel * travel / 2
        velocity_var[i] = decay * decay * speed + noise * velocity_decay_s / 2 * (1 - decay * decay)


@kernel
def _correct(
    rows: np.ndarray,
    detected: np.ndarray,
    keypoints: np.ndarray,
    spread: np.ndarray,
    velocity: np.ndarray,
    position_var: np.ndarray,
    cross_var: np.ndarray,
    velocity_var: np.ndarray,
    sizes: np.ndarray,
    joint_var: np.ndarray,
) -> None:
    joints = len(joint_var)
    mean_joint_var = joint_var.mean()
    for n in range(len(rows)):
        i = rows[n]
        area = sizes[i] * sizes[i]
        total = 0.0
        body_x = 0.0
        body_y = 0.0
        for k in range(joints):
            x = detected[n, k, 0] - keypoints[i, k, 0]
            if x == x:  # both are known
                weight = 1.0 / (spread[i, k] + joint_var[k] * area)
                total += weight
                body_x += weight * x
                body_y += weight * (detected[n, k, 1] - keypoints[i, k, 1])
        shift_x = 0.0
        shift_y = 0.0
        if total > 0:
            body_x /= total
            body_y /= total
            # Errors of joints are correlated (clothes, a decoder's bias), hence no less than half a joint's variance.
            innovation_var = position_var[i] + max(1.0 / total, 0.5 * mean_joint_var * area)
            position_gain = position_var[i] / innovation_var
            velocity_gain = cross_var[i] / innovation_var
            velocity[i, 0] += velocity_gain * body_x
            velocity[i, 1] += velocity_gain * body_y
            velocity_var[i] -= velocity_gain * cross_var[i]
            cross_var[i] *= 1 - position_gain
            position_var[i] *= 1 - position_gain
            shift_x = position_gain * body_x
            shift_y = position_gain * body_y
        for k in range(joints):
            x = detected[n, k, 0]
            known = keypoints[i, k, 0] == keypoints[i, k, 0]
            if known:
                # Each joint moves with the body, then towards the residual.
                keypoints[i, k, 0] += shift_x
                keypoints[i, k, 1] += shift_y
            if x == x:
                noise = joint_var[k] * area
                if known:
                    gain = spread[i, k] / (spread[i, k] + noise)
                    keypoints[i, k, 0] += gain * (x - keypoints[i, k, 0])
                    keypoints[i, k, 1] += gain * (detected[n, k, 1] - keypoints[i, k, 1])
                    spread[i, k] *= 1 - gain
                else:  # seen for the first time: take the detection
                    keypoints[i, k, 0] = x
                    keypoints[i, k, 1] = detected[n, k, 1]
                    spread[i, k] = noise


@dataclass(slots=True)
class MotionState:
    """State of N people: one row a person, updated in place.

    Attributes:
        keypoints: float32[N, K, 2], estimated positions in pixels; NaN where a joint was never seen.
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
        """Start all people where they were detected, at an unknown velocity."""
        joint_var = (options.measurement_noise * np.asarray(poses.skeleton.sigmas, np.float32)) ** 2
        sizes = pose_sizes(poses.keypoints)
        area = sizes.astype(np.float64) ** 2
        return cls(
            keypoints=np.array(poses.keypoints, np.float32, order="C"),
            spread=np.asarray(joint_var * sizes[:, None] ** 2, np.float32),
            velocity=np.zeros((len(poses), 2)),
            # The mean of many joints is more certain than one of them.
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
        """Predict all people some seconds ahead; uncertainty grows.

        The exact transition of an Ornstein-Uhlenbeck velocity with decay time ``velocity_decay_s`` and noise density
        ``velocity_noise``: Uhlenbeck and Ornstein, Physical Review 36, 1930.
        """
        if elapsed_s <= 0 or len(self) == 0:
            return
        options = self.options
        _predict(
            float(elapsed_s), float(options.velocity_decay_s), float(options.velocity_noise),
            float(options.limb_velocity_noise),
            self.keypoints, self.spread, self.velocity, self.position_var, self.cross_var, self.velocity_var,
            self.sizes,
        )  # fmt: skip

    def correct(
        self,
        rows: Int[np.ndarray, " n"],
        detected: Float32[np.ndarray, "n K 2"],
    ) -> None:
        """Update with detections: first the body moves to them as a whole, then each joint (two Kalman updates).

        Args:
            rows: Which people were detected, each once.
            detected: float32[n, K, 2], their keypoints in pixels, NaN where missing.
        """
        if len(rows) == 0:
            return
        _correct(
            rows, detected, self.keypoints, self.spread, self.velocity, self.position_var, self.cross_var,
            self.velocity_var, self.sizes, self.joint_var,
        )  # fmt: skip
        self.sizes[rows] = pose_sizes(self.keypoints[rows])

    def rescale(self, scale_x: float, scale_y: float) -> None:
        """Rescale the state to another size of the same images."""
        scale = np.array([scale_x, scale_y])
        self.keypoints *= scale.astype(np.float32)
        self.velocity *= scale
        area = scale_x * scale_y
        self.spread *= np.float32(area)
        for variance in (self.position_var, self.cross_var, self.velocity_var):
            variance *= area
        self.sizes *= np.float32(np.sqrt(area))

    def keep(self, rows: np.ndarray) -> None:
        """Keep these people (a mask or indices) and drop the others."""
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[rows])

    def extend(self, others: MotionState) -> None:
        """Append other people."""
        for name in _ROWS:
            setattr(self, name, np.concatenate((getattr(self, name), getattr(others, name))))


_ROWS = ("keypoints", "spread", "velocity", "position_var", "cross_var", "velocity_var", "sizes")
