"""Rows of boxes, scores and places: what networks answer that look into boxes, and the targets of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ModelError
from featherpose.geometry import Letterbox
from featherpose.methods.boxes.box_suppression import PeopleRowOptions, best_rows
from featherpose.methods.boxes.box_targets import BoxTargets, box_target
from featherpose.methods.declared import DeclaredDecoder, DeclaredMethod, check_arrays
from featherpose.methods.method import Arrays, Output, Target
from featherpose.methods.ranking import blended_with_rating
from featherpose.option_ranges import check_within
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PlaceDecoder", "PlaceMethod", "PlaceOptions", "boxes_around", "people_loss", "row_outputs"]

# A person's box reaches beyond the keypoints by this part of the longer side of the box around them.
_BEYOND = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOptions(PeopleRowOptions):
    """Rules by which rows become people, besides those of `PeopleRowOptions`.

    Attributes:
        rating_weight: Weight of `featherpose.rating` in the scores of people, 0 to 1; 0 leaves it out.
    """

    rating_weight: float = 0.0

    def __post_init__(self) -> None:
        PeopleRowOptions.__post_init__(self)
        check_within("rating_weight", self.rating_weight, 0, 1)


class PlaceDecoder(DeclaredDecoder[PlaceOptions]):
    """Decodes rows into people."""

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find everyone in one image, best first, in pixels of the source image.

        Raises:
            ModelError: If a row has fewer numbers than the skeleton's keypoints need.
        """
        check_arrays(outputs, self._outputs, self._skeleton)
        k, options = self._skeleton.num_keypoints, self._options
        boxes, scores, places = read_rows(outputs, self._outputs, k)
        rows = best_rows(boxes, scores, min_score=options.min_score, max_overlap=options.max_overlap)
        points, heights = self.locate(places[rows], outputs)
        found = (heights >= max(options.min_keypoint_score, 1e-6)) & np.isfinite(points).all(axis=2)
        # Positions are counted from the edge of the first pixel, not from its center.
        keypoints = letterbox.inverse(points - np.float32(0.5))
        keypoints[~found] = np.nan
        heights = np.where(found, np.clip(heights, 0, 1), np.float32(0))
        ranks = np.clip(scores[rows], 0, 1) * heights.mean(axis=1)
        some = np.flatnonzero(found.sum(axis=1) >= options.min_keypoints)
        best = some[np.argsort(-ranks[some], kind="stable")]
        poses = Poses(keypoints[best], heights[best], ranks[best], self._skeleton, letterbox.source_size)
        return blended_with_rating(poses, options.rating_weight, letterbox.scale[1])

    def locate(
        self, places: Float32[np.ndarray, "n K 3"], outputs: Arrays
    ) -> tuple[Float32[np.ndarray, "n K 2"], Float32[np.ndarray, "n K"]]:
        """Return the position of each keypoint, pixels from the edge of the first one, and its score."""
        return places[:, :, :2], places[:, :, 2]

    def warm_up(self) -> None:
        """Compile the kernel, or load it from disk."""
        sizes = {"boxes": (1, 2, 4), "scores": (1, 2, 1), "places": (1, 2, 3 * self._skeleton.num_keypoints)}
        arrays = {
            output.name: np.full(sizes.get(output.name, (output.channels, 8, 8)), 0.5, np.float32)
            for output in self._outputs
        }
        self(arrays, Letterbox.fit((32, 32), height=32, multiple=32))


def read_rows(
    outputs: Arrays, declared: Sequence[Output], keypoints: int
) -> tuple[Float32[np.ndarray, "N 4"], Float32[np.ndarray, " N"], Float32[np.ndarray, "N K 3"]]:
    """Return a network's rows.

    Raises:
        ModelError: If they have other lengths.
    """
    boxes, scores, places = (np.asarray(outputs[name], np.float32) for name in ("boxes", "scores", "places"))
    count = scores.size
    if boxes.size != 4 * count or places.size != 3 * keypoints * count:
        raise ModelError(
            f"boxes of shape {boxes.shape}, scores {scores.shape}, places {places.shape}",
            expected=f"as many rows of each, and {3 * keypoints} numbers in a row of places",
            hint="give the skeleton that the model was trained with",
        )
    return boxes.reshape(-1, 4), scores.reshape(-1), places.reshape(-1, keypoints, 3)


