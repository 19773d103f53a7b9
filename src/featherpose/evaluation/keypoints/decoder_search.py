"""Search of decoding rules for a network: coordinate descent over a method's options by COCO keypoint AP.

The network runs once over annotated training images and its maps are kept; every trial then only decodes. Rules
found this way are valid for the network, resolution and precision they were found with. Never search on images that
measure the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float16, Float64

from featherpose.errors import FeatherposeError
from featherpose.evaluation.keypoints.annotated_boxes import annotated_boxes
from featherpose.evaluation.keypoints.coco_ap import average_precision, poses_as_results
from featherpose.evaluation.keypoints.dataset import CocoDataset
from featherpose.formats.coco import coco_results
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.methods.method import Arrays
from featherpose.preprocess import as_bgr
from featherpose.runtime.backend import Backend, ModelSpec
from featherpose.topdown.person_decoding import PersonDecoder
from featherpose.topdown.person_estimator import PersonEstimator

__all__ = ["DecoderSearch", "KeptMaps", "Trial", "keep_maps"]


@dataclass(frozen=True, slots=True, eq=False)
class KeptMaps:
    """The network's outputs for one image or one person, in half precision so that thousands fit into memory.

    Attributes:
        image_id: COCO's id of the image.
        outputs: float16[C, h, w] by output name.
        letterbox: The way back to the image's pixels.
        crop: Of one person's outputs, float64[2, 3] from crop pixels to the image's; None for a whole image.
    """

    image_id: int
    outputs: Mapping[str, Float16[np.ndarray, "C h w"]]
    letterbox: Letterbox
    crop: Float64[np.ndarray, "2 3"] | None = None

    def arrays(self) -> Arrays:
        """Return the outputs as decoders take them."""
        return {name: values.astype(np.float32) for name, values in self.outputs.items()}


@dataclass(frozen=True, slots=True)
class Trial:
    """Rules and their AP."""

    options: Any
    average_precision: float

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as plain data."""
        rules = {k: None if v == float("inf") else v for k, v in asdict(self.options).items()}
        return {"AP": round(self.average_precision, 5), "options": rules}


def keep_maps(
    dataset: CocoDataset, backend: Backend, *, height: int, failed: Callable[[str], None]
) -> Iterator[KeptMaps]:
    """Run the network once over images; one that takes crops over the annotated boxes of everyone who counts.

    Args:
        dataset: Annotated images.
        backend: The network.
        height: Its input height in pixels; without effect on a network that takes crops.
        failed: Called for each image that cannot be read, which is skipped.
    """
    spec, boxes = backend.spec, annotated_boxes(dataset)
    person = None if spec.crop is None else PersonEstimator(backend)
    for sample in dataset.images:
        if person is not None and sample.image_id not in boxes:
            continue
        try:
            image = as_bgr(read_image(sample.path))
        except FeatherposeError as error:
            failed(str(error))
            continue
        if person is None:
            inputs, letterbox = spec.prepare(image, height=height)
            yield KeptMaps(sample.image_id, _halved(backend.infer(inputs)[0]), letterbox)
            continue
        matrices = person.crop.matrices(boxes[sample.image_id])
        size = (image.shape[1], image.shape[0])
        for matrix, maps in zip(matrices, person.outputs(image, matrices), strict=True):
            yield KeptMaps(sample.image_id, _halved(maps), Letterbox(size, size, (0, 0), size), matrix)


def _halved(maps: Arrays) -> dict[str, Float16[np.ndarray, "C h w"]]:
    return {name: values.astype(np.float16) for name, values in maps.items()}


class DecoderSearch:
    """Decodes kept maps under given rules and measures their AP.

    Args:
        kept: Maps of annotated images.
        spec: Facts of the network.
        dataset: Annotations of at least these images.
    """

    def __init__(self, kept: Sequence[KeptMaps], spec: ModelSpec, dataset: CocoDataset) -> None:
        self._kept = kept
        self._spec = spec
        measured = {one.image_id for one in kept}
        # Only the evaluated images are passed on: the annotations are copied and indexed in every trial.
        annotations = {
            **dataset.annotations,
            "images": [i for i in dataset.annotations["images"] if i["id"] in measured],
            "annotations": [a for a in dataset.annotations["annotations"] if a["image_id"] in measured],
        }
        images = tuple(sample for sample in dataset.images if sample.image_id in measured)
        self._dataset = replace(dataset, images=images, annotations=annotations)

    def average_precision(self, options: Any) -> float:
        """Return the COCO keypoint AP (OKS 0.50 to 0.95) of these rules, -1 if the images show no people."""
        return average_precision(self._dataset, [*self._results(options)]).AP

    def _results(self, options: Any) -> Iterator[dict[str, Any]]:
        if self._spec.crop is None:
            decoder = self._spec.decoder(options)
            for kept in self._kept:
                yield from coco_results(decoder(kept.arrays(), kept.letterbox), kept.image_id)
            return
        person = PersonDecoder(self._spec, options)
        for kept in self._kept:
            assert kept.crop is not None
            yield from poses_as_results(
                person([kept.arrays()], kept.crop[None], kept.letterbox.source_size), kept.image_id
            )

    def descend(
        self,
        start: Any,
        *,
        space: Mapping[str, Sequence[Any]] | None = None,
        rounds: int = 2,
        least_gain: float = 2e-4,
        tried: Callable[[str, Trial, bool], None] = lambda rule, trial, better: None,
    ) -> list[Trial]:
        """Run coordinate descent: one rule after another takes its best value while the others are fixed.

        A value replaces the present one only for a gain of ``least_gain``, so noise changes nothing.

        Args:
            start: Rules to begin with.
            space: Values of each option; those of the method unless given.
            rounds: Passes over all rules at most; the search ends when a pass changes nothing.
            least_gain: AP that a change must bring.
            tried: Called after each trial with the rule's name, the trial, and whether it is the best so far.

        Returns:
            The start and every improvement, best last.
        """
        path = [Trial(start, self.average_precision(start))]
        for _ in range(rounds):
            before = path[-1]
            for rule, values in (self._spec.method.search_space if space is None else space).items():
                best = path[-1]
                current = getattr(best.options, rule)
                for value in values:
                    if value == current and isinstance(value, bool) == isinstance(current, bool):
                        continue
                    try:
                        changes: dict[str, Any] = {rule: value}
                        options = replace(path[-1].options, **changes)
                    except FeatherposeError:
                        continue  # contradicts another rule, such as a weak threshold over the strong one
                    trial = Trial(options, self.average_precision(options))
                    better = trial.average_precision > max(
                        best.average_precision, path[-1].average_precision + least_gain
                    )
                    tried(rule, trial, better)
                    if better:
                        best = trial
                if best is not path[-1]:
                    path.append(best)
            if path[-1] is before:
                break
        return path
