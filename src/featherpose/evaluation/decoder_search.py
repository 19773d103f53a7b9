"""Which decoding rules suit a network: coordinate descent over `DecodeOptions` by COCO keypoint AP.

The network runs once over annotated training pictures and its maps are kept; every trial then only decodes. Rules
found this way belong to the network, resolution and precision they were found with. Never search on pictures that
are meant to measure the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float16

from featherpose.codecs.paf.decoder import PafDecoder
from featherpose.codecs.paf.maps import Maps
from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import FeatherposeError
from featherpose.evaluation.coco import CocoDataset, CocoPicture
from featherpose.evaluation.coco_ap import average_precision
from featherpose.formats.coco import coco_results
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.preprocess import as_bgr, prepare
from featherpose.runtime.backend import Backend
from featherpose.skeleton import Skeleton

__all__ = ["SEARCH_SPACE", "DecoderSearch", "KeptMaps", "Trial", "keep_maps"]

# Values of each rule, in the order in which they are tried. What a rule must not become for the sake of AP alone is
# left out: AP forgives ghosts that rank low, people who look at the result do not.
SEARCH_SPACE: Mapping[str, tuple[float | int | bool | None, ...]] = {
    "peak_threshold": (0.07, 0.1, 0.12, 0.15, 0.18, 0.2, 0.25, 0.3),
    "rank_exponent": (None, 0.0, 0.25, 0.5, 0.75, 1.0),
    "weak_peak_threshold": (None, 0.01, 0.02, 0.03, 0.04, 0.06),
    "weak_limb_threshold": (-0.02, 0.0, 0.01, 0.02, 0.03, 0.05),
    "weak_limb_min_part": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "weak_limb_reach": (1.0, 1.5, 2.0, 3.0, 100.0),
    "limb_threshold": (0.0, 0.01, 0.03, 0.05, 0.07),
    "limb_min_part": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "limb_every_cell": (False, True),
    "redundant_limbs_join": (False, True),
    "suppression_radius_px": (4.0, 6.0, 8.0, 10.0, 12.0, 16.0),
    "max_limb_length": (0.4, 0.5, 0.6, 0.8, 1.0),
    "min_mean_score": (0.15, 0.2, 0.25, 0.3, 0.35),
    "min_keypoints": (3, 4, 5),
}


@dataclass(frozen=True, slots=True, eq=False)
class KeptMaps:
    """One picture's maps, in half precision so that thousands fit into memory.

    Attributes:
        image_id: COCO's id of the picture.
        heatmaps: float16[C, h, w].
        pafs: float16[2L, v, u].
        strides: Of heatmaps and PAFs.
        letterbox: The way back to the picture's pixels.
    """

    image_id: int
    heatmaps: Float16[np.ndarray, "C h w"]
    pafs: Float16[np.ndarray, "D v u"]
    strides: tuple[int, int]
    letterbox: Letterbox

    def maps(self) -> Maps:
        """The maps as the decoder takes them."""
        return Maps(self.heatmaps.astype(np.float32), self.pafs.astype(np.float32), *self.strides)


@dataclass(frozen=True, slots=True)
class Trial:
    """Rules and their AP."""

    options: DecodeOptions
    average_precision: float

    def to_dict(self) -> dict[str, Any]:
        """The trial as plain data."""
        rules = {k: None if v == float("inf") else v for k, v in asdict(self.options).items()}
        return {"AP": round(self.average_precision, 5), "options": rules}


def keep_maps(
    pictures: Iterable[CocoPicture], backend: Backend, *, height: int, failed: Callable[[str], None]
) -> Iterator[KeptMaps]:
    """Run the network once over pictures.

    Args:
        pictures: Annotated pictures.
        backend: The network.
        height: Its input height in pixels.
        failed: Told of each picture that cannot be read, which is skipped.
    """
    spec = backend.spec
    for picture in pictures:
        try:
            image = as_bgr(read_image(picture.path))
        except FeatherposeError as error:
            failed(str(error))
            continue
        inputs, letterbox = prepare(image, height=height, size_multiple=spec.size_multiple, pad_value=spec.pad_value)
        (maps,) = backend.infer(inputs)
        yield KeptMaps(
            picture.image_id,
            maps.heatmaps.astype(np.float16),
            maps.pafs.astype(np.float16),
            (maps.heatmap_stride, maps.paf_stride),
            letterbox,
        )


class DecoderSearch:
    """Decodes kept maps under given rules and measures them.

    Args:
        kept: Maps of annotated pictures.
        skeleton: What the maps are.
        dataset: Annotations of at least these pictures.
    """

    def __init__(self, kept: Sequence[KeptMaps], skeleton: Skeleton, dataset: CocoDataset) -> None:
        self._kept = kept
        self._skeleton = skeleton
        measured = {one.image_id for one in kept}
        # Only what is judged is handed over: the annotations are copied and indexed in every trial.
        annotations = {
            **dataset.annotations,
            "images": [i for i in dataset.annotations["images"] if i["id"] in measured],
            "annotations": [a for a in dataset.annotations["annotations"] if a["image_id"] in measured],
        }
        pictures = tuple(picture for picture in dataset.pictures if picture.image_id in measured)
        self._dataset = CocoDataset(dataset.name, pictures, annotations)

    def average_precision(self, options: DecodeOptions) -> float:
        """COCO keypoint AP (OKS 0.50 to 0.95) of these rules, -1 where the pictures show nobody."""
        decoder = PafDecoder(self._skeleton, options)
        results = [
            result
            for kept in self._kept
            for result in coco_results(decoder(kept.maps(), kept.letterbox), kept.image_id)
        ]
        return average_precision(self._dataset, results).AP

    def descend(
        self,
        start: DecodeOptions,
        *,
        space: Mapping[str, Sequence[float | int | bool | None]] = SEARCH_SPACE,
        rounds: int = 2,
        least_gain: float = 2e-4,
        tried: Callable[[str, Trial, bool], None] = lambda rule, trial, better: None,
    ) -> list[Trial]:
        """Coordinate descent: one rule after another takes its best value while the others stand.

        A value replaces the present one only for a gain of ``least_gain``, so noise changes nothing.

        Args:
            start: Rules to begin with.
            space: Values of each rule.
            rounds: Passes over all rules at most; the search ends when a pass changes nothing.
            least_gain: AP that a change must bring.
            tried: Called after each trial with the rule's name, the trial, and whether it is the best so far.

        Returns:
            The start and every improvement, best last.
        """
        path = [Trial(start, self.average_precision(start))]
        for _ in range(rounds):
            before = path[-1]
            for rule, values in space.items():
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
