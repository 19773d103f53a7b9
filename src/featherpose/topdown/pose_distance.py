"""Parametric pose suppression: of several poses of one person the best stays (Fang et al. 2017, arXiv 1612.00137, 3.3).

Two poses are the more alike, the more sure keypoints they share and the closer those are (equations 8 to 11): ``K =
sum of tanh(a / δ1) tanh(b / δ1)`` over keypoints that lie within a tenth of the better person's box of each other,
with their scores a and b, and ``H = sum of exp(-d / δ2)`` over keypoints at distance d. Where ``K + μ H`` exceeds γ
they are the same person. The parameters are those that the authors fitted to COCO and published with their code;
distances are in units of a hundredth of the better person's box, whose longer side is about 265 pixels there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from featherpose.errors import OptionError
from featherpose.poses import Poses
from featherpose.topdown.suppression import keep_best

__all__ = ["PoseDistance", "pose_similarity", "suppress_by_pose"]

_NEAR = 0.1
# Pixels of a person's longer side at which the published δ2 holds.
_REFERENCE_PX = 265.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseDistance:
    """Parameters of the similarity.

    Attributes:
        score_scale: δ1; scores above it count about the same.
        distance_weight: μ, of the distances against the scores.
        distance_scale: δ2, in pixels of a person whose longer side is 265 pixels.
        same_person: γ; poses that are more alike are of one person. Lower drops more.

    Raises:
        OptionError: If a value is not positive.
    """

    score_scale: float = 1.0
    distance_weight: float = 1.7
    distance_scale: float = 2.65
    same_person: float = 22.48

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}", expected="a positive number")


def pose_similarity(poses: Poses, parameters: PoseDistance = PoseDistance()) -> Float32[np.ndarray, "P P"]:
    """Return how alike each pose is to each other one, at the size of the first.

    Args:
        poses: P people.
        parameters: Of the similarity.

    Returns:
        float32[P, P]: entry (i, j) compares person j with person i at the size of person i.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
        >>> poses = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (100, 100))
        >>> round(float(pose_similarity(poses)[0, 0]), 2)  # 17 (tanh(1)² + 1.7)
        38.76
    """
    boxes = poses.boxes()
    sides = np.maximum(np.nan_to_num((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)), 1)
    offsets = poses.keypoints[:, None] - poses.keypoints[None]
    distances = np.sqrt(np.einsum("pqkc,pqkc->pqk", offsets, offsets))
    shared = np.isfinite(distances)
    distances = np.where(shared, distances, np.float32(np.inf))
    sure = np.tanh(poses.keypoint_scores / np.float32(parameters.score_scale))
    scores = np.where(distances <= _NEAR * sides[:, None, None], sure[:, None] * sure[None], 0).sum(axis=2)
    scale = parameters.distance_scale * sides[:, None, None] / _REFERENCE_PX
    near = np.exp(-distances / scale).sum(axis=2)
    return np.asarray(scores + parameters.distance_weight * near, np.float32)


def suppress_by_pose(poses: Poses, parameters: PoseDistance = PoseDistance()) -> Int64[np.ndarray, " n"]:
    """Choose the people that stay, best first: greedy suppression by the similarity of poses.

    The limit is for whole people; for a person with fewer keypoints it falls in proportion, else fragments would stay.

    Args:
        poses: P people.
        parameters: Of the similarity.

    Returns:
        int64[n], indices by falling score; people of equal score in their order.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(0, 200, (1, 17, 2)).astype(np.float32)
        >>> twice = np.concatenate((points, points + 0.5, points + 90))
        >>> scores = np.array([0.3, 0.8, 0.1], np.float32)
        >>> suppress_by_pose(Poses(twice, np.ones((3, 17), np.float32), scores, COCO_17, (300, 300))).tolist()
        [1, 2]
    """
    detected = poses.detected.sum(axis=1) / max(1, poses.skeleton.num_keypoints)
    limit = parameters.same_person * np.minimum(detected[:, None], detected[None])
    return keep_best(poses.scores, pose_similarity(poses, parameters) > limit)
