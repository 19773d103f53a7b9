"""How alike two people are, inside compiled kernels: `featherpose.oks.mutual_oks` of one pair."""

from __future__ import annotations

import numpy as np

from featherpose.jit import kernel

__all__ = ["mutual_oks_of"]

# exp(-16) is less than what the result is rounded to.
_NOTHING = np.float32(16)


@kernel
def mutual_oks_of(a, b, areas, keypoints, variances):  # type: ignore[no-untyped-def]
    """Return the higher of both OKS of two people, at the size of one and of the other.

    Args:
        a: Index of a person.
        b: Index of another one.
        areas: float32[P] in square pixels, at least 1.
        keypoints: float32[P, K, 2], NaN where missing.
        variances: float32[K], `featherpose.oks.relative_variances`.
    """
    at_a = np.float32(0)
    at_b = np.float32(0)
    shared = 0
    two = np.float32(2)
    for k in range(variances.shape[0]):
        dx = keypoints[a, k, 0] - keypoints[b, k, 0]
        dy = keypoints[a, k, 1] - keypoints[b, k, 1]
        distance = dx * dx + dy * dy
        if distance == distance:  # both have it
            shared += 1
            x = distance / (two * areas[a] * variances[k])
            y = distance / (two * areas[b] * variances[k])
            if x < _NOTHING:
                at_a += np.exp(-x)
            if y < _NOTHING:
                at_b += np.exp(-y)
    return max(at_a, at_b) / np.float32(max(shared, 1))
