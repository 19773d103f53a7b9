"""COCO keypoint average precision by pycocotools, the field's own implementation.

Source: https://cocodataset.org/#keypoints-eval.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from featherpose.errors import MissingExtraError
from featherpose.estimator import PendingPoses, PoseEstimator
from featherpose.evaluation.coco import CocoDataset, check_pictures
from featherpose.formats.coco import coco_results
from featherpose.media.images import read_image

__all__ = ["CocoScores", "average_precision", "estimate_dataset"]


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
        """The figures by name, rounded to five digits."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def estimate_dataset(
    estimator: PoseEstimator,
    dataset: CocoDataset,
    *,
    in_flight: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Everyone the estimator finds on every picture, as COCO results.

    Args:
        estimator: What is measured.
        dataset: The pictures.
        in_flight: Pictures under way at once; the result does not depend on it.
        progress: Called with (pictures done, people found so far).

    Raises:
        DatasetError: If a picture is missing.
        SourceError: If one cannot be read; an AP over the others would be another figure.
        ModelError: If the engine fails.
    """
    check_pictures(dataset)
    results: list[dict[str, Any]] = []
    running: deque[tuple[int, PendingPoses]] = deque()
    done = 0

    def finish_oldest() -> None:
        nonlocal done
        image_id, pending = running.popleft()
        results.extend(coco_results(pending.result(), image_id))
        done += 1
        if progress is not None:
            progress(done, len(results))

    for picture in dataset.pictures:
        running.append((picture.image_id, estimator.submit(read_image(picture.path))))
        if len(running) >= in_flight:
            finish_oldest()
    while running:
        finish_oldest()
    return results


def average_precision(dataset: CocoDataset, results: Sequence[Mapping[str, Any]]) -> CocoScores:
    """Compare results with the truth of the dataset's pictures.

    At most 20 people a picture count, those of the highest score, as COCO rules.

    Args:
        dataset: Pictures and annotations.
        results: COCO keypoint results.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingExtraError("COCO AP", "eval") from error
    # pycocotools prints its progress, and writes into the annotations it is given.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset.annotations)
        truth.createIndex()
        found = _load_results(COCO(), truth, results)
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.imgIds = [picture.image_id for picture in dataset.pictures]
        evaluation.params.catIds = [1]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return CocoScores(*(float(value) for value in evaluation.stats))


def _load_results(found: Any, truth: Any, results: Sequence[Mapping[str, Any]]) -> Any:
    """What ``COCO.loadRes`` does with keypoints, for an empty list too."""
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
