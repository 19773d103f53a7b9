"""AP after each stage of a network: the gain of refinement stages.

The slides' argument for keeping one refinement stage (Osokin 2018, section 4; Cao et al. 2017, table 4): the first
one gains most of the accuracy, each further one less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from featherpose.errors import DatasetError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.coco_ap import average_precision, estimate_dataset
from featherpose.evaluation.keypoints.dataset import CocoDataset
from featherpose.runtime.backend import Backend

__all__ = ["PUBLISHED_AP", "StageScore", "held_out", "score_stage"]

_LIGHTWEIGHT = (0.35, 0.428)

PUBLISHED_AP: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "openpose": (0.355, 0.434, 0.462, 0.474, 0.481, 0.486),
        "lightweight-openpose": _LIGHTWEIGHT,
        "human-pose-estimation-0001": _LIGHTWEIGHT,
    }
)
"""AP after the initial and each refinement stage as the slides print it, on another subset of COCO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageScore:
    """One row.

    Attributes:
        stage: ``initial stage`` or ``refinement stage n``.
        AP: Measured, 0..1.
        AP50: Measured at OKS 0.5.
        published: Published AP, None where there is none.
        gmacs: Giga multiply-accumulates up to and including this stage at 368x368, None if unknown.
    """

    stage: str
    AP: float
    AP50: float
    published: float | None = None
    gmacs: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def score_stage(
    network: str, index: int, backend: Backend, dataset: CocoDataset, *, height: int, options: Any,
    gmacs: float | None = None,
) -> StageScore:  # fmt: skip
    """Measure one stage.

    Args:
        network: Name of the network, for the published figure.
        index: 0 for the initial stage.
        backend: A graph whose outputs are this stage's.
        dataset: Labeled images.
        height: Network input height in pixels.
        options: Decoding options.
        gmacs: Giga multiply-accumulates up to here, if known.

    Raises:
        DatasetError: If an image is missing.
        ModelError: If the engine fails.
    """
    estimator = PoseEstimator.from_backend(backend, height=height, options=options)
    scores = average_precision(dataset, estimate_dataset(estimator, dataset))
    published: Sequence[float] = PUBLISHED_AP.get(network, ())
    return StageScore(
        stage="initial stage" if index == 0 else f"refinement stage {index}",
        AP=scores.AP,
        AP50=scores.AP50,
        published=published[index] if index < len(published) else None,
        gmacs=gmacs,
    )


def held_out(dataset: CocoDataset, every: int) -> CocoDataset:
    """Return the images whose id is a multiple of ``every``; all of them for 1.

    Raises:
        DatasetError: If there are none.
    """
    images = tuple(image for image in dataset.images if image.image_id % every == 0)
    if not images:
        raise DatasetError(f"{dataset.name} has no image whose id is a multiple of {every}")
    name = dataset.name if every == 1 else f"{dataset.name}, id % {every} == 0"
    return replace(dataset, name=name, images=images)
