"""Refinement of bottom-up people, one at a time: boxes, crops, fused keypoints, duplicates removed."""

from __future__ import annotations

from dataclasses import replace
from math import floor
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from featherpose.errors import ModelError, OptionError
from featherpose.methods.boxes.person_boxes import PERSON_BOX
from featherpose.poses import Poses
from featherpose.rating.rate import can_rate, load_rating, rate_people
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import MODEL_SUFFIXES, engine_named
from featherpose.skeleton import Skeleton
from featherpose.topdown.boxes import person_boxes
from featherpose.topdown.fusion import fuse, mean_scores, person_scores
from featherpose.topdown.person_estimator import PersonEstimator, open_person_estimator
from featherpose.topdown.pose_distance import suppress_by_pose
from featherpose.topdown.suppression import suppress_duplicates
from featherpose.topdown.topdown_options import RefineOptions
from featherpose.zoo.resolve import resolve_model

__all__ = ["DEFAULT_BUDGET_CROPS", "Refiner", "expected_gain", "open_refiner", "refinable"]

DEFAULT_BUDGET_CROPS = 10
"""Crops an image under ``auto`` where no budget is given."""
# Of two alike of whom one was refined, the refined one stays: this much of another's score compares with its.
_UNREFINED = 0.3
# Refined people of lower score are dropped, by the accuracy that is expected of them or by the mean of their keypoints.
_RATED, _RANKED = 0.02, 0.15
# With more people than this many times the budget nobody is refined: a few better poses among many do not change the
# result, only the time.
_CROWD = 4
# Who is followed into a frame and scores less is no longer there.
_PRESENT = 0.35


def refinable(skeleton: Skeleton, of_refiner: Skeleton) -> bool:
    """Return whether a refiner knows most keypoints of a skeleton, so that its poses can replace those.

    Example:
        >>> from featherpose.skeleton import COCO_17, OPENPOSE_18
        >>> refinable(OPENPOSE_18, COCO_17)
        True
    """
    known = sum(bool(sources) for sources in of_refiner.mapping_to(skeleton))
    return 2 * known > skeleton.num_keypoints


def expected_gain(poses: Poses) -> Float32[np.ndarray, " P"]:
    """Estimate what refinement is worth for each person: highest for confident people with uncertain joints.

    The rule was chosen on held-out images of coco-train: by size alone, or by unsure joints alone, the budget goes to
    false people.

    Returns:
        float32[P], comparable within one image.
    """
    unsure = 1 - np.clip(poses.keypoint_scores.mean(axis=1), 0, 1)
    return np.asarray(poses.scores * unsure, np.float32)


