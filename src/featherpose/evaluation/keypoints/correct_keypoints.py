"""The measures of single-person data sets: correct keypoints (PCK, PCKh) and correct parts (PCP).

- PCK (Yang and Ramanan 2013, "Articulated Human Detection with Flexible Mixtures of Parts", section 6): a keypoint is
  correct within a fifth of the torso, the distance of a shoulder from the opposite hip.
- PCKh (Andriluka et al. 2014, "2D Human Pose Estimation: New Benchmark", section 4): within half of the head's size.
  MPII's own program takes 0.6 times the diagonal of the annotated head box for it; annotations in COCO's form have no
  such box, so here it is the distance of the head's top from the neck, and figures compare only with others taken so.
- PCP, strict (Ferrari et al. 2008; Eichner et al. 2012, section 3.3): a part is correct if both of its ends are within
  half of its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from featherpose.evaluation.keypoints.dataset import CocoDataset
from featherpose.skeleton import Skeleton

__all__ = ["KeypointAccuracy", "body_parts", "correct_keypoints"]

_TORSO_PART, _HEAD_PART, _LIMB_PART = 0.2, 0.5, 0.5
_LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
_NECKS = "upper_neck", "neck"


@dataclass(frozen=True, slots=True)
class KeypointAccuracy:
    """Parts of the labeled keypoints, or body parts, that were found right, 0..1; None where nothing can be compared.

    Attributes:
        pck: PCK@0.2 of the torso.
        pckh: PCKh@0.5 of the head.
        pcp: PCP@0.5 of the arms and legs.
        pck_by_keypoint: PCK@0.2 by name.
    """

    pck: float | None
    pckh: float | None
    pcp: float | None
    pck_by_keypoint: Mapping[str, float]

    def as_dict(self) -> dict[str, float | None]:
        """Return the three figures by their usual names, rounded to five digits."""
        named = {"PCK@0.2": self.pck, "PCKh@0.5": self.pckh, "PCP@0.5": self.pcp}
        return {name: None if value is None else round(value, 5) for name, value in named.items()}


def correct_keypoints(
    dataset: CocoDataset, results: Sequence[Mapping[str, Any]], *, known: Sequence[int] | None = None
) -> KeypointAccuracy:
    """Compare results with the truth of the dataset's images.

    Each annotated person is compared with the found one that has most of its keypoints right; a missing keypoint is
    wrong.

    Args:
        dataset: Images and annotations.
        results: COCO keypoint results with the keypoints of the dataset's skeleton.
        known: Keypoints that the network can find; the others do not count. All unless given.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> keypoints = np.column_stack([np.arange(34).reshape(17, 2) * 5.0, np.full(17, 2)])
        >>> person = {"image_id": 1, "keypoints": keypoints.ravel().tolist(), "num_keypoints": 17, "iscrowd": 0}
        >>> from featherpose.evaluation.keypoints.dataset import CocoImage
        >>> from pathlib import Path
        >>> data = CocoDataset("one", (CocoImage(1, Path("1.jpg")),), {"annotations": [person]}, COCO_17)
        >>> correct_keypoints(data, [person]).as_dict()
        {'PCK@0.2': 1.0, 'PCKh@0.5': None, 'PCP@0.5': 1.0}
    """
    skeleton = dataset.skeleton
    counted = np.zeros(skeleton.num_keypoints, np.bool_)
    counted[list(range(skeleton.num_keypoints)) if known is None else list(known)] = True
    found: dict[int, list[np.ndarray]] = {}
    for result in results:
        points = np.array(result["keypoints"], np.float64).reshape(-1, 3)
        points[points[:, 2] <= 0, :2] = np.nan
        found.setdefault(int(result["image_id"]), []).append(points[:, :2])
    parts = [pair for pair in body_parts(skeleton) if counted[list(pair)].all()]
    head = _head(skeleton)
    right, total = np.zeros(skeleton.num_keypoints), np.zeros(skeleton.num_keypoints)
    heads, limbs = [0, 0], [0, 0]
    chosen = {image.image_id for image in dataset.images}
    for person in dataset.annotations["annotations"]:
        if person["image_id"] not in chosen or not person["num_keypoints"] or person["iscrowd"]:
            continue
        truth = np.array(person["keypoints"], np.float64).reshape(-1, 3)
        seen = (truth[:, 2] > 0) & counted
        points = truth[:, :2]
        reach = _TORSO_PART * _torso(points, truth[:, 2] > 0, skeleton)
        distances = [np.linalg.norm(candidate - points, axis=1) for candidate in found.get(person["image_id"], [])]
        best = max(distances, key=lambda d: int(_within(d, reach, seen).sum()), default=np.full(len(points), np.nan))
        right += _within(best, reach, seen)
        total += seen
        if head is not None and (truth[list(head), 2] > 0).all():
            size = _HEAD_PART * float(np.linalg.norm(points[head[0]] - points[head[1]]))
            heads[0] += int(_within(best, size, seen).sum())
            heads[1] += int(seen.sum())
        for a, b in parts:
            if seen[a] and seen[b]:
                length = _LIMB_PART * float(np.linalg.norm(points[a] - points[b]))
                limbs[0] += int(_within(best, length, seen)[[a, b]].all())
                limbs[1] += 1
    by_name = {name: float(right[k] / total[k]) for k, name in enumerate(skeleton.keypoints) if total[k]}
    return KeypointAccuracy(
        float(right.sum() / total.sum()) if total.sum() else None,
        heads[0] / heads[1] if heads[1] else None,
        limbs[0] / limbs[1] if limbs[1] else None,
        by_name,
    )


def body_parts(skeleton: Skeleton) -> tuple[tuple[int, int], ...]:
    """Return the arms and legs of a skeleton, eight of a whole one.

    Example:
        >>> from featherpose.skeleton import LSP_14
        >>> len(body_parts(LSP_14))
        8
    """
    names = {name: k for k, name in enumerate(skeleton.keypoints)}
    pairs = ((f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in _LIMBS)
    return tuple((names[a], names[b]) for a, b in pairs if a in names and b in names)


def _within(distances: Float64[np.ndarray, " K"], reach: float, seen: Bool[np.ndarray, " K"]) -> Bool[np.ndarray, " K"]:
    with np.errstate(invalid="ignore"):
        return np.asarray((distances <= reach) & seen)


def _head(skeleton: Skeleton) -> tuple[int, int] | None:
    neck = next((name for name in _NECKS if name in skeleton.keypoints), None)
    if neck is None or "head_top" not in skeleton.keypoints:
        return None
    return skeleton.keypoints.index("head_top"), skeleton.keypoints.index(neck)


def _torso(points: Float64[np.ndarray, "K 2"], seen: Bool[np.ndarray, " K"], skeleton: Skeleton) -> float:
    """Distance of a shoulder from the opposite hip; half the diagonal of the keypoints' box where they are unknown."""
    names = {name: k for k, name in enumerate(skeleton.keypoints) if seen[k]}
    pairs = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
    lengths = [float(np.linalg.norm(points[names[a]] - points[names[b]])) for a, b in pairs if {a, b} <= set(names)]
    if lengths:
        return max(lengths)
    known = points[seen]
    return float(np.linalg.norm(known.max(axis=0) - known.min(axis=0))) / 2 if len(known) else 0.0
