"""Where the heads in an image are: of people who were found, and where weak keypoints say that there may be one.

A false head hides a part of the image; a missed head shows a person who must not be recognized. Therefore keypoints
count here at scores far below those at which they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from featherpose.augment.bodies import HEAD_POINTS, head_sizes, named_points
from featherpose.errors import OptionError
from featherpose.poses import Candidates, Poses

__all__ = ["HeadOptions", "Heads", "find_heads"]

_DOWN = np.array([0.0, 1.0])
# Half axes of the ellipse around a head of height 1: hair and chin included, and the uncertainty of the keypoints. With
# the quantile below they hide the most heads of 141 held-out photographs for the area that they cover in vain.
_HALF_WIDTH, _HALF_HEIGHT = 0.78, 0.98
# A head without a neighbor of known size: height in pixels of the network's input.
_LONE_PX = 26.0
# Candidates within this many head heights of each other belong to one head.
_TOGETHER = 0.9
# Scores of a lone peak count more where other parts of a face are near.
_COMPANY = 0.5
# Of the estimates of a head's size, from distances in the face and of the body: weak keypoints may be far off.
_QUANTILE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """Thresholds for accepting a head.

    The least scores are chosen on held-out photographs by ``benchmarks/augment.py --min-scores``.

    Attributes:
        min_keypoint_score: Keypoints of people below this score are not looked at.
        min_peak_score: Candidates that belong to nobody count from this score on; None looks at people only. A
            candidate alone needs twice as much as one beside another part of a face.
        margin: Heads are covered so much larger; 1 for the usual size.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_keypoint_score: float = 0.03
    min_peak_score: float | None = 0.03
    margin: float = 1.0

    def __post_init__(self) -> None:
        scores = (self.min_keypoint_score, self.min_peak_score or 0.0)
        if not all(0 <= score <= 1 for score in scores) or not 0.2 <= self.margin <= 5:
            raise OptionError(f"{self}", expected="scores from 0 to 1 and a margin from 0.2 to 5")


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """N heads, each an upright ellipse.

    Attributes:
        boxes: float32[N, 4], left, top, right, bottom of the ellipse in pixels; they may reach beyond the image.
        scores: float32[N], score of the best keypoint that supports it.
        sources: N words: ``person`` or ``peak``; ``held`` for one that was seen shortly before or after.
    """

    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, " N"]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Heads:
        """Return no heads."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), ())

    def joined(self, other: Heads) -> Heads:
        """Return these and others."""
        return Heads(
            np.concatenate((self.boxes, other.boxes)),
            np.concatenate((self.scores, other.scores)),
            self.sources + other.sources,
        )


_DEFAULT = HeadOptions()


def find_heads(poses: Poses, options: HeadOptions = _DEFAULT) -> Heads:
    """Find every head of an image.

    Args:
        poses: People; with ``candidates`` (`featherpose.PoseEstimator` with ``candidates=0.03``) also what belongs to
            nobody.
        options: Thresholds for accepting a head.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.full((1, 17, 2), np.nan, np.float32)
        >>> points[0, :5] = ((50, 50), (53, 47), (47, 47), (57, 48), (43, 48))
        >>> scores = np.isfinite(points[..., 0]).astype(np.float32)
        >>> heads = find_heads(Poses(points, scores, np.ones(1, np.float32), COCO_17, (100, 100)))
        >>> heads.boxes.round(), heads.sources
        (array([[40., 34., 60., 60.]], dtype=float32), ('person',))
    """
    heads = _of_people(poses, options)
    if poses.candidates is None or options.min_peak_score is None or not len(poses.candidates):
        return heads
    return heads.joined(_of_peaks(poses.candidates, heads, options))


def _of_people(poses: Poses, options: HeadOptions) -> Heads:
    sizes = head_sizes(poses, min_score=options.min_keypoint_score, quantile=_QUANTILE)
    names = named_points(poses.skeleton)
    face = [i for name in HEAD_POINTS for i in names.get(name, ())]
    boxes, scores = [], []
    for p, size in enumerate(sizes.tolist()):
        if not size > 0:
            continue
        points = poses.keypoints[p].astype(np.float64)
        points[poses.keypoint_scores[p] < options.min_keypoint_score] = np.nan
        seen = points[[i for i in face if np.isfinite(points[i, 0])]]
        if len(seen) > 2:  # a weak ear far away belongs to another person
            seen = seen[np.hypot(*(seen - np.median(seen, 0)).T) <= 1.2 * size]
        if len(seen):
            center = (seen.min(0) + seen.max(0)) / 2
        else:
            center = _above_trunk(points, names, size)
            if center is None:
                continue
        boxes.append(_ellipse(center, size * options.margin, seen))
        scores.append(float(poses.keypoint_scores[p][face].max(initial=0.0)) or float(poses.keypoint_scores[p].max()))
    if not boxes:
        return Heads.none()
    return Heads(np.array(boxes, np.float32), np.array(scores, np.float32), ("person",) * len(boxes))


def _above_trunk(
    points: Float64[np.ndarray, "K 2"], names: dict[str, tuple[int, ...]], size: float
) -> Float64[np.ndarray, "2"] | None:
    """Where the head of a person is whose face is not seen."""
    where = {name: np.nanmean(points[list(ends)], 0) if np.isfinite(points[list(ends)]).any() else None
             for name, ends in names.items() if name in ("neck", "mid_hip")}  # fmt: skip
    neck, hips = where.get("neck"), where.get("mid_hip")
    if neck is None:
        return None
    down = _DOWN if hips is None else (hips - neck) / max(float(np.hypot(*(hips - neck))), 1e-6)
    return np.asarray(neck - 0.75 * size * down)


def _ellipse(
    center: Float64[np.ndarray, "2"], size: float, points: Float64[np.ndarray, "n 2"]
) -> tuple[float, float, float, float]:
    """Fit an ellipse around a head that also holds its points."""
    half = np.array([_HALF_WIDTH, _HALF_HEIGHT]) * size
    if len(points):
        reach = np.abs((points - center) / half)
        half *= max(1.0, float(np.hypot(*reach.T).max()) + 0.15)
    center = center - (0, 0.08 * size)
    return (
        float(center[0] - half[0]), float(center[1] - half[1]), float(center[0] + half[0]), float(center[1] + half[1])
    )  # fmt: skip


def _of_peaks(candidates: Candidates, known: Heads, options: HeadOptions) -> Heads:
    """Return heads from candidates that no known head covers."""
    names = named_points(candidates.skeleton)
    kinds = [i for name in HEAD_POINTS for i in names.get(name, ())]
    least = float(options.min_peak_score or 0.0)
    chosen = np.isin(candidates.keypoints, kinds) & (candidates.scores >= least)
    order = np.flatnonzero(chosen)
    order = order[np.argsort(-candidates.scores[order], kind="stable")]
    positions = candidates.positions.astype(np.float64)
    free = ~_covered(positions, known.boxes)
    boxes, scores = [], []
    for seed in order.tolist():
        if not free[seed]:
            continue
        lone = _LONE_PX * float(candidates.reach_px[seed])
        near = [
            i for i in order.tolist()
            if free[i] and candidates.reach_px[i] == candidates.reach_px[seed]
            and np.hypot(*(positions[i] - positions[seed])) <= _TOGETHER * lone
        ]  # fmt: skip
        # One candidate a kind: the best, which comes first.
        members: dict[int, int] = {}
        for i in near:
            members.setdefault(int(candidates.keypoints[i]), i)
        company = len(members) > 1
        if candidates.scores[seed] < least / (1.0 if company else _COMPANY):
            continue
        rows = list(members.values())
        size = _size_of(candidates, rows, lone)
        points = positions[rows]
        box = _ellipse((points.min(0) + points.max(0)) / 2, size * options.margin, points)
        boxes.append(box)
        scores.append(float(candidates.scores[seed]))
        free &= ~_covered(positions, np.array([box], np.float32))
    if not boxes:
        return Heads.none()
    return Heads(np.array(boxes, np.float32), np.array(scores, np.float32), ("peak",) * len(boxes))


def _size_of(candidates: Candidates, rows: list[int], lone: float) -> float:
    """Height of the head that some candidates belong to."""
    skeleton = candidates.skeleton
    points = np.full((1, skeleton.num_keypoints, 2), np.nan, np.float32)
    scores = np.zeros((1, skeleton.num_keypoints), np.float32)
    points[0, candidates.keypoints[rows]] = candidates.positions[rows]
    scores[0, candidates.keypoints[rows]] = 1
    size = float(head_sizes(Poses(points, scores, np.ones(1, np.float32), skeleton, (0, 0)))[0])
    return float(np.clip(size, 0.7 * lone, 2.5 * lone)) if size > 0 else lone


def _covered(points: Float64[np.ndarray, "n 2"], boxes: Float32[np.ndarray, "m 4"]) -> np.ndarray:
    """bool[n]: which points lie in some ellipse."""
    if not len(boxes):
        return np.zeros(len(points), bool)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.asarray((np.square((points[:, None] - center) / half).sum(-1) <= 1).any(1))