class Refiner:
    """Refines people by a single-person network within a budget. Any thread may call it.

    Args:
        estimator: Estimates the person in a box.
        budget: Crops an image; None for all people.
        options: Thresholds.
        skeleton: Of the people.
        rated: Whether people are scored by the accuracy that is expected of them, as the network's card allows.

    Raises:
        ModelError: If the network knows too few of the skeleton's keypoints.
    """

    def __init__(
        self,
        estimator: PersonEstimator,
        skeleton: Skeleton,
        options: RefineOptions,
        budget: int | None,
        *,
        rated: bool = False,
    ) -> None:
        if skeleton != PERSON_BOX and not refinable(skeleton, estimator.spec.skeleton):
            raise ModelError(
                f"model {estimator.spec.name} cannot refine people of skeleton {skeleton.name}",
                expected=f"a skeleton with keypoints of {estimator.spec.skeleton.name}",
                hint="switch refinement off (--refine off)",
            )
        self._estimator = estimator
        self._options = options
        self._budget = budget
        of_people = estimator.spec.skeleton if skeleton == PERSON_BOX else skeleton
        self._rated = rated and can_rate(of_people)
        least = (_RATED if self._rated else _RANKED) if options.min_person_score is None else options.min_person_score
        self._least = np.float32(least)

    @property
    def budget_crops(self) -> int | None:
        """Return the most crops an image; None for as many as there are people."""
        return self._budget

    @property
    def skeleton(self) -> Skeleton:
        """Return the keypoints of the single-person network."""
        return self._estimator.spec.skeleton

    @property
    def model(self) -> str:
        """Return the name of the single-person network."""
        return self._estimator.spec.name

    def warm_up(self) -> None:
        """Load or compile whatever the first person would wait for."""
        self._estimator.warm_up()
        count = self.skeleton.num_keypoints
        points, ones = np.zeros((1, count, 2), np.float32), np.ones((1, count), np.float32)
        somebody = Poses(points, ones, ones[:, 0], self.skeleton, (8, 8))
        person_boxes(somebody)
        self._each_once(fuse(somebody, somebody, self._options))
        if self._rated:
            load_rating("refined")

    def choose(self, poses: Poses) -> Int64[np.ndarray, " n"]:
        """Return the indices of people to refine, in order: all, those with the highest gain, or none in a crowd."""
        if self._budget is None or len(poses) <= self._budget:
            return np.arange(len(poses))
        boxes_alone = poses.skeleton == PERSON_BOX
        if len(poses) > _CROWD * self._budget and not boxes_alone:
            return np.arange(0)
        gain = poses.scores if boxes_alone else expected_gain(poses)
        order = np.argsort(-gain, kind="stable")
        return np.sort(order[: self._budget])

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], poses: Poses, *, scale: float = 1.0) -> Poses:
        """Refine the people of an image.

        Args:
            image: uint8[H, W, 3], BGR.
            poses: Its people, best first.
            scale: Pixels of the first network an image pixel.

        Returns:
            Its people, each once, best first.

        Raises:
            ModelError: If the engine failed.
        """
        chosen = self.choose(poses)
        if poses.skeleton == PERSON_BOX:
            return self._in_boxes(image, poses[chosen])
        if not len(chosen):
            return poses
        some = poses[chosen]
        refined = self._estimator(image, person_boxes(some), some).to_skeleton(poses.skeleton)
        fused = fuse(some, refined, self._options)
        keypoints, keypoint_scores = poses.keypoints.copy(), poses.keypoint_scores.copy()
        scores = poses.scores * np.float32(_UNREFINED)
        keypoints[chosen], keypoint_scores[chosen] = fused.keypoints, fused.keypoint_scores
        scores[chosen] = fused.scores
        everyone = replace(poses, keypoints=keypoints, keypoint_scores=keypoint_scores, scores=scores)
        kept = self._each_once(everyone)
        return self._real(everyone[kept], np.isin(kept, chosen), scale)

    def follow(self, image: UInt8[np.ndarray, "H W 3"], known: Poses) -> Poses:
        """Find people from their poses in the previous frame, without running on the whole image.

        Args:
            image: uint8[H, W, 3], BGR: the next frame of a video.
            known: The people of the frame before, each with at least one keypoint.

        Returns:
            Those who are still there, each once, best first; nobody else can be found.

        Raises:
            ModelError: If the engine failed.
        """
        refined = self._estimator(image, person_boxes(known)).to_skeleton(known.skeleton)
        means = mean_scores(refined)
        poses = replace(refined.without_weak(self._options.weak_keypoint_score), scores=np.minimum(means, known.scores))
        there = poses[means >= _PRESENT]
        return there[self._each_once(there)]

    def _in_boxes(self, image: UInt8[np.ndarray, "H W 3"], boxes: Poses) -> Poses:
        """Estimate the people in a detector's boxes; a box without a keypoint, or with faint ones alone, is nobody."""
        people = self._estimator(image, boxes.keypoints.reshape(-1, 4))
        sure = people.without_weak(self._options.weak_keypoint_score)
        people = replace(sure, scores=person_scores(boxes, people))
        people = people[np.flatnonzero(people.detected.any(axis=1))]
        people = people[self._each_once(people)]
        return self._real(people, np.ones(len(people), np.bool_))

    def _each_once(self, poses: Poses) -> Int64[np.ndarray, " n"]:
        """Choose the best pose of each person, best first."""
        if self._options.suppression == "pose":
            return suppress_by_pose(poses)
        return suppress_duplicates(poses, same_person_oks=self._options.same_person_oks)

    def _real(self, people: Poses, refined: Bool[np.ndarray, " P"], scale: float = 1.0) -> Poses:
        """Score people anew if this network's can be rated, and drop those of whom too little is expected.

        Scores of people who were neither refined nor rated are of another scale, so these stay.
        """
        sure = ~refined
        if self._rated:
            ratings = rate_people(people, "refined")
            if not refined.all():
                ratings = np.where(refined, ratings, rate_people(people, "found", scale=scale))
            order = np.argsort(-ratings, kind="stable")
            people, sure = replace(people, scores=ratings)[order], np.zeros(len(people), np.bool_)
        return people[np.flatnonzero(sure | (people.scores >= self._least))]

    def close(self) -> None:
        """Release the engine; the refiner cannot be used afterwards."""
        self._estimator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_refiner(options: RefineOptions, skeleton: Skeleton, engine: EngineOptions | None = None) -> Refiner | None:
    """Open the single-person network that options name.

    Args:
        options: Which people are refined.
        skeleton: Of the people.
        engine: How the network runs.

    Returns:
        None where nobody is to be refined: ``mode`` is ``off``, or the budget is 0.

    Raises:
        ModelError: If the model cannot be found, read or run here, or does not fit the skeleton.
        OptionError: If a budget in milliseconds is given and the model's card states no time of a crop.
    """
    if options.mode == "off":
        return None
    resolved = resolve_model(options.model)
    budget: int | None = None
    if options.mode == "auto":
        budget = DEFAULT_BUDGET_CROPS if options.budget_crops is None else options.budget_crops
        if options.budget_ms is not None:
            crop = None if resolved.card is None else resolved.card.crop
            if crop is None or crop.reference_ms is None:
                raise OptionError(
                    f"a budget in milliseconds for model {resolved.spec.name}, whose card states no time of a crop",
                    expected="a number of crops",
                )
            budget = floor(options.budget_ms / crop.reference_ms)
        if budget == 0:
            return None
    # An engine that was chosen for the other file need not read this one.
    if engine is not None and resolved.path.suffix.lower() not in _suffixes(engine):
        engine = replace(engine, engine="auto")
    estimator = open_person_estimator(resolved, engine, mirror=options.mirror)
    try:
        crop = None if resolved.card is None else resolved.card.crop
        if options.average is None:
            options = replace(options, average=crop is not None and crop.averaged)
        return Refiner(estimator, skeleton, options, budget, rated=crop is not None and crop.rated)
    except ModelError:
        estimator.close()
        raise


def _suffixes(engine: EngineOptions) -> tuple[str, ...]:
    """Return the suffixes of the files that an engine reads; ``auto`` finds one for each."""
    return MODEL_SUFFIXES if engine.engine == "auto" else engine_named(engine.engine).suffixes
