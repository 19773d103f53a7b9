"""How large a person is in the image: the body unit of scenes, and the size of heads.

Foreshortening only shortens, so each visible distance gives a lower bound, and the largest of them counts. The ratios
are the upper quartiles of 1,900 people of COCO train photographs whose shoulders and hips are labeled; a distance that
is shorter in most views (between the shoulders, between the eyes) therefore does not make a person seen from the side
small.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64, Int64

from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["HEAD_OF_TRUNK", "HEAD_POINTS", "body_units", "head_sizes", "named_points"]

HEAD_POINTS = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
"""Keypoints on the head, by the names that skeletons give them."""

HEAD_OF_TRUNK = 0.55
"""Height of the head, chin to crown, for a trunk (neck to middle of the hips) of 1."""

_MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}
# Pairs of points -> their distance for a trunk of 1. The wide ones are lower bounds only in a front view.
_OF_TRUNK = (
    ("neck", "mid_hip", 1.0),
    ("left_shoulder", "left_hip", 1.03),
    ("right_shoulder", "right_hip", 1.03),
    ("left_shoulder", "right_shoulder", 0.76),
    ("nose", "neck", 0.54),
    ("left_ear", "right_ear", 0.46),
    ("left_eye", "right_eye", 0.20),
    ("left_hip", "left_knee", 1.0),
    ("right_hip", "right_knee", 1.0),
    ("left_knee", "left_ankle", 1.0),
    ("right_knee", "right_ankle", 1.0),
)
# Likewise for a head of height 1.
_OF_HEAD = (
    ("left_ear", "right_ear", 0.70),
    ("left_eye", "right_eye", 0.30),
    ("nose", "left_ear", 0.55),
    ("nose", "right_ear", 0.55),
    ("left_eye", "left_ear", 0.42),
    ("right_eye", "right_ear", 0.42),
    ("nose", "left_eye", 0.24),
    ("nose", "right_eye", 0.24),
    ("nose", "neck", 0.95),
    ("head_top", "neck", 1.2),
    ("left_shoulder", "right_shoulder", 1.5),
    ("neck", "mid_hip", 1 / HEAD_OF_TRUNK),
)


def body_units(poses: Poses, *, min_score: float = 0.1) -> Float64[np.ndarray, " P"]:
    """Length of each person's trunk, neck to middle of the hips, as it would be without foreshortening.

    Args:
        poses: People.
        min_score: Keypoints below this score are ignored.

    Returns:
        float64[P], pixels; NaN where too little is seen.

    Example:
        >>> from featherpose.skeleton import LSP_14
        >>> points = np.full((1, 14, 2), np.nan, np.float32)
        >>> points[0, LSP_14.index("neck")] = (50, 20)
        >>> points[0, [LSP_14.index("left_hip"), LSP_14.index("right_hip")]] = ((60, 80), (40, 80))
        >>> scores = np.isfinite(points[..., 0]).astype(np.float32)
        >>> body_units(Poses(points, scores, np.ones(1, np.float32), LSP_14, (100, 100)))
        array([60.])
    """
    return _size(poses, _OF_TRUNK, min_score, 1.0)


def head_sizes(poses: Poses, *, min_score: float = 0.1, quantile: float = 1.0) -> Float64[np.ndarray, " P"]:
    """Height of each person's head, chin to crown.

    Args:
        poses: People.
        min_score: Keypoints below this score are ignored.
        quantile: Which of the estimates counts, 0..1: the largest where keypoints are exact, a lower one where some may
            be far off.

    Returns:
        float64[P], pixels; NaN where too little is seen.
    """
    return _size(poses, _OF_HEAD, min_score, quantile)


def named_points(skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """Return every point that a scene may name: keypoints, and the midpoints ``neck`` and ``mid_hip`` in their place.

    Returns:
        Name -> index of the keypoint, or of the two whose middle it is.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> named_points(COCO_17)["nose"], named_points(COCO_17)["neck"]
        ((0,), (5, 6))
    """
    points: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(skeleton.keypoints)}
    for name, sides in _MIDDLES.items():
        if name not in points and all(side in points for side in sides):
            points[name] = (points[sides[0]][0], points[sides[1]][0])
    return points


def shown_points(poses: Poses, min_score: float) -> Float32[np.ndarray, "P K 2"]:
    """Return the keypoints, those below a score as NaN."""
    return np.where((poses.keypoint_scores >= min_score)[..., None], poses.keypoints, np.float32(np.nan))


def _size(
    poses: Poses, ratios: tuple[tuple[str, str, float], ...], min_score: float, quantile: float
) -> Float64[np.ndarray, " P"]:
    first, second, of_one = _ends(poses.skeleton, ratios)
    points = shown_points(poses, min_score).astype(np.float64)
    way = (points[:, first].sum(2) - points[:, second].sum(2)) / 2  # [P, R, 2]
    distances = np.hypot(way[..., 0], way[..., 1]) / of_one
    estimates = np.where(distances > 0, distances, np.nan)
    if quantile >= 1:
        return np.asarray(np.fmax.reduce(estimates, 1, initial=np.nan))
    table = np.sort(estimates, 1)  # NaN comes last
    counts = np.isfinite(table).sum(1)
    table = np.column_stack((table, np.full(len(table), np.nan)))
    columns = np.maximum(np.ceil(quantile * counts).astype(int) - 1, 0)
    return np.asarray(table[np.arange(len(table)), columns])


@lru_cache(maxsize=64)
def _ends(
    skeleton: Skeleton, ratios: tuple[tuple[str, str, float], ...]
) -> tuple[Int64[np.ndarray, "R 2"], Int64[np.ndarray, "R 2"], Float64[np.ndarray, " R"]]:
    """Return, for distances that a skeleton has, the keypoints whose middles are their ends, and the ratios."""
    names = named_points(skeleton)
    known = [(names[a], names[b], ratio) for a, b, ratio in ratios if a in names and b in names]
    pairs = np.array([[(a[0], a[-1]), (b[0], b[-1])] for a, b, _ in known], np.int64).reshape(-1, 2, 2)
    return pairs[:, 0], pairs[:, 1], np.array([ratio for *_, ratio in known])
