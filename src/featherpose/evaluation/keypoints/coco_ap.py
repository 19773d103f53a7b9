"""COCO keypoint average precision by pycocotools, the reference implementation.

Source: https://cocodataset.org/#keypoints-eval.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from featherpose.errors import MissingExtraError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.dataset import CocoDataset, check_images
from featherpose.formats.coco import coco_results
from featherpose.media.images import read_image
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17

__all__ = [
    "PERSON",
    "CocoScores",
    "average_precision",
    "estimate_dataset",
    "evaluated",
    "matched",
    "poses_as_results",
    "summarized",
]

PERSON = 1
"""The category of everyone."""


@dataclass(frozen=True, slots=True)
class CocoScores:
    """COCO's ten figures, 0..1 (-1: no person of that size is annotated).

    Attributes:
        AP: Mean average precision over OKS 0.50, 0.55, …, 0.95.
        AP50: At OKS 0.50.
        AP75: At OKS 0.75.
        APM: Of people of 32² to 96² pixels.
        APL: Of larger people.
        AR: Mean average recall over the same OKS.
        AR50: At OKS 0.50.
        AR75: At OKS 0.75.
        ARM: Of people of 32² to 96² pixels.
        ARL: Of larger people.
    """

    AP: float
    AP50: float
    AP75: float
    APM: float
    APL: float
    AR: float
    AR50: float
    AR75: float
    ARM: float
    ARL: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name, rounded to five digits."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def estimate_dataset(
    estimator: PoseEstimator,
    dataset: CocoDataset,
    *,
    in_flight: int = 3,
    progress: Callable[[int, int], None] | None = None,
    as_results: Callable[[Poses, int], list[dict[str, Any]]] | None = None,
) -> list[dict[str, Any]]:
    """Return everyone the estimator finds on every image, as COCO results.

    Args:
        estimator: What is measured.
        dataset: The images.
        in_flight: Images in flight at once; the result does not depend on it.
        progress: Called with (images done, people found so far).
        as_results: From the people of one image and its id to COCO results; None: keypoints of the dataset's skeleton.

    Raises:
        DatasetError: If an image is missing.
        SourceError: If one cannot be read; an AP over the others would be another figure.
        ModelError: If the engine fails.
    """
    check_images(dataset)
    if as_results is None:
        own = dataset.skeleton == COCO_17
        as_results = coco_results if own else lambda p, i: poses_as_results(p.to_skeleton(dataset.skeleton), i)
    results: list[dict[str, Any]] = []
    found = estimator.map((read_image(image.path) for image in dataset.images), in_flight=in_flight)
    for done, (image, poses) in enumerate(zip(dataset.images, found, strict=True), start=1):
        results += as_results(poses, image.image_id)
        if progress is not None:
            progress(done, len(results))
    return results


def average_precision(dataset: CocoDataset, results: Sequence[Mapping[str, Any]]) -> CocoScores:
    """Compare results with the annotations of the dataset's images.

    At most 20 people an image count, those of the highest score, as COCO rules.

    Args:
        dataset: Images and annotations, in any skeleton; its sigmas are the constants of OKS.
        results: COCO keypoint results with the keypoints of the dataset's skeleton.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    return CocoScores(*summarized(evaluated(dataset, results)))


def evaluated(dataset: CocoDataset, results: Sequence[Mapping[str, Any]]) -> Any:
    """Match results with the annotations, image by image.

    Args:
        dataset: Images and annotations.
        results: COCO keypoint results with the keypoints of the dataset's skeleton.

    Returns:
        A ``pycocotools.cocoeval.COCOeval`` whose ``evalImgs`` are filled.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    found = []
    for result in results:
        x, y = result["keypoints"][0::3], result["keypoints"][1::3]
        box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
        found.append({**result, "bbox": box, "area": box[2] * box[3]})
    ids = [image.image_id for image in dataset.images]
    return matched(dataset.annotations, found, ids, "keypoints", sigmas=dataset.skeleton.sigmas)


def matched(
    truth: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    ids: Sequence[int],
    kind: Literal["keypoints", "bbox"],
    *,
    sigmas: Sequence[float] | None = None,
) -> Any:
    """Match found people with annotated ones, image by image.

    Args:
        truth: ``images`` and ``annotations`` in COCO's form, people of category `PERSON`.
        found: COCO results with ``bbox`` and ``area``, which may be none.
        ids: Of the images that count.
        kind: What is compared.
        sigmas: The constants of OKS where keypoints are compared.

    Returns:
        A ``pycocotools.cocoeval.COCOeval`` whose ``evalImgs`` are filled.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingExtraError("COCO AP", "eval") from error
    # pycocotools prints its progress, and writes into the annotations it is given.
    sides = [dict(a) for a in truth["annotations"]], [{**r, "id": number} for number, r in enumerate(found, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        indexed = []
        for annotations in sides:
            side = COCO()
            side.dataset = {
                "images": truth["images"], "categories": [{"id": PERSON, "name": "person"}], "annotations": annotations
            }  # fmt: skip
            side.createIndex()
            indexed.append(side)
        evaluation = COCOeval(*indexed, kind)
        evaluation.params.imgIds = list(ids)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
    return evaluation


def summarized(evaluation: Any) -> list[float]:
    """Return the figures of a ``COCOeval`` whose people are `matched`, in pycocotools' order."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def poses_as_results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """Return the people of one image as COCO results in their own skeleton; `formats.coco` has those in COCO's."""
    return [
        {
            "image_id": image_id,
            "category_id": PERSON,
            "keypoints": np.nan_to_num(np.column_stack([person, np.isfinite(person[:, 0])])).ravel().tolist(),
            "score": float(score),
        }
        for person, score in zip(poses.keypoints, poses.scores, strict=True)
    ]
