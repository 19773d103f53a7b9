"""Which decoding rules suit a network: coordinate descent over `DecodeOptions` by COCO keypoint AP.

The network runs once over annotated training pictures and its maps are kept; every trial then only decodes. Rules
found this way belong to the network, resolution and precision they were found with. Never search on pictures that
are meant to measure the result.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from featherpose.codecs.paf.decoder import PafDecoder
from featherpose.codecs.paf.maps import Maps
from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import DatasetError, FeatherposeError, MissingExtraError
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.preprocess import prepare
from featherpose.runtime.backend import Backend
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["SEARCH_SPACE", "DecoderSearch", "KeptMaps", "Trial", "keep_maps", "save_search"]

# Values of each rule, in the order in which they are tried. What a rule must not become for the sake of AP alone is
# left out: AP forgives ghosts that rank low, people who look at the result do not.
SEARCH_SPACE: Mapping[str, tuple[float | int | bool | None, ...]] = {
    "peak_threshold": (0.07, 0.1, 0.12, 0.15, 0.18, 0.2, 0.25, 0.3),
    "rank_exponent": (None, 0.0, 0.25, 0.5, 0.75, 1.0),
    "weak_peak_threshold": (None, 0.01, 0.02, 0.03, 0.04, 0.06),
    "weak_limb_threshold": (-0.02, 0.0, 0.01, 0.02, 0.03, 0.05),
    "weak_limb_min_part": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
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
        return {"AP": round(self.average_precision, 5), "options": asdict(self.options)}


def keep_maps(
    pictures: Iterable[tuple[int, Path]], backend: Backend, *, height: int, failed: Callable[[str], None]
) -> Iterator[KeptMaps]:
    """Run the network once over pictures.

    Args:
        pictures: (COCO image id, path) of each.
        backend: The network.
        height: Its input height in pixels.
        failed: Told of each picture that cannot be read, which is skipped.
    """
    spec = backend.spec
    for image_id, path in pictures:
        try:
            image = read_image(path)
        except FeatherposeError as error:
            failed(str(error))
            continue
        inputs, letterbox = prepare(image, height=height, size_multiple=spec.size_multiple, pad_value=spec.pad_value)
        (maps,) = backend.infer(inputs)
        yield KeptMaps(
            image_id,
            maps.heatmaps.astype(np.float16),
            maps.pafs.astype(np.float16),
            (maps.heatmap_stride, maps.paf_stride),
            letterbox,
        )


class DecoderSearch:
    """Decodes kept maps under given rules and measures them.

    Args:
        kept: Maps of annotated pictures.
        skeleton: What the maps are; its people are brought to COCO's 17 keypoints.
        annotations: COCO keypoint file that holds at least these pictures.

    Raises:
        DatasetError: If the file is not a COCO keypoint file.
        MissingExtraError: If pycocotools is not installed.
    """

    def __init__(self, kept: Sequence[KeptMaps], skeleton: Skeleton, annotations: Path) -> None:
        try:
            from pycocotools.coco import COCO
        except ImportError as error:
            raise MissingExtraError("measuring AP", "eval") from error
        self._kept = kept
        self._skeleton = skeleton
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._truth = COCO(str(annotations))
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise DatasetError(f"{annotations} cannot be read ({error})", expected="a COCO keypoint file") from error

    def average_precision(self, options: DecodeOptions) -> float:
        """COCO keypoint AP (OKS 0.50 to 0.95) of these rules, -1 where the pictures show nobody."""
        from pycocotools.cocoeval import COCOeval

        decoder = PafDecoder(self._skeleton, options)
        results = []
        for kept in self._kept:
            poses = decoder(kept.maps(), kept.letterbox).to(COCO_17)
            for keypoints, scores, rank in zip(poses.keypoints, poses.keypoint_scores, poses.scores, strict=True):
                values = np.concatenate((np.nan_to_num(keypoints), scores[:, None]), axis=1)
                results.append(
                    {
                        "image_id": kept.image_id,
                        "category_id": 1,
                        "keypoints": values.ravel().tolist(),
                        "score": float(rank),
                    }
                )
        if not results:
            return 0.0
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(self._truth, self._truth.loadRes(results), "keypoints")
            judge.params.imgIds = [kept.image_id for kept in self._kept]
            judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], judge.params.areaRngLbl[:1]
            judge.evaluate()
            judge.accumulate()
        precision = judge.eval["precision"]
        found = precision[precision > -1]
        return float(found.mean()) if found.size else -1.0

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


def save_search(path: Path, trials: Sequence[Trial], facts: Mapping[str, Any]) -> None:
    """Write a search as JSON: its facts, and every improvement with its AP."""
    text = json.dumps({**facts, "path": [trial.to_dict() for trial in trials]}, indent=2) + "\n"
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
