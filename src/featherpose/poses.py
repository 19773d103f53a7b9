"""The one result type: everyone found in one image, as a struct of arrays.

Every part takes and returns `Poses`: the decoder makes them, the tracker adds ids, drawing and file formats read
them, evaluation compares them. `Person` is a view of one person, made on access.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard, overload

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from featherpose.errors import MissingExtraError, SelectionError, SkeletonError
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    import pandas
    import supervision

__all__ = ["Candidates", "Person", "Poses"]


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person of `Poses`: a view of its arrays, not a copy.

    Attributes:
        keypoints: float32[K, 2], (x, y) in pixels of the source image; a missing keypoint is NaN.
        keypoint_scores: float32[K] in 0..1; 0 for a missing keypoint.
        score: Higher is more certain.
        skeleton: What the K keypoints are.
        id: Number from a tracker; None without a tracker, and until the tracker has confirmed the person.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.arange(34, dtype=np.float32).reshape(1, 17, 2)
        >>> person = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (64, 64))[0]
        >>> person
        Person(17 of 17 keypoints, coco_17, score 1.00)
        >>> person["left_eye"]
        array([2., 3.], dtype=float32)
        >>> person.box
        array([ 0.,  1., 32., 33.], dtype=float32)
    """

    keypoints: Float32[np.ndarray, "K 2"]
    keypoint_scores: Float32[np.ndarray, " K"]
    score: float
    skeleton: Skeleton
    id: int | None = None

    def __repr__(self) -> str:
        tracked = "" if self.id is None else f", id {self.id}"
        found = f"{int(self.detected.sum())} of {len(self.keypoints)} keypoints"
        return f"Person({found}, {self.skeleton.name}, score {self.score:.2f}{tracked})"

    def __getitem__(self, keypoint: str | int) -> Float32[np.ndarray, "2"]:
        """Return float32[2], the (x, y) of one keypoint by name or index; NaN if it was not found.

        Raises:
            SkeletonError: If the skeleton has no keypoint of that name.
            SelectionError: If the index is out of range, or neither a name nor an index.
        """
        if isinstance(keypoint, str):
            return np.asarray(self.keypoints[self.skeleton.index(keypoint)])
        if not _is_index(keypoint):
            raise SelectionError(f"keypoint {keypoint!r}", expected="a name such as 'nose', or an index")
        _check_index(keypoint, len(self.keypoints), "keypoint", "keypoints")
        return np.asarray(self.keypoints[keypoint])

    def __iter__(self) -> Iterator[Float32[np.ndarray, "2"]]:
        """Iterate over the K keypoints in the order of the skeleton, each float32[2]."""
        return iter(self.keypoints)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def detected(self) -> Bool[np.ndarray, " K"]:
        """Return bool[K]: which keypoints were found."""
        return np.asarray(~np.isnan(self.keypoints[:, 0]))

    @property
    def box(self) -> Float32[np.ndarray, "4"]:
        """Return float32[4]: the box (left, top, right, bottom) of the found keypoints; NaN if there is none."""
        return np.asarray(_boxes(self.keypoints[None])[0])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, the same as one element of ``people`` in `Poses.to_dict`."""
        found = self.detected.tolist()
        points, scores = _rounded(self.keypoints, 2), _rounded(self.keypoint_scores, 4)
        return {
            "id": self.id,
            "score": _rounded(np.asarray(self.score), 4),
            "box": _rounded(self.box, 2) if any(found) else None,
            "keypoints": {
                name: [*points[k], scores[k]] if found[k] else None for k, name in enumerate(self.skeleton.keypoints)
            },
        }


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N places of an image that look like a keypoint, whether or not they belong to anybody.

    Attributes:
        positions: float32[N, 2], (x, y) in pixels of the source image.
        scores: float32[N] in 0..1.
        keypoints: int32[N], which keypoint of the skeleton.
        reach_px: float32[N], pixels of the source image for each pixel of the network's input that they were found at.
        skeleton: What the keypoints are.
    """

    positions: Float32[np.ndarray, "N 2"]
    scores: Float32[np.ndarray, " N"]
    keypoints: Int32[np.ndarray, " N"]
    reach_px: Float32[np.ndarray, " N"]
    skeleton: Skeleton

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def joined(cls, several: Sequence[Candidates]) -> Candidates:
        """Return all of several views of one image; at least one."""
        return cls(
            np.concatenate([one.positions for one in several]),
            np.concatenate([one.scores for one in several]),
            np.concatenate([one.keypoints for one in several]),
            np.concatenate([one.reach_px for one in several]),
            several[0].skeleton,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """P people with K keypoints each.

    Attributes:
        keypoints: float32[P, K, 2], (x, y) in pixels of the source image, pixel centers at integers; a missing
            keypoint is NaN.
        keypoint_scores: float32[P, K] in 0..1; 0 for a missing keypoint.
        scores: float32[P], one per person, higher is more certain: the accuracy that `featherpose.rating` expects,
            0 to 1, or where a model's people are not rated a rank that is comparable within the model.
        skeleton: What the K keypoints are.
        image_size: (width, height) of the source image in pixels.
        track_ids: int64[P] once a tracker has seen the people, else None.
        candidates: Every place that looks like a keypoint, where the estimator was asked for them, else None.

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
    candidates: Candidates | None = None

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
        """Return zero people."""
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

    def __iter__(self) -> Iterator[Person]:
        """Iterate over the people, in the order of the arrays."""
        return (self._person(i) for i in range(len(self)))

    @overload
    def __getitem__(self, which: str) -> Float32[np.ndarray, "P 2"]: ...
    @overload
    def __getitem__(self, which: int | np.integer[Any]) -> Person: ...
    @overload
    def __getitem__(self, which: slice | Int[np.ndarray, " n"] | Bool[np.ndarray, " P"] | list[int]) -> Poses: ...
    def __getitem__(
        self, which: str | int | np.integer[Any] | slice | Int[np.ndarray, " n"] | Bool[np.ndarray, " P"] | list[int]
    ) -> Float32[np.ndarray, "P 2"] | Person | Poses:
        """Select a person, some of the people, or one keypoint of everyone.

        Args:
            which: An integer for one `Person`; a slice, a list or array of indices or a mask bool[P] for `Poses`; the
                name of a keypoint for float32[P, 2], its (x, y) for each person, NaN where it was not found.

        Raises:
            SkeletonError: If the skeleton has no keypoint of that name.
            SelectionError: If there is no such person, or ``which`` is none of these.

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
            >>> poses[0]
            Person(17 of 17 keypoints, coco_17, score 0.90)
            >>> poses["nose"].shape, poses[0]["nose"].shape
            ((3, 2), (2,))
        """
        if isinstance(which, str):
            return self.keypoints[:, self.skeleton.index(which)]
        if isinstance(which, slice):
            return self._some(which)
        if _is_index(which):
            _check_index(which, len(self), "person", "people")
            return self._person(int(which))
        if not isinstance(which, list | np.ndarray):
            raise SelectionError(
                f"poses cannot be indexed with {type(which).__name__} {which!r}",
                expected="an integer, a keypoint's name, a slice, indices or a mask",
                hint='one keypoint of one person is poses[0]["nose"]',
            )
        chosen = np.asarray(which, np.int64) if isinstance(which, list) and not which else np.asarray(which)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iub":
            raise SelectionError(
                f"people selected with {chosen.dtype}{list(chosen.shape)}",
                expected=f"a list of indices, or a mask bool[{len(self)}]",
            )
        try:
            return self._some(chosen)
        except IndexError as error:
            raise SelectionError(f"the selection does not fit {len(self)} people ({error})") from None

    def _some(self, which: slice | Int[np.ndarray, " n"] | Bool[np.ndarray, " P"]) -> Poses:
        return replace(
            self,
            keypoints=self.keypoints[which],
            keypoint_scores=self.keypoint_scores[which],
            scores=self.scores[which],
            track_ids=None if self.track_ids is None else self.track_ids[which],
        )

    def _person(self, i: int) -> Person:
        number = -1 if self.track_ids is None else int(self.track_ids[i])
        return Person(
            self.keypoints[i],
            self.keypoint_scores[i],
            float(self.scores[i]),
            self.skeleton,
            number if number >= 0 else None,
        )

    @property
    def detected(self) -> Bool[np.ndarray, "P K"]:
        """Return bool[P, K]: which keypoints were found."""
        return np.asarray(~np.isnan(self.keypoints[..., 0]))

    def boxes(self) -> Float32[np.ndarray, "P 4"]:
        """Return float32[P, 4]: the box (left, top, right, bottom) of each person's found keypoints, pixels."""
        return _boxes(self.keypoints)

    def with_track_ids(self, track_ids: Int64[np.ndarray, " P"] | None) -> Poses:
        """Return the same people with ids: int64[P], or None to remove them."""
        return replace(self, track_ids=track_ids)

    def without_weak(self, min_score: float) -> Poses:
        """Return the same people without the keypoints below a score: these become missing.

        Example:
            >>> from featherpose.skeleton import Skeleton
            >>> pair = Skeleton.create("pair", ["a", "b"], [(0, 1)])
            >>> scores = np.array([[0.9, 0.1]], np.float32)
            >>> poses = Poses(np.ones((1, 2, 2), np.float32), scores, np.ones(1, np.float32), pair, (9, 9))
            >>> poses.without_weak(0.2).detected.tolist()
            [[True, False]]
        """
        weak = self.keypoint_scores < min_score
        return replace(
            self,
            keypoints=np.where(weak[..., None], np.float32(np.nan), self.keypoints),
            keypoint_scores=np.where(weak, np.float32(0), self.keypoint_scores),
        )

    def to_skeleton(self, target: Skeleton) -> Poses:
        """Return the same people in another skeleton.

        Keypoints are matched by name. A neck or mid-hip that is missing here becomes the midpoint of its two sides,
        with the lower of both scores; a keypoint that this skeleton does not have is missing in the result.

        Example:
            >>> from featherpose.skeleton import COCO_17, OPENPOSE_18
            >>> points = np.arange(34, dtype=np.float32).reshape(1, 17, 2)
            >>> poses = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (64, 64))
            >>> poses.to_skeleton(OPENPOSE_18).keypoints[0, 1]  # neck, between (10, 11) and (12, 13)
            array([11., 12.], dtype=float32)
        """
        if target == self.skeleton:
            return self
        keypoints = np.full((len(self), target.num_keypoints, 2), np.nan, np.float32)
        scores = np.zeros((len(self), target.num_keypoints), np.float32)
        here, there, middles = _columns(self.skeleton, target)
        keypoints[:, here], scores[:, here] = self.keypoints[:, there], self.keypoint_scores[:, there]
        for k, columns in middles:
            keypoints[:, k] = self.keypoints[:, columns].mean(axis=1)
            scores[:, k] = self.keypoint_scores[:, columns].min(axis=1)
        scores[np.isnan(keypoints[..., 0])] = 0
        return replace(self, keypoints=keypoints, keypoint_scores=scores, skeleton=target)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `json.dumps` takes.

        Returns:
            ``skeleton`` (name), ``image_size`` [width, height] and ``people``: for each person ``id`` (None without a
            tracker), ``score``, ``box`` [left, top, right, bottom] and ``keypoints``, a mapping from each name to
            [x, y, score] or None. Coordinates are rounded to a hundredth of a pixel, scores to four digits.

        Example:
            >>> from featherpose.skeleton import Skeleton
            >>> dot = Skeleton.create("dot", ["tip"], [])
            >>> tip = np.array([[[1.5, 7]]], np.float32)
            >>> poses = Poses(tip, np.ones((1, 1), np.float32), np.ones(1, np.float32), dot, (9, 9))
            >>> poses.to_dict()["people"]
            [{'id': None, 'score': 1.0, 'box': [1.5, 7.0, 1.5, 7.0], 'keypoints': {'tip': [1.5, 7.0, 1.0]}}]
        """
        return {
            "skeleton": self.skeleton.name,
            "image_size": [int(side) for side in self.image_size],
            "people": [person.to_dict() for person in self],
        }

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with one row a person.

        Returns:
            Columns ``person`` (position, from 0), ``id`` (nullable integer), ``score``, then ``<keypoint>_x``,
            ``<keypoint>_y`` and ``<keypoint>_score`` for every keypoint, as the CSV and Parquet files name them. The
            coordinates of a missing keypoint are NaN, its score is 0.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("Poses.to_pandas", "pandas") from error
        ids = [None] * len(self) if self.track_ids is None else [i if i >= 0 else None for i in self.track_ids.tolist()]
        columns: dict[str, Any] = {
            "person": np.arange(len(self)),
            "id": pd.array(ids, dtype="Int64"),
            "score": self.scores,
        }
        for k, name in enumerate(self.skeleton.keypoints):
            columns[f"{name}_x"] = self.keypoints[:, k, 0]
            columns[f"{name}_y"] = self.keypoints[:, k, 1]
            columns[f"{name}_score"] = self.keypoint_scores[:, k]
        return pd.DataFrame(columns)

    def to_supervision(self) -> supervision.KeyPoints:
        """Return ``supervision.KeyPoints``, which that package's annotators draw.

        Returns:
            ``xy`` float32[P, K, 2] with (0, 0) for a missing keypoint, which is how supervision marks it, the keypoint
            scores as confidence, and in ``data`` the arrays ``score`` and, with a tracker, ``tracker_id``.

        Raises:
            MissingExtraError: If supervision is not installed.
        """
        try:
            import supervision as sv
        except ImportError as error:
            raise MissingExtraError("Poses.to_supervision", "supervision") from error
        data: dict[str, Any] = {"score": self.scores.copy()}
        if self.track_ids is not None:
            data["tracker_id"] = self.track_ids.copy()
        # By position: the third parameter is called "confidence" before supervision 0.28 and otherwise since.
        return sv.KeyPoints(np.nan_to_num(self.keypoints, nan=0.0), None, self.keypoint_scores.copy(), data=data)


def _is_index(value: object) -> TypeGuard[int | np.integer[Any]]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_index(index: Any, count: int, one: str, many: str) -> None:
    if not -count <= index < count:
        raise SelectionError(
            f"no {one} {index} among {count} {many}", expected=f"0 to {count - 1}" if count else "nothing: it is empty"
        )


@lru_cache(maxsize=64)
def _columns(source: Skeleton, target: Skeleton) -> tuple[np.ndarray, np.ndarray, list[tuple[int, np.ndarray]]]:
    """Return the target's keypoints that the source has, where it has them, and the target's that are midpoints."""
    mapping = source.mapping_to(target)
    here = [k for k, sources in enumerate(mapping) if len(sources) == 1]
    middles = [(k, np.array(sources)) for k, sources in enumerate(mapping) if len(sources) > 1]
    return np.array(here, np.intp), np.array([mapping[k][0] for k in here], np.intp), middles


def _boxes(keypoints: Float32[np.ndarray, "P K 2"]) -> Float32[np.ndarray, "P 4"]:
    if len(keypoints) == 0:
        return np.empty((0, 4), np.float32)
    found = ~np.isnan(keypoints[..., :1])
    low = np.where(found, keypoints, np.inf).min(axis=1)
    high = np.where(found, keypoints, -np.inf).max(axis=1)
    boxes = np.concatenate((low, high), axis=1).astype(np.float32)
    boxes[~np.isfinite(boxes)] = np.nan
    return boxes


def _rounded(values: Float32[np.ndarray, "..."], digits: int) -> Any:
    """Round in float64: a rounded float32 prints more digits than it holds."""
    return np.round(values.astype(np.float64), digits).tolist()
