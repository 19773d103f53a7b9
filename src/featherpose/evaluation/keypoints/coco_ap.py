"""COCO keypoint average precision by pycocotools, the reference implementation.

Source: https://cocodataset.org/#keypoints-eval.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featherpose.errors import MissingExtraError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.dataset import CocoDataset, check_images
from featherpose.formats.coco import coco_results
from featherpose.media.images import read_image
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17

__all__ = ["CocoScores", "average_precision", "estimate_dataset", "evaluated", "poses_as_results"]


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
) -> list[dict[str, Any]]:
    """Return everyone the estimator finds on every image, as COCO results.

    Args:
        estimator: What is measured.
        dataset: The images.
        in_flight: Images in flight at once; the result does not depend on it.
        progress: Called with (images done, people found so far).

    Raises:
        DatasetError: If an image is missing.
        SourceError: If one cannot be read; an AP over the others would be another figure.
        ModelError: If the engine fails.
    """
    check_images(dataset)
    results: list[dict[str, Any]] = []
    found = estimator.map((read_image(image.path) for image in dataset.images), in_flight=in_flight)
    for done, (image, poses) in enumerate(zip(dataset.images, found, strict=True), start=1):
        own = dataset.skeleton == COCO_17
        results.extend(
            coco_results(poses, image.image_id)
            if own
            else poses_as_results(poses.to_skeleton(dataset.skeleton), image.image_id)
        )
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
    evaluation = evaluated(dataset, results)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    return CocoScores(*(float(value) for value in evaluation.stats))


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
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingExtraError("COCO AP", "eval") from error
    # pycocotools prints its progress, and writes into the annotations it is given.
    own = {**dataset.annotations, "annotations": [dict(a) for a in dataset.annotations["annotations"]]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = own
        truth.createIndex()
        found = _load_results(COCO(), truth, results)
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.imgIds = [image.image_id for image in dataset.images]
        evaluation.params.catIds = [1]
        evaluation.params.kpt_oks_sigmas = np.array(dataset.skeleton.sigmas)
        evaluation.evaluate()
    return evaluation


def poses_as_results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """Return the people of one image as COCO results in their own skeleton; `formats.coco` has those in COCO's."""
    return [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": np.nan_to_num(np.column_stack([person, np.isfinite(person[:, 0])])).ravel().tolist(),
            "score": float(score),
        }
        for person, score in zip(poses.keypoints, poses.scores, strict=True)
    ]


def _load_results(found: Any, truth: Any, results: Sequence[Mapping[str, Any]]) -> Any:
    """Do what ``COCO.loadRes`` does with keypoints, for an empty list too."""
    annotations = []
    for number, result in enumerate(results, 1):
        x, y = result["keypoints"][0::3], result["keypoints"][1::3]
        box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
        annotations.append({**result, "id": number, "bbox": box, "area": box[2] * box[3]})
    found.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": annotations,
    }
    found.createIndex()
    return found
