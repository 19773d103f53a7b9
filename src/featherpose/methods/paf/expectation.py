"""Missing keypoints where the rest of the person expects them, and people of whom two parts were found.

Limbs join keypoints that fields connect; where fields are faint, a person keeps gaps or falls apart. Here the people,
best first, look for each missing keypoint near its expectation under the pose prior, among the peaks that exist:

- a free peak is taken;
- a peak of a lesser person that shares no keypoint with this one and lies, as a whole, where this one expects it: both
  are one person.

Nobody loses a keypoint to a stranger, and every peak has at most one owner. What is added is weaker evidence, so it
does not change how good people are.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32

from featherpose.jit import kernel
from featherpose.methods.paf.pose_prior import PosePrior, expect_keypoints

__all__ = ["complete_by_expectation"]

_LEAST_PX = 4.0  # the expectation is never surer than this, in network pixels
_REACH = 2.0  # standard deviations within which a peak is considered
# Mean squared distance, in standard deviations of two coordinates, of another part of the same person. Chosen on COCO
# training photographs, and so that 99 % of real arrangements come back from perfect maps (tests/methods).
_FITS = 0.5
_ROUNDS = 6  # parts of one person


@kernel
def _fits(members, part, positions, expected, spread):  # type: ignore[no-untyped-def]
    """Whether another person has no keypoint in common and lies where the missing keypoints are expected."""
    off = 0.0
    count = 0
    for k in range(members.shape[0]):
        if part[k] < 0:
            continue
        if members[k] >= 0 or spread[k] < 0:
            return False
        dx = positions[part[k], 0] - expected[k, 0]
        dy = positions[part[k], 1] - expected[k, 1]
        sigma = max(spread[k], _LEAST_PX)
        off += (dx * dx + dy * dy) / (sigma * sigma)
        count += 1
    return off <= _FITS * count


@kernel
def _complete(members, positions, scores, starts, rows, mean, covariance):  # type: ignore[no-untyped-def]
    people, keypoints = members.shape
    owner = np.empty(positions.shape[0], np.int64)
    for i in range(owner.shape[0]):
        owner[i] = -1
    for p in range(people):
        for k in range(keypoints):
            if members[p, k] >= 0:
                owner[members[p, k]] = p
    expected = np.empty((keypoints, 2))
    spread = np.empty(keypoints)
    tried = np.empty(keypoints, np.bool_)
    for p in range(people):
        for _ in range(_ROUNDS):
            if not expect_keypoints(members[p], positions, rows, mean, covariance, expected, spread):
                break
            for k in range(keypoints):
                tried[k] = spread[k] < 0
            joined = False
            while not joined:
                k = -1  # the surest first
                for other in range(keypoints):
                    if not tried[other] and (k < 0 or spread[other] < spread[k]):
                        k = other
                if k < 0:
                    break
                tried[k] = True
                sigma = max(spread[k], _LEAST_PX)
                best = -1
                best_value = 0.0
                for q in range(starts[k], starts[k + 1]):
                    dx = positions[q, 0] - expected[k, 0]
                    dy = positions[q, 1] - expected[k, 1]
                    distance = (dx * dx + dy * dy) / (sigma * sigma)
                    if distance > _REACH * _REACH:
                        continue
                    value = scores[q] * np.exp(-0.5 * distance)
                    rival = owner[q]
                    if value > best_value and (
                        rival < 0 or (rival > p and _fits(members[p], members[rival], positions, expected, spread))
                    ):
                        best = q
                        best_value = value
                if best < 0:
                    continue
                rival = owner[best]
                if rival < 0:
                    members[p, k] = best
                    owner[best] = p
                    continue
                for other in range(keypoints):
                    if members[rival, other] >= 0:
                        members[p, other] = members[rival, other]
                        members[rival, other] = -1
                        owner[members[p, other]] = p
                joined = True
            if not joined:
                break


def complete_by_expectation(
    members: Int32[np.ndarray, "P K"],
    positions: Float32[np.ndarray, "N 2"],
    scores: Float32[np.ndarray, " N"],
    starts: Int32[np.ndarray, " K1"],
    prior: PosePrior,
) -> Int32[np.ndarray, "P K"]:
    """Return the people with the keypoints that they expect; people who became part of others have none.

    Args:
        members: int32[P, K], index of the peak that is the person's keypoint k, -1 where there is none; best first.
        positions: float32[N, 2] peaks in network pixels, sorted by keypoint.
        scores: float32[N].
        starts: int32[K + 1] first peak of each keypoint.
        prior: Of the skeleton.

    Example:
        >>> from featherpose.methods.paf.pose_prior import pose_prior
        >>> from featherpose.skeleton import OPENPOSE_18
        >>> prior = pose_prior(OPENPOSE_18)
        >>> peaks = (100 + 40 * prior.mean).astype(np.float32)
        >>> seen = np.arange(18, dtype=np.int32)[None].copy()
        >>> seen[0, 4] = -1  # the right wrist is where it is expected, and no limb led there
        >>> whole = complete_by_expectation(seen, peaks, np.ones(18, np.float32), np.arange(19, dtype=np.int32), prior)
        >>> int(whole[0, 4])
        4
    """
    complete = np.ascontiguousarray(members, np.int32).copy()
    _complete(complete, positions, scores, starts, prior.rows, prior.mean, prior.covariance)
    return complete
