"""The difference in AP of two systems on the same images, with its uncertainty: a paired bootstrap over images.

Images are drawn with replacement, as many as there are, and both systems are scored on the same draw (Efron and
Tibshirani 1993, "An Introduction to the Bootstrap", chapter 8; paired as by Koehn 2004). The percentiles of the
differences are the interval. People of one image belong together, so images are drawn and not people.

An image that is drawn twice counts twice: its people and its detections have weight 2 in the sums from which precision
and recall are made. That gives the AP of the repeated data set exactly, without matching anything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from featherpose.errors import OptionError
from featherpose.evaluation.keypoints.coco_ap import evaluated
from featherpose.evaluation.keypoints.dataset import CocoDataset

__all__ = ["ImageMatches", "PairedDifference", "compare_paired", "match_images", "weighted_ap"]

_RECALLS = np.linspace(0, 1, 101)
# Draws that are computed together.
_CHUNK = 100


@dataclass(frozen=True, slots=True, eq=False)
class ImageMatches:
    """Which detections are right, for one system on a data set of I images.

    Attributes:
        image: int64[D], the image of each detection; detections by falling score.
        right: bool[T, D], whether it is a person, at each OKS threshold.
        wrong: bool[T, D], whether it is nobody; what matched a crowd or somebody without keypoints is neither.
        people: int64[I], annotated people that count in each image.
    """

    image: Int64[np.ndarray, " D"]
    right: Bool[np.ndarray, "T D"]
    wrong: Bool[np.ndarray, "T D"]
    people: Int64[np.ndarray, " I"]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two systems on the same images.

    Attributes:
        first: AP of the first.
        second: AP of the second.
        difference: AP of the first less that of the second.
        low: Lower end of the interval of the difference.
        high: Upper end.
        confidence: Of the interval.
        resamples: Draws.
        images: Images in each draw.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    confidence: float
    resamples: int
    images: int

    @property
    def tie(self) -> bool:
        """Return whether the interval contains 0."""
        return self.low <= 0 <= self.high


def match_images(dataset: CocoDataset, results: Sequence[Mapping[str, Any]]) -> ImageMatches:
    """Match a system's results with the annotations as COCO does: people of all sizes, 20 detections an image.

    Args:
        dataset: Images and annotations.
        results: COCO keypoint results with the keypoints of the dataset's skeleton.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    evaluation = evaluated(dataset, results)
    count = len(evaluation.params.imgIds)
    thresholds = len(evaluation.params.iouThrs)
    # One category; the first of the areas is "all". Images without people and detections are None.
    entries = evaluation.evalImgs[:count]
    people = np.zeros(count, np.int64)
    images, scores = [np.empty(0, np.int64)], [np.empty(0)]
    matched, ignored = [np.empty((thresholds, 0), np.bool_)], [np.empty((thresholds, 0), np.bool_)]
    for number, entry in enumerate(entries):
        if entry is None:
            continue
        people[number] = int((np.asarray(entry["gtIgnore"]) == 0).sum())
        images.append(np.full(len(entry["dtScores"]), number, np.int64))
        scores.append(np.asarray(entry["dtScores"], np.float64))
        matched.append(np.asarray(entry["dtMatches"]).reshape(thresholds, -1) > 0)
        ignored.append(np.asarray(entry["dtIgnore"], np.bool_).reshape(thresholds, -1))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    hits, left_out = np.concatenate(matched, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    return ImageMatches(np.concatenate(images)[order], hits & ~left_out, ~hits & ~left_out, people)


def weighted_ap(matches: ImageMatches, weights: Int64[np.ndarray, "B I"]) -> Float64[np.ndarray, " B"]:
    """Return the AP of data sets in which each image stands as often as its weight says.

    Args:
        matches: Of one system.
        weights: How often, for each of B data sets.

    Returns:
        float64[B]: AP over OKS 0.50, 0.55, …, 0.95 and 101 recalls; NaN where nobody is annotated.

    Example:
        >>> yes, no = np.ones((1, 2), bool), np.zeros((1, 2), bool)
        >>> matches = ImageMatches(np.array([0, 1]), yes & [True, False], no | [False, True], np.array([1, 1]))
        >>> weighted_ap(matches, np.array([[1, 1], [2, 0], [0, 2]])).round(3).tolist()
        [0.505, 1.0, 0.0]
    """
    people = (weights @ matches.people).astype(np.float64)
    own = weights[:, matches.image].astype(np.float64)
    totals = np.zeros(len(weights))
    for right, wrong in zip(matches.right, matches.wrong, strict=True):
        hits, misses = (own * right).cumsum(axis=1), (own * wrong).cumsum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = hits / people[:, None]
        precision = hits / (hits + misses + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for number in range(len(weights)):
            places = np.searchsorted(recall[number], _RECALLS, side="left")
            reached = places[places < best.shape[1]]
            totals[number] += best[number, reached].sum() / len(_RECALLS)
    return np.where(people > 0, totals / len(matches.right), np.nan)


def compare_paired(
    dataset: CocoDataset,
    first: Sequence[Mapping[str, Any]],
    second: Sequence[Mapping[str, Any]],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Compare two systems' results on the same images.

    Args:
        dataset: Images and annotations.
        first: COCO keypoint results of one system.
        second: Of the other.
        resamples: Draws of images; the ends of the interval are exact to about a hundredth of its width with 2000.
        confidence: Of the interval.
        seed: Of the draws.

    Raises:
        OptionError: If there is no draw, or the confidence is not between 0 and 1.
        MissingExtraError: If pycocotools is not installed.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise OptionError(f"{resamples} resamples, confidence {confidence}", expected="at least 1, between 0 and 1")
    one, other = match_images(dataset, first), match_images(dataset, second)
    count = len(dataset.images)
    rng = np.random.default_rng(seed)
    differences = []
    for start in range(0, resamples, _CHUNK):
        draws = min(_CHUNK, resamples - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
        differences.append(weighted_ap(one, weights) - weighted_ap(other, weights))
    once = np.ones((1, count), np.int64)
    a, b = float(weighted_ap(one, once)[0]), float(weighted_ap(other, once)[0])
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(differences), [tail, 1 - tail])
    return PairedDifference(a, b, a - b, float(low), float(high), confidence, resamples, count)
