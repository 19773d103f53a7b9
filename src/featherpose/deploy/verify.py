"""Whether two models say the same about real pictures: maps, people and, where labels exist, AP.

Every export and every quantisation ends here; a file that finds other people than its origin is not handed over.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from featherpose.codecs.paf.decoder import PafDecoder
from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import ModelError, OptionError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.coco import CocoDataset
from featherpose.evaluation.coco_ap import average_precision, estimate_dataset
from featherpose.media.images import PICTURE_SUFFIXES, read_image
from featherpose.poses import Poses
from featherpose.preprocess import prepare
from featherpose.runtime.backend import Backend
from featherpose.similarity import oks_matrix

__all__ = ["ApComparison", "Comparison", "Limits", "check", "compare_ap", "compare_on_pictures", "find_pictures"]

_log = logging.getLogger(__name__)
_SAME_PERSON_OKS = 0.5
_SILENT = 1e-3  # root mean square of maps in which no decoder finds anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far two models may differ.

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
    """Two models on the same pictures.

    Attributes:
        pictures: How many.
        height: Network input height in pixels.
        heatmap_error: Root mean square difference of heatmaps over the reference's root mean square.
        paf_error: The same of part affinity fields.
        largest_difference: Largest difference in any map.
        people_before: People that the reference finds.
        people_after: People that the candidate finds.
        agreement: People found by both (OKS 0.5 or more) over the mean of both counts; 1 if neither finds anybody.
    """

    pictures: int
    height: int
    heatmap_error: float
    paf_error: float
    largest_difference: float
    people_before: int
    people_after: int
    agreement: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApComparison:
    """AP side by side.

    Attributes:
        dataset: Name of the labelled folder.
        pictures: How many.
        height: Network input height in pixels.
        before: AP of the reference, 0..1.
        after: AP of the candidate.
    """

    dataset: str
    pictures: int
    height: int
    before: float
    after: float

    @property
    def drop(self) -> float:
        """What the candidate lost."""
        return self.before - self.after

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "drop": self.drop}


def find_pictures(folder: Path, limit: int | None = None) -> list[Path]:
    """Picture files in a folder, or in its ``images`` folder, evenly spread over their names.

    Raises:
        SourceError: If there are none.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder", expected="a folder of pictures")
    found: list[Path] = []
    for place in (folder, folder / "images"):
        if place.is_dir():
            found = sorted(p for p in place.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
        if found:
            break
    if not found:
        raise SourceError(f"folder {folder} holds no pictures", expected="files such as .jpg or .png")
    if limit is None or len(found) <= limit:
        return found
    return [found[round(i * (len(found) - 1) / max(limit - 1, 1))] for i in range(limit)]


def compare_on_pictures(
    before: Backend, after: Backend, pictures: Sequence[Path], *, height: int, decode: DecodeOptions | None = None
) -> Comparison:
    """Run both on the same inputs.

    Args:
        before: The reference.
        after: The candidate.
        pictures: Picture files.
        height: Network input height in pixels.
        decode: How people are found in both.

    Raises:
        ModelError: If their maps differ in shape.
        SourceError: If a picture cannot be read.
    """
    spec = before.spec
    decoder = PafDecoder(spec.skeleton, decode or spec.decode)
    squares, reference, cells, largest = np.zeros(2), np.zeros(2), np.zeros(2), 0.0
    counts, both = np.zeros(2, int), 0
    for path in pictures:
        images, letterbox = prepare(
            read_image(path), height=height, size_multiple=spec.size_multiple, pad_value=spec.pad_value
        )
        old, new = before.infer(images)[0], after.infer(images)[0]
        for slot, (a, b) in enumerate(((old.heatmaps, new.heatmaps), (old.pafs, new.pafs))):
            if a.shape != b.shape:
                raise ModelError(f"maps of shape {b.shape} after, {a.shape} before", hint="the conversion is broken")
            difference = b.astype(np.float64) - a
            largest = max(largest, float(np.abs(difference).max(initial=0)))
            squares[slot] += np.square(difference).sum()
            reference[slot] += np.square(a, dtype=np.float64).sum()
            cells[slot] += a.size
        people = decoder(old, letterbox), decoder(new, letterbox)
        counts += len(people[0].keypoints), len(people[1].keypoints)
        both += _found_by_both(*people)
    # Maps that are silent everywhere, as a hardly trained network's, have no size that errors could be relative to.
    relative = np.sqrt(squares / np.maximum(reference, _SILENT**2 * np.maximum(cells, 1)))
    total = int(counts.sum())
    return Comparison(
        pictures=len(pictures), height=height, heatmap_error=float(relative[0]), paf_error=float(relative[1]),
        largest_difference=largest, people_before=int(counts[0]), people_after=int(counts[1]),
        agreement=2 * both / total if total else 1.0,
    )  # fmt: skip


def _found_by_both(before: Poses, after: Poses) -> int:
    """People of one result that have a partner in the other, each partner once, the most similar first."""
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
    """COCO AP of both on a labelled folder, same rules, same pictures.

    Args:
        before: The reference.
        after: The candidate.
        dataset: Labelled pictures.
        height: Network input height in pixels.
        known_before: AP of the reference, if it was measured already on these pictures at this height.

    Raises:
        DatasetError: If a picture is missing.
        MissingExtraError: If pycocotools is not installed.
    """

    def measure(backend: Backend) -> float:
        estimator = PoseEstimator.from_backend(backend, height=height)
        return average_precision(dataset, estimate_dataset(estimator, dataset)).AP

    return ApComparison(
        dataset=dataset.name, pictures=len(dataset.pictures), height=height,
        before=measure(before) if known_before is None else known_before, after=measure(after),
    )  # fmt: skip


def check(comparison: Comparison, limits: Limits, *, ap: ApComparison | None = None, maps: bool = True) -> None:
    """Refuse a candidate that differs too much.

    Args:
        comparison: Both models on pictures.
        limits: What is allowed.
        ap: Both models on labelled pictures, if there are any.
        maps: Whether maps must agree too; rounding to 8 bits changes them more than it changes people.

    Raises:
        ModelError: With the figure that is over its limit.
    """
    hint = "nothing was written"
    error = max(comparison.heatmap_error, comparison.paf_error)
    if maps and not error <= limits.map_error:
        raise ModelError(
            f"the maps differ by {100 * error:.2f} % on {comparison.pictures} pictures",
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
