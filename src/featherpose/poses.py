"""The one result type: everyone found in one picture, as a struct of arrays.

Every tool takes and returns `Poses`: the decoder makes them, the tracker adds ids, drawing and file formats read
them, evaluation compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from featherpose.errors import SkeletonError
from featherpose.skeleton import Skeleton

__all__ = ["Poses"]


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """P people with K keypoints each.

    Attributes:
        keypoints: float32[P, K, 2], (x, y) in pixels of the source picture, pixel centres at integers; a missing
            keypoint is NaN.
        keypoint_scores: float32[P, K] in 0..1; 0 for a missing keypoint.
        scores: float32[P], one rank per person: higher is more certain, comparable within one model.
        skeleton: What the K keypoints are.
        image_size: (width, height) of the source picture in pixels.
        track_ids: int64[P] once a tracker has seen the people, else None.

    Raises:
        SkeletonError: If the arrays do not fit each other or the skeleton.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> Poses.empty(COCO_17, (640, 480))
        Poses(0 people, coco_17, 640x480)
    """

    keypoints: Float32[np.ndarray, "P K 2"]
    keypoint_scores: Float32[np.ndarray, "P K"]
    scores: Float32[np.ndarray, " P"]
    skeleton: Skeleton
    image_size: tuple[int, int]
    track_ids: Int64[np.ndarray, " P"] | None = None

    def __post_init__(self) -> None:
        p, k = len(self.scores), self.skeleton.num_keypoints
        if self.keypoints.shape != (p, k, 2) or self.keypoint_scores.shape != (p, k):
            raise SkeletonError(
                f"keypoints {self.keypoints.shape} and keypoint scores {self.keypoint_scores.shape} for {p} people",
                expected=f"shapes {(p, k, 2)} and {(p, k)} for skeleton {self.skeleton.name!r}",
            )
        if self.track_ids is not None and self.track_ids.shape != (p,):
            raise SkeletonError(f"track ids of shape {self.track_ids.shape}", expected=f"shape {(p,)}")

    @classmethod
    def empty(cls, skeleton: Skeleton, image_size: tuple[int, int]) -> Poses:
        """Nobody."""
        k = skeleton.num_keypoints
        return cls(
            np.empty((0, k, 2), np.float32),
            np.empty((0, k), np.float32),
            np.empty(0, np.float32),
            skeleton,
            image_size,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        tracked = "" if self.track_ids is None else ", tracked"
        return f"Poses({len(self)} people, {self.skeleton.name}, {self.image_size[0]}x{self.image_size[1]}{tracked})"

    def __getitem__(self, which: slice | Int[np.ndarray, " n"] | Bool[np.ndarray, " P"] | list[int]) -> Poses:
        """Some of the people, by slice, indices or mask.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> poses = Poses(
            ...     np.zeros((3, 17, 2), np.float32),
            ...     np.ones((3, 17), np.float32),
            ...     np.array([0.9, 0.2, 0.7], np.float32),
            ...     COCO_17,
            ...     (64, 64),
            ... )
            >>> poses[poses.scores > 0.5]
            Poses(2 people, coco_17, 64x64)
        """
        return replace(
            self,
            keypoints=self.keypoints[which],
            keypoint_scores=self.keypoint_scores[which],
            scores=self.scores[which],
            track_ids=None if self.track_ids is None else self.track_ids[which],
        )

    @property
    def visible(self) -> Bool[np.ndarray, "P K"]:
        """bool[P, K]: which keypoints were found."""
        return np.asarray(~np.isnan(self.keypoints[..., 0]))

    def boxes(self) -> Float32[np.ndarray, "P 4"]:
        """float32[P, 4]: the smallest box (left, top, right, bottom) around each person's found keypoints, pixels."""
        if len(self) == 0:
            return np.empty((0, 4), np.float32)
        found = self.visible[..., None]
        low = np.where(found, self.keypoints, np.inf).min(axis=1)
        high = np.where(found, self.keypoints, -np.inf).max(axis=1)
        boxes = np.concatenate((low, high), axis=1).astype(np.float32)
        boxes[~np.isfinite(boxes)] = np.nan
        return boxes

    def with_track_ids(self, track_ids: Int64[np.ndarray, " P"] | None) -> Poses:
        """The same people with ids."""
        return replace(self, track_ids=track_ids)

    def to(self, target: Skeleton) -> Poses:
        """The same people in another skeleton: keypoints are matched by name, a neck or mid-hip that is missing here
        becomes the midpoint of its two sides (score: the lower of both), what does not exist here is missing there.

        Example:
            >>> from featherpose.skeleton import COCO_17, OPENPOSE_18
            >>> points = np.arange(34, dtype=np.float32).reshape(1, 17, 2)
            >>> poses = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (64, 64))
            >>> poses.to(OPENPOSE_18).keypoints[0, 1]  # neck, between (10, 11) and (12, 13)
            array([11., 12.], dtype=float32)
        """  # noqa: D205 - one sentence
        if target == self.skeleton:
            return self
        keypoints = np.full((len(self), target.num_keypoints, 2), np.nan, np.float32)
        scores = np.zeros((len(self), target.num_keypoints), np.float32)
        for k, sources in enumerate(self.skeleton.sources_of(target)):
            if sources:
                columns = list(sources)
                keypoints[:, k] = self.keypoints[:, columns].mean(axis=1)
                scores[:, k] = self.keypoint_scores[:, columns].min(axis=1)
        scores[np.isnan(keypoints[..., 0])] = 0
        return replace(self, keypoints=keypoints, keypoint_scores=scores, skeleton=target)