def row_outputs(skeleton: Skeleton) -> tuple[Output, ...]:
    """State ``boxes``, ``scores`` and ``places``: rows of 4, 1 and 3K numbers, the best people first."""
    return tuple(Output(name=name, channels=1, stride=0, chosen=True) for name in ("boxes", "scores", "places"))


def boxes_around(people: Float32[np.ndarray, "P K 2"]) -> Float32[np.ndarray, "P 4"]:
    """Return boxes of people of whom only keypoints are known, each with at least one.

    Example:
        >>> boxes_around(np.float32([[[10, 10], [20, 60]]])).tolist()
        [[5.0, 5.0, 25.0, 65.0]]
    """
    low, high = np.nanmin(people, axis=1), np.nanmax(people, axis=1)
    margin = np.maximum(_BEYOND * (high - low).max(axis=1, keepdims=True), 2)
    return np.concatenate([low - margin, high + margin], axis=1).astype(np.float32)


class PlaceMethod(DeclaredMethod):
    """A base class for methods that look into boxes."""

    Options = PlaceOptions
    Targets: type[Any] = BoxTargets
    kernel_modules: tuple[str, ...] = ("featherpose.methods.boxes.box_suppression", "featherpose.rating.rate")
    search_space: Mapping[str, Sequence[Any]] = {
        "min_score": (0.02, 0.05, 0.1, 0.2),
        "max_overlap": (0.5, 0.6, 0.7),
        "min_keypoint_score": (0.0, 0.01, 0.02, 0.05, 0.1),
    }

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: BoxTargets,
    ) -> Target:
        """Write boxes around the keypoints, and the keypoints."""
        people = people[np.isfinite(people).all(axis=2).any(axis=1)]
        boxes = boxes_around(people) if len(people) else np.empty((0, 4), np.float32)
        return self.encode_in_boxes(people, boxes, ignore, skeleton, size, outputs, targets)

    def encode_in_boxes(
        self,
        people: Float32[np.ndarray, "P K 2"],
        boxes: Float32[np.ndarray, "P 4"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: BoxTargets,
    ) -> Target:
        """Write boxes, scores and places: x, y and 1 for each keypoint that is known, zeros for the others."""
        self.by_name(outputs)
        target, rows = box_target(boxes, ignore, size, targets)
        places = np.zeros((1, targets.max_people, 3 * skeleton.num_keypoints), np.float32)
        known = np.isfinite(people).all(axis=2)
        for row, person in enumerate(rows):
            points = np.column_stack([np.nan_to_num(people[person]) + 0.5, np.ones(len(people[person]))])
            places[0, row] = np.where(known[person][:, None], points, 0).ravel()
        mask = target.masks["boxes"]
        return Target({**target.values, "places": places}, {**target.masks, "places": mask})


def people_loss(
    stage: Mapping[str, Tensor], values: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the parts of the loss that boxes and the keypoints in them have.

    Args:
        stage: ``boxes`` and ``scores`` of all rows; ``logits`` float[R, K, rows, columns] of the people that are
            learned, their ``regions`` float[R, 4], and ``images`` and ``rows`` int[R], which they are in the targets.
        values: Targets.
        masks: What is known.
    """
    from featherpose.methods.boxes.box_loss import box_loss
    from featherpose.methods.regions.one_hot_loss import region_loss

    boxes, scores = box_loss(
        stage["boxes"], stage["scores"], values["boxes"], values["scores"], masks["boxes"]
    )  # fmt: skip
    points = values["places"][stage["images"], 0, stage["rows"]]
    keypoints = region_loss(stage["logits"], stage["regions"], points.reshape(len(points), -1, 3))
    return {"boxes": boxes, "scores": scores, "keypoints": keypoints}
