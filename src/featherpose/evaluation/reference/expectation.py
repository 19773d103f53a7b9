"""The third pass of PAF decoding, plainly: what `featherpose.methods.paf.expectation` is held to."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int32

from featherpose.methods.paf.pose_prior import PosePrior, aligned

__all__ = ["complete_by_expectation_plainly", "expected_keypoints"]


def expected_keypoints(
    pose: Float64[np.ndarray, "K 2"], prior: PosePrior
) -> tuple[Float64[np.ndarray, "K 2"], Float64[np.ndarray, " K"]]:
    """Conditional mean and standard deviation of every keypoint given those that are known (NaN where unknown).

    Example:
        >>> from featherpose.methods.paf.pose_prior import pose_prior
        >>> from featherpose.skeleton import COCO_17
        >>> prior = pose_prior(COCO_17)
        >>> pose = prior.mean[prior.rows].copy()
        >>> pose[0] = np.nan
        >>> bool(np.allclose(expected_keypoints(pose, prior)[0][0], prior.mean[prior.rows[0]], atol=1e-6))
        True
    """
    mean, covariance = prior.mean[prior.rows], prior.covariance[np.ix_(prior.rows, prior.rows)]
    known = np.isfinite(pose[:, 0]) & (prior.rows >= 0)
    seen, scale = aligned(np.where(known[:, None], pose, np.nan), mean)
    among = covariance[np.ix_(known, known)] + 0.02 * np.eye(int(known.sum()))
    gain = np.linalg.solve(among, covariance[known]).T
    inside = mean + gain @ (seen - mean)[known]
    variance = np.diag(covariance - gain @ covariance[known])
    center, middle = pose[known].mean(axis=0), mean[known].mean(axis=0)
    return (inside - middle) / scale + center, np.sqrt(np.maximum(variance, 1e-6)) / scale


def complete_by_expectation_plainly(
    members: Int32[np.ndarray, "P K"],
    positions: Float32[np.ndarray, "N 2"],
    scores: Float32[np.ndarray, " N"],
    starts: Int32[np.ndarray, " K1"],
    prior: PosePrior,
) -> Int32[np.ndarray, "P K"]:
    """People, best first, take free peaks where they expect one, and join others that lie where they expect them.

    Arguments as for `featherpose.methods.paf.expectation.complete_by_expectation`.
    """
    people = [{k: int(q) for k, q in enumerate(row) if q >= 0} for row in members]
    for p, person in enumerate(people):
        joined = True
        while joined:
            joined = False
            pose = np.full((members.shape[1], 2), np.nan)
            for k, q in person.items():
                pose[k] = positions[q]
            if (np.isfinite(pose[:, 0]) & (prior.rows >= 0)).sum() < 2:
                break
            expected, spread = expected_keypoints(pose, prior)
            sigma = np.maximum(spread, 4.0)
            missing = [k for k in np.argsort(spread, kind="stable").tolist() if k not in person and prior.rows[k] >= 0]
            for k in missing:
                owners = {q: other for other, one in enumerate(people) for q in one.values()}
                best, best_value = -1, 0.0
                for q in range(starts[k], starts[k + 1]):
                    distance = float(((positions[q] - expected[k]) ** 2).sum() / sigma[k] ** 2)
                    value = float(scores[q]) * float(np.exp(-distance / 2))
                    if distance > 4 or value <= best_value:
                        continue
                    rival = owners.get(q)
                    if rival is not None:
                        part = people[rival]
                        if rival <= p or part.keys() & person.keys() or any(prior.rows[i] < 0 for i in part):
                            continue
                        off = [((positions[m] - expected[i]) ** 2).sum() / sigma[i] ** 2 for i, m in part.items()]
                        if np.mean(off) > 0.5:
                            continue
                    best, best_value = q, value
                if best < 0:
                    continue
                rival = owners.get(best)
                if rival is None:
                    person[k] = best
                    continue
                person |= people[rival]
                people[rival].clear()
                joined = True
                break
    complete = np.full(members.shape, -1, np.int32)
    for p, person in enumerate(people):
        for k, q in person.items():
            complete[p, k] = q
    return complete
