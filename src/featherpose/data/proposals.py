"""Boxes as a detector finds people in them, for training: its own errors, which depend on the pose.

Fang et al. 2017 (RMPE, arXiv 1612.00137), section 3.4: the distribution of the offsets between a detector's boxes and
the true ones, given a coarse pose, is learned once; training then draws boxes from it for every annotated person.
Poses are clustered by k-means. The distribution of a cluster is a mixture of Gaussians with one at each offset that
was seen, so nothing has to be fitted but its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from scipy.cluster.vq import kmeans2

from featherpose.errors import ConfigError
from featherpose.geometry import box_overlaps
from featherpose.parsing import ParseError, read_arrays

__all__ = ["Proposals"]

MIN_OVERLAP = 0.5
"""A box found is a person's from this intersection over union on, as in COCO's AP50."""
_MIN_FOUND = 40
_MOST_CLUSTERS, _OFFSETS_PER_CLUSTER = 12, 40
_MIN_SIDE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What a detector gets wrong about people of each kind of pose.

    Attributes:
        poses: float32[C, K, 2]: the middle of each cluster, see `normalized`.
        offsets: float32[N, 4]: of left, top, right and bottom of the boxes found, in widths and heights of the true
            ones.
        clusters: int64[N]: the cluster of each offset.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> people = rng.uniform(0, 100, (50, 5, 2)).astype(np.float32)
        >>> boxes = np.concatenate([people.min(axis=1), people.max(axis=1)], axis=1)
        >>> wider = boxes + np.array([-10, 0, 10, 0], np.float32)  # a detector whose boxes are 20 pixels too wide
        >>> proposals = Proposals.learn(people, boxes, list(wider[:, None]))
        >>> drawn = proposals.draw(people[0], boxes[0], rng)
        >>> bool(drawn[2] - drawn[0] > boxes[0, 2] - boxes[0, 0]), bool(abs(drawn[1] - boxes[0, 1]) < 1)
        (True, True)
    """

    poses: Float32[np.ndarray, "C K 2"]
    offsets: Float32[np.ndarray, "N 4"]
    clusters: Int64[np.ndarray, " N"]

    @classmethod
    def learn(
        cls, people: Float32[np.ndarray, "P K 2"], boxes: Float32[np.ndarray, "P 4"], found: Sequence[np.ndarray]
    ) -> Proposals:
        """Learn from the boxes that a detector found.

        Args:
            people: Keypoints in pixels of their images, NaN where unknown.
            boxes: The true box of each.
            found: For each person float32[n, 4], all boxes that were found in the person's image.

        Raises:
            ConfigError: If too few people were found.
        """
        taken, offsets = [], []
        for number, (box, others) in enumerate(zip(boxes, found, strict=True)):
            if not len(others):
                continue
            overlaps = box_overlaps(box, others)
            best = int(overlaps.argmax())
            if overlaps[best] >= MIN_OVERLAP:
                taken.append(number)
                offsets.append((others[best] - box) / _sides(box))
        if len(taken) < _MIN_FOUND:
            raise ConfigError(
                f"the detector of [data.crops] found {len(taken)} of {len(people)} people",
                expected=f"at least {_MIN_FOUND}", hint="take another detector, or shift and scale without one",
            )  # fmt: skip
        poses = np.stack([normalized(people[number], boxes[number]) for number in taken])
        count = min(_MOST_CLUSTERS, max(1, len(taken) // _OFFSETS_PER_CLUSTER))
        middles, clusters = kmeans2(poses.reshape(len(poses), -1), count, minit="++", seed=0)
        return cls(
            np.asarray(middles, np.float32).reshape(count, *poses.shape[1:]), np.asarray(offsets, np.float32),
            np.asarray(clusters, np.int64),
        )  # fmt: skip

    def draw(
        self, person: Float32[np.ndarray, "K 2"], box: Float32[np.ndarray, " 4"], rng: np.random.Generator
    ) -> Float32[np.ndarray, " 4"]:
        """Draw a box as the detector might find the person in.

        Args:
            person: Keypoints in pixels, NaN where unknown.
            box: The true box.
            rng: Random generator; equal states give equal boxes.
        """
        distances = np.square(self.poses - normalized(person, box)).sum(axis=(1, 2))
        # k-means may leave a cluster empty.
        known = np.flatnonzero(np.bincount(self.clusters, minlength=len(distances)))
        near = self.offsets[self.clusters == known[distances[known].argmin()]]
        # Silverman's width for four dimensions: (4 / (d + 2)) ** (1 / (d + 4)) * n ** (-1 / (d + 4)).
        width = (4 / 6) ** (1 / 8) * len(near) ** (-1 / 8) * near.std(axis=0)
        offset = near[rng.integers(len(near))] + width * rng.normal(0, 1, 4)
        left, top, right, bottom = box + offset * _sides(box)
        smallest = _MIN_SIDE * _sides(box)
        return np.array([left, top, max(right, left + smallest[0]), max(bottom, top + smallest[1])], np.float32)

    def save(self, path: Path) -> None:
        """Write everything to an ``.npz`` file."""
        np.savez(path, poses=self.poses, offsets=self.offsets, clusters=self.clusters)

    @classmethod
    def read(cls, path: Path) -> Proposals:
        """Read what `save` wrote.

        Raises:
            ConfigError: If the file is damaged or something else.
        """
        try:
            arrays = read_arrays(path)
            return cls(arrays["poses"], arrays["offsets"], arrays["clusters"])
        except (ParseError, KeyError) as error:
            raise ConfigError(f"{path} cannot be read ({error})", hint="remove it: it is made again") from error


def normalized(person: Float32[np.ndarray, "K 2"], box: Float32[np.ndarray, " 4"]) -> Float32[np.ndarray, "K 2"]:
    """Return keypoints in halves of the box's longer side around its center; 0 where unknown."""
    half = float(_sides(box).max()) / 2
    center = (box[:2] + box[2:]) / 2
    return np.asarray(np.nan_to_num((person - center) / half), np.float32)


def _sides(box: Float32[np.ndarray, " 4"]) -> Float32[np.ndarray, " 4"]:
    width, height = max(float(box[2] - box[0]), 1e-3), max(float(box[3] - box[1]), 1e-3)
    return np.array([width, height, width, height], np.float32)
