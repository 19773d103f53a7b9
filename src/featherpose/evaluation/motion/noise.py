"""Keypoint noise of a network by joint, and known motion seen with such errors.

Measured on photographs of one network (`measure_keypoint_noise`): people who are large and whole, as in videos for
analysis. The error includes the annotators' own. `see_with_noise` adds it to a known person, independent in each frame
or persistent: only videos tell the two apart (`featherpose.evaluation.tracking.measure_noise`), so both are offered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.resources import files

import numpy as np

from featherpose.errors import DatasetError
from featherpose.evaluation.motion.known_people import KnownMotion
from featherpose.motion.sequence import PoseSequence
from featherpose.oks import oks_matrix
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["KeypointNoise", "bundled_noise", "measure_keypoint_noise", "see_with_noise"]

_DISTANCE_TO_SIGMA = float(np.sqrt(2 * np.log(2)))  # median distance of a normal error in the plane, in sigmas
_OUTLIER_SIGMAS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeypointNoise:
    """Keypoint noise of one network.

    Attributes:
        provenance: Network, height, photographs.
        people: How many people were compared.
        jitter: Keypoint -> standard deviation per axis in body sizes (diagonal of the box around the keypoints), from
            the median distance.
        missed: Keypoint -> share that was not found.
        outliers: Keypoint -> share farther off than four standard deviations.
    """

    provenance: str
    people: int
    jitter: dict[str, float]
    missed: dict[str, float]
    outliers: dict[str, float]

    def to_json(self) -> str:
        """Return the noise as plain data, the form that the package stores."""
        return json.dumps(asdict(self), indent=1) + "\n"


def bundled_noise() -> KeypointNoise:
    """Return the noise of the bundled network, as measured by ``benchmarks/motion.py``."""
    text = (files("featherpose.evaluation.motion") / "keypoint_noise.json").read_text(encoding="utf-8")
    return KeypointNoise(**json.loads(text))


def measure_keypoint_noise(
    pairs: Iterable[tuple[Poses, Poses]], skeleton: Skeleton, *, provenance: str, min_joints: int = 12
) -> KeypointNoise:
    """Compare detections with annotations.

    Args:
        pairs: (annotated, found) of each photograph, both in ``skeleton``.
        skeleton: The keypoints.
        provenance: Network, height, photographs, in words.
        min_joints: Annotated joints that a person needs.

    Raises:
        DatasetError: If no person is found.
    """
    distances: dict[str, list[float]] = {name: [] for name in skeleton.keypoints}
    wanted, missed = dict.fromkeys(skeleton.keypoints, 0), dict.fromkeys(skeleton.keypoints, 0)
    people = 0
    for truth, found in pairs:
        if not len(truth) or not len(found):
            continue
        similar = oks_matrix(truth, found)
        for i in range(len(truth)):
            there = np.isfinite(truth.keypoints[i, :, 0])
            j = int(similar[i].argmax())
            if there.sum() < min_joints or similar[i, j] < 0.3:
                continue
            people += 1
            box = truth.keypoints[i][there]
            size = float(np.hypot(*np.ptp(box, axis=0)))
            for k, name in enumerate(skeleton.keypoints):
                if not there[k]:
                    continue
                wanted[name] += 1
                away = float(np.hypot(*(found.keypoints[j, k] - truth.keypoints[i, k]))) / size
                if np.isfinite(away):
                    distances[name].append(away)
                else:
                    missed[name] += 1
    known = {name: np.array(values) for name, values in distances.items() if len(values) >= 10}
    if not known:
        raise DatasetError("nobody large was found on the photographs", expected="people with twelve joints or more")
    jitter = {name: float(np.median(values)) / _DISTANCE_TO_SIGMA for name, values in known.items()}
    return KeypointNoise(
        provenance=provenance,
        people=people,
        jitter={name: round(sigma, 5) for name, sigma in jitter.items()},
        missed={name: round(missed[name] / max(1, wanted[name]), 4) for name in known},
        outliers={name: round(float((v > _OUTLIER_SIGMAS * jitter[name]).mean()), 4) for name, v in known.items()},
    )


def see_with_noise(
    known: KnownMotion, skeleton: Skeleton, noise: KeypointNoise, *, seed: int, lasting_s: float = 0.0
) -> PoseSequence:
    """Return a known person as the network would detect them: with jitter, misses and outliers.

    Args:
        known: The person.
        skeleton: Keypoints of the network.
        noise: Its errors; keypoints that it does not name get the mean of the others.
        seed: For the random numbers.
        lasting_s: Time constant of the error (a Gauss-Markov process); 0 for new errors in each frame.
    """
    rng = np.random.default_rng([seed, 17])
    clean = known.in_skeleton(skeleton)
    points = clean.keypoints.copy()
    t, _, k, _ = points.shape
    size = float(np.median(np.hypot(*np.moveaxis(np.ptp(points[:, 0], axis=1), -1, 0))))

    def of(table: dict[str, float]) -> np.ndarray:
        mean = float(np.mean(list(table.values())))
        return np.array([table.get(name, mean) for name in skeleton.keypoints])

    error = rng.normal(size=(t, k, 2))
    if lasting_s > 0:
        keep = np.exp(-np.diff(clean.timestamps_s) / lasting_s)
        for row in range(1, t):
            error[row] = keep[row - 1] * error[row - 1] + np.sqrt(1 - keep[row - 1] ** 2) * error[row]
    wild = rng.random((t, k)) < of(noise.outliers)
    spread = of(noise.jitter) * size * np.where(wild, 6.0, 1.0)
    points[:, 0] += error * spread[..., None]
    points[:, 0][rng.random((t, k)) < of(noise.missed)] = np.nan
    return PoseSequence.from_arrays(points, clean.timestamps_s, skeleton, image_size=clean.image_size)
