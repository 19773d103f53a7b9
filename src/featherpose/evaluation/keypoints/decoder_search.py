"""Search of decoding rules for a network: coordinate descent over a method's options by COCO keypoint AP.

The network runs once over annotated training images and its maps are kept; every trial then only decodes. Rules
found this way are valid for the network, resolution and precision they were found with. Never search on images that
measure the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float16

from featherpose.errors import FeatherposeError
from featherpose.evaluation.keypoints.coco_ap import average_precision
from featherpose.evaluation.keypoints.dataset import CocoDataset, CocoImage
from featherpose.formats.coco import coco_results
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.methods.method import Arrays
from featherpose.preprocess import as_bgr
from featherpose.runtime.backend import Backend, ModelSpec

__all__ = ["DecoderSearch", "KeptMaps", "Trial", "keep_maps"]


@dataclass(frozen=True, slots=True, eq=False)
class KeptMaps:
    """One image's network outputs, in half precision so that thousands fit into memory.

    Attributes:
        image_id: COCO's id of the image.
        outputs: float16[C, h, w] by output name.
        letterbox: The way back to the image's pixels.
    """

    image_id: int
    outputs: Mapping[str, Float16[np.ndarray, "C h w"]]
    letterbox: Letterbox

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
    images: Iterable[CocoImage], backend: Backend, *, height: int, failed: Callable[[str], None]
) -> Iterator[KeptMaps]:
    """Run the network once over images.

    Args:
        images: Annotated images.
        backend: The network.
        height: Its input height in pixels.
        failed: Called for each image that cannot be read, which is skipped.
    """
    spec = backend.spec
    for sample in images:
        try:
            image = as_bgr(read_image(sample.path))
        except FeatherposeError as error:
            failed(str(error))
            continue
        inputs, letterbox = spec.prepare(image, height=height)
        (maps,) = backend.infer(inputs)
        kept = {name: values.astype(np.float16) for name, values in maps.items()}
        yield KeptMaps(sample.image_id, kept, letterbox)


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
        decoder = self._spec.decoder(options)
        results = [
            result
            for kept in self._kept
            for result in coco_results(decoder(kept.arrays(), kept.letterbox), kept.image_id)
        ]
        return average_precision(self._dataset, results).AP

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
