"""Comparison of two models on real images: maps, people and, with labels, AP.

Every export and every quantization ends here; a file that finds other people than its source is not published.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ModelError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.annotated_boxes import estimate_in_boxes
from featherpose.evaluation.keypoints.coco_ap import average_precision, estimate_dataset
from featherpose.evaluation.keypoints.dataset import CocoDataset
from featherpose.export.inputs import ModelInput, read_input
from featherpose.oks import oks_matrix
from featherpose.poses import Poses
from featherpose.runtime.backend import Backend
from featherpose.topdown.person_estimator import PersonEstimator

__all__ = ["ApComparison", "Comparison", "Limits", "check", "compare_ap", "compare_on_images"]

_log = logging.getLogger(__name__)
_SAME_PERSON_OKS = 0.5
_SILENT = 1e-3  # root mean square of maps in which no decoder finds anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the difference of two models.

    Attributes:
        map_error: Root mean square of the maps' difference, as a fraction of the reference's own.
        agreement: Least share of people that both find.
        ap_drop: Largest loss of AP, where labels are given.

    Raises:
        OptionError: If a value is outside 0..1 (map_error: not negative).
    """

    map_error: float = 0.02
    agreement: float = 0.9
    ap_drop: float = 0.005

    def __post_init__(self) -> None:
        if not self.map_error >= 0 or not 0 <= self.agreement <= 1 or not 0 <= self.ap_drop <= 1:
            raise OptionError(
                f"limits {self.map_error}, {self.agreement}, {self.ap_drop}", expected="not negative, and at most 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of two models on the same images.

    Attributes:
        images: How many.
        height: Network input height in pixels.
        errors: For each output the root mean square difference over the reference's root mean square; not for outputs
            whose rows are chosen, where rounding may choose others.
        largest_difference: Largest difference in any output.
        people_before: People that the reference finds.
        people_after: People that the candidate finds.
        agreement: People found by both (OKS 0.5 or more) over the mean of both counts; 1 if neither finds people.
    """

    images: int
    height: int
    errors: Mapping[str, float]
    largest_difference: float
    people_before: int
    people_after: int
    agreement: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "errors": dict(self.errors)}

    @property
    def worst_error(self) -> float:
        """Return the largest of the errors."""
        return max(self.errors.values(), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApComparison:
    """AP of both models.

    Attributes:
        dataset: Name of the labeled folder.
        images: How many.
        height: Network input height in pixels.
        before: AP of the reference, 0..1.
        after: AP of the candidate.
    """

    dataset: str
    images: int
    height: int
    before: float
    after: float

    @property
    def drop(self) -> float:
        """Return the loss of the candidate."""
        return self.before - self.after

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "drop": self.drop}


def compare_on_images(
    before: Backend, after: Backend, images: Sequence[ModelInput | Path], *, height: int, options: Any | None = None
) -> Comparison:
    """Run both on the same inputs.

    Args:
        before: The reference.
        after: The candidate.
        images: Image files, or people in them.
        height: Network input height in pixels.
        options: Decoding options for both; those of the reference unless given.

    Raises:
        ModelError: If their maps differ in shape.
        SourceError: If an image cannot be read.
    """
    spec = before.spec
    decoder = spec.decoder(options)
    names = [output.name for output in spec.outputs]
    squares, reference, cells = (dict.fromkeys(names, 0.0) for _ in range(3))
    largest = 0.0
    counts, both = np.zeros(2, int), 0
    for image in images:
        network_input, letterbox = read_input(image, spec, height)
        old, new = before.infer(network_input)[0], after.infer(network_input)[0]
        for name in names:
            a, b = old[name], new[name]
            if a.shape != b.shape:
                raise ModelError(f"{name} of shape {b.shape} after, {a.shape} before", hint="the conversion is broken")
            difference = b.astype(np.float64) - a
            largest = max(largest, float(np.abs(difference).max(initial=0)))
            squares[name] += float(np.square(difference).sum())
            reference[name] += float(np.square(a, dtype=np.float64).sum())
            cells[name] += a.size
        people = decoder(old, letterbox), decoder(new, letterbox)
        counts += len(people[0]), len(people[1])
        both += _found_by_both(*people)
    # Outputs that are zero everywhere, as a hardly trained network's, have no size that errors could be relative to.
    errors = {
        name: float(np.sqrt(squares[name] / max(reference[name], _SILENT**2 * max(cells[name], 1))))
        for name in (output.name for output in spec.outputs if not output.chosen)
    }
    total = int(counts.sum())
    return Comparison(
        images=len(images), height=height, errors=errors, largest_difference=largest,
        people_before=int(counts[0]), people_after=int(counts[1]), agreement=2 * both / total if total else 1.0,
    )  # fmt: skip


def _found_by_both(before: Poses, after: Poses) -> int:
    """Count the people of one result that have a partner in the other, each partner once, the most similar first."""
    if not len(before.keypoints) or not len(after.keypoints):
        return 0
    similar: Float32[np.ndarray, "P Q"] = oks_matrix(before, after)
    found = 0
    while similar.size and (best := int(similar.argmax())) >= 0 and similar.flat[best] >= _SAME_PERSON_OKS:
        row, column = divmod(best, similar.shape[1])
        similar[row], similar[:, column] = -1, -1
        found += 1
    return found


def compare_ap(
    before: Backend, after: Backend, dataset: CocoDataset, *, height: int, known_before: float | None = None
) -> ApComparison:
    """Measure the COCO AP of both on a labeled folder, same rules, same images; of crops, in the annotated boxes.

    Args:
        before: The reference.
        after: The candidate.
        dataset: Labeled images.
        height: Network input height in pixels.
        known_before: AP of the reference, if it was measured already on these images at this height.

    Raises:
        DatasetError: If an image is missing.
        MissingExtraError: If pycocotools is not installed.
    """

    def measure(backend: Backend) -> float:
        if backend.spec.crop is not None:
            return average_precision(dataset, estimate_in_boxes(PersonEstimator(backend), dataset)).AP
        estimator = PoseEstimator.from_backend(backend, height=height)
        return average_precision(dataset, estimate_dataset(estimator, dataset)).AP

    return ApComparison(
        dataset=dataset.name, images=len(dataset.images), height=height,
        before=measure(before) if known_before is None else known_before, after=measure(after),
    )  # fmt: skip


def check(comparison: Comparison, limits: Limits, *, ap: ApComparison | None = None, maps: bool = True) -> None:
    """Reject a candidate that differs too much.

    Args:
        comparison: Both models on images.
        limits: Allowed differences.
        ap: Both models on labeled images, if there are any.
        maps: Whether maps must agree too; rounding to 8 bits changes them more than it changes people.

    Raises:
        ModelError: With the figure that is over its limit.
    """
    hint = "nothing was written"
    error = comparison.worst_error
    if maps and not error <= limits.map_error:
        raise ModelError(
            f"the maps differ by {100 * error:.2f} % on {comparison.images} images",
            expected=f"at most {100 * limits.map_error:g} %", hint=hint,
        )  # fmt: skip
    if not np.isfinite(comparison.largest_difference):
        raise ModelError("the converted model gives values that are no numbers", hint=hint)
    if comparison.agreement < limits.agreement:
        raise ModelError(
            f"both models agree on {100 * comparison.agreement:.1f} % of the people "
            f"({comparison.people_before} before, {comparison.people_after} after)",
            expected=f"at least {100 * limits.agreement:g} %", hint=hint,
        )  # fmt: skip
    if ap is not None and ap.drop > limits.ap_drop:
        raise ModelError(
            f"AP falls by {ap.drop:.4f} ({ap.before:.4f} before, {ap.after:.4f} after)",
            expected=f"at most {limits.ap_drop:g}", hint=f"{hint}; keep more sensitive layers",
        )  # fmt: skip
