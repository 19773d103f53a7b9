"""Loss of the codec alone: people are encoded as maps and decoded, without a network between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from featherpose.data.coco import labeled_images
from featherpose.data.coco_file import read_coco_file
from featherpose.geometry import Letterbox
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_maps
from featherpose.skeleton import Skeleton

__all__ = ["RoundTrip", "arrangements", "connected_groups", "round_trip"]


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Counts over keypoints; add the counts of several images with ``+``.

    Attributes:
        keypoints: Keypoints that belong to limb-connected groups of three or more.
        found: Of these, those with a decoded keypoint of that kind within the tolerance.
        grouped: Of the found, those that belong to the decoded person who stands for their group.
    """

    keypoints: int = 0
    found: int = 0
    grouped: int = 0

    def __add__(self, other: RoundTrip) -> RoundTrip:
        return RoundTrip(self.keypoints + other.keypoints, self.found + other.found, self.grouped + other.grouped)


def arrangements(
    annotations: Path, skeleton: Skeleton
) -> Iterator[tuple[int, tuple[int, int], Float32[np.ndarray, "P K 2"]]]:
    """Yield the people of each image of a COCO keypoint file, which may be gzipped.

    Yields:
        Image id, (width, height), and float32[P, K, 2] of everyone with keypoints, in the given skeleton; images
        without such people are left out.

    Raises:
        DatasetError: If the file cannot be read.
    """
    file = read_coco_file(annotations, skeleton)
    for image in labeled_images(file, annotations.parent, skeleton):
        if len(image.keypoints):
            yield image.image_id, image.size, image.keypoints


def connected_groups(person: Float32[np.ndarray, "K 2"], skeleton: Skeleton) -> list[list[int]]:
    """Return the keypoints of one person that limbs connect; a missing shoulder splits a person into several groups.

    Example:
        >>> chain = Skeleton.create("chain", list("abcd"), [(0, 1), (1, 2), (2, 3)])
        >>> connected_groups(np.array([[0, 0], [1, 0], [np.nan, np.nan], [3, 0]], np.float32), chain)
        [[0, 1], [3]]
    """
    label = list(range(skeleton.num_keypoints))
    present = ~np.isnan(person[:, 0])
    for _ in range(skeleton.num_keypoints):
        for a, b in skeleton.limbs:
            if present[a] and present[b]:
                label[a] = label[b] = min(label[a], label[b])
    return [
        [k for k in range(skeleton.num_keypoints) if present[k] and label[k] == root]
        for root in range(skeleton.num_keypoints)
        if present[root] and label[root] == root
    ]


def round_trip(
    people: Float32[np.ndarray, "P K 2"],
    size: tuple[int, int],
    decoder: PafDecoder,
    *,
    height: int = 368,
    tolerance_px: float = 4.0,
) -> RoundTrip:
    """Encode people at a network height, decode the maps, and count what was recovered.

    Args:
        people: float32[P, K, 2] in pixels of an image, NaN where missing.
        size: (width, height) of that image.
        decoder: Its skeleton is that of the people.
        height: Network input height in pixels.
        tolerance_px: In network pixels.
    """
    skeleton = decoder.skeleton
    letterbox = Letterbox.fit(size, height=height, multiple=8)
    truth = letterbox.forward(people)
    maps = encode_maps(truth, skeleton, letterbox.network_size)
    poses = decoder(maps, letterbox)
    decoded = letterbox.forward(poses.keypoints)
    count = RoundTrip()
    near = []  # for each group: bool[Q, n], which decoded person has which of its keypoints
    for person in truth:
        for group in connected_groups(person, skeleton):
            if len(group) >= 3:
                distance = np.linalg.norm(decoded[:, group] - person[group], axis=-1)
                near.append(np.nan_to_num(distance, nan=np.inf) <= tolerance_px)
    # Every decoded person is assigned to at most one group: the one of which it has most.
    votes = np.array([group.sum(axis=1) for group in near], np.int64).reshape(len(near), len(poses))
    chosen: dict[int, int] = {}
    for flat in np.argsort(-votes, axis=None, kind="stable").tolist():
        g, q = divmod(flat, max(1, len(poses)))
        if votes[g, q] > 0 and g not in chosen and q not in chosen.values():
            chosen[g] = q
    for g, group in enumerate(near):
        found = group.any(axis=0)
        right = group[chosen[g]] if g in chosen else np.zeros_like(found)
        count += RoundTrip(len(found), int(found.sum()), int((found & right).sum()))
    return count
