"""Similarity of detections and tracked people: OKS after the most probable shift, and the best assignment.

A person who was hidden for a second may have moved, but keeps the same shape. Plain OKS would fall to zero with the
distance; a tolerance for distance alone would accept every shape. So the uncertainty of the body's position is separate
from that of the joints: the former weighs the shift, the latter the remaining difference in shape.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int

from featherpose.jit import kernel

__all__ = ["assign", "shifted_oks"]

# Sharing one joint proves less than sharing ten: n shared joints count n / (n + 1).
_SHARED_PRIOR = 1.0
# exp(-12) is nothing.
_FAR = 12.0


@kernel
def _shifted_oks(
    believed: np.ndarray,
    spread: np.ndarray,
    position_var: np.ndarray,
    believed_sizes: np.ndarray,
    detected: np.ndarray,
    detected_sizes: np.ndarray,
    variances: np.ndarray,
    out: np.ndarray,
) -> None:
    people, joints = spread.shape
    for i in range(people):
        for j in range(len(detected)):
            size = max(believed_sizes[i], detected_sizes[j])
            area = size * size
            total = 0.0
            shift_x = 0.0
            shift_y = 0.0
            tolerance = 0.0
            shared = 0
            for k in range(joints):
                x = detected[j, k, 0] - believed[i, k, 0]
                if x == x:  # neither is NaN
                    joint = area * variances[k]
                    weight = joint / (joint + spread[i, k])
                    total += weight
                    shift_x += weight * x
                    shift_y += weight * (detected[j, k, 1] - believed[i, k, 1])
                    tolerance += weight * joint
                    shared += 1
            out[i, j] = 0.0
            if shared == 0:
                continue
            shift_x /= total
            shift_y /= total
            tolerance /= total
            share = position_var[i] / (position_var[i] + tolerance)
            shift_x *= share
            shift_y *= share
            far = (shift_x * shift_x + shift_y * shift_y) / (2 * position_var[i])
            if far > _FAR:
                continue
            alike = 0.0
            for k in range(joints):
                x = detected[j, k, 0] - believed[i, k, 0]
                if x == x:
                    x -= shift_x
                    y = detected[j, k, 1] - believed[i, k, 1] - shift_y
                    joint = area * variances[k]
                    exponent = (x * x + y * y) / (2 * (joint + spread[i, k]))
                    if exponent < _FAR:
                        alike += joint / (joint + spread[i, k]) * np.exp(-exponent)
            out[i, j] = np.exp(-far) * alike / total * shared / (shared + _SHARED_PRIOR)


def shifted_oks(
    believed: Float32[np.ndarray, "N K 2"],
    spread: Float32[np.ndarray, "N K"],
    position_var: Float64[np.ndarray, " N"],
    believed_sizes: Float32[np.ndarray, " N"],
    detected: Float32[np.ndarray, "P K 2"],
    detected_sizes: Float32[np.ndarray, " P"],
    sigmas: Float32[np.ndarray, " K"],
) -> Float32[np.ndarray, "N P"]:
    """Return the similarity of N tracked and P detected people, 0..1.

    With residuals r_k = detected - believed, tolerances t_k = (2 sigma_k · size)² (OKS, the larger size of the two),
    weights w_k = t_k / (t_k + spread_k) and the body's variance v, the most probable shift is
    s = v / (v + mean t) · mean r (weighted means), and the similarity
    ``exp(-s² / 2v) · mean exp(-(r_k - s)² / 2(t_k + spread_k)) · n / (n + 1)`` for n shared joints. Without
    uncertainty (spread = 0, v → 0) it is OKS but for the last factor. Terms below exp(-12) count as 0.

    Args:
        believed: float32[N, K, 2] positions in pixels, NaN where unknown.
        spread: float32[N, K] variances of the joints, pixels².
        position_var: float64[N] variances of the bodies, pixels², positive.
        believed_sizes: float32[N] pixels.
        detected: float32[P, K, 2] positions in pixels, NaN where missing.
        detected_sizes: float32[P] pixels.
        sigmas: float32[K], the OKS constants.

    Example:
        >>> pose = np.array([[[0, 0], [30, 40]]], np.float32)
        >>> zero, size = np.zeros((1, 2), np.float32), np.array([20], np.float32)
        >>> round(float(shifted_oks(pose, zero, np.ones(1), size, pose, size, np.full(2, 0.1, np.float32))[0, 0]), 3)
        0.667
    """
    out = np.empty((len(believed), len(detected)), np.float32)
    variances = (2 * np.asarray(sigmas, np.float32)) ** 2
    _shifted_oks(believed, spread, position_var, believed_sizes, detected, detected_sizes, variances, out)
    return out


def assign(similarity: Float32[np.ndarray, "N P"], least: float) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Return the pairs of the assignment with the greatest total similarity; pairs below ``least`` do not count.

    Returns:
        Rows and columns of the pairs.

    Example:
        >>> rows, columns = assign(np.array([[0.9, 0.8], [0.8, 0.1]], np.float32), 0.2)
        >>> rows.tolist(), columns.tolist()  # greedily, the second person would be left alone
        ([0, 1], [1, 0])
    """
    from scipy.optimize import linear_sum_assignment  # loads for half a second, which still images need not pay

    allowed = np.where(similarity >= least, similarity, np.float32(0))
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    matched = allowed[rows, columns] > 0
    return rows[matched], columns[matched]
