"""Fit the pose prior that decoding uses: mean and covariance of the keypoints of annotated people.

    python benchmarks/fit_pose_prior.py coco-train/annotations.json --hold-out-every 10 -o pose_prior.json

Every person with at least nine labeled keypoints is aligned with the mean pose by scale and translation; keypoints that
are not labeled are filled in by their expectation (Dempster et al. 1977, expectation maximization for a Gaussian).
Both coordinates share one covariance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from featherpose.data.coco import hold_out, read_coco
from featherpose.methods.paf.pose_prior import aligned
from featherpose.skeleton import OPENPOSE_18

_MIN_KEYPOINTS, _ROUNDS, _RIDGE = 9, 6, 1e-3


def fit(people: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean float64[K, 2] and covariance float64[K, K] of poses float[K, 2] with NaN where nothing is known."""
    keypoints = len(people[0])
    whole = [pose for pose in people if np.isfinite(pose[:, 0]).all()]
    mean = np.mean([(pose - pose.mean(axis=0)) / pose.std() for pose in whole], axis=0)
    covariance = 0.3 * np.eye(keypoints)
    for _ in range(_ROUNDS):
        filled, unsure = [], np.zeros((keypoints, keypoints))
        for pose in people:
            known = np.isfinite(pose[:, 0])
            seen = aligned(pose, mean)[0]
            among = covariance[np.ix_(known, known)] + _RIDGE * np.eye(known.sum())
            gain = np.linalg.solve(among, covariance[known]).T
            expected = mean + gain @ (seen[known] - mean[known])
            rest = covariance - gain @ covariance[known]
            rest[known], rest[:, known] = 0, 0
            filled.append(np.where(known[:, None], seen, expected))
            unsure += rest
        mean = np.mean(filled, axis=0)
        off = np.array(filled) - mean
        covariance = (np.einsum("nic,njc->ij", off, off) / 2 + unsure) / len(people) + 1e-4 * np.eye(keypoints)
    return mean, covariance


def main() -> None:
    """Read, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--hold-out-every", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    kept, _ = hold_out(read_coco(given.annotations, given.annotations.parent, OPENPOSE_18), given.hold_out_every)
    people = [np.asarray(p, np.float64) for image in kept for p in image.keypoints]
    people = [pose for pose in people if np.isfinite(pose[:, 0]).sum() >= _MIN_KEYPOINTS]
    mean, covariance = fit(people)
    rows = {
        "people": len(people),
        "keypoints": list(OPENPOSE_18.keypoints),
        "mean": mean.round(4).tolist(),
        "covariance": [row[: i + 1] for i, row in enumerate(covariance.round(4).tolist())],
    }
    lines = ",\n".join(
        f"{json.dumps(name)}: "
        + (json.dumps(value) if name != "covariance" else "[\n" + ",\n".join(map(json.dumps, value)) + "\n]")
        for name, value in rows.items()
    )
    given.output.write_text("{\n" + lines + "\n}\n")
    print(f"{len(people)} people, {given.output}")


if __name__ == "__main__":
    main()
