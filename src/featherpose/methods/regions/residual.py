"""Heatmaps, boxes, and which peak is whose: MultiPoseNet (Kocabas et al. 2018, arXiv 1807.04067).

The network answers everyone's heatmaps and boxes. In each box the heatmaps hold keypoints of several people; the Pose
Residual Network has seen which arrangements are one person, and says of each keypoint in which cell of the box's grid
it is (section 3.4). The keypoint is the highest cell of the heatmap beside that place, moved by the quarter shift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.methods.boxes.box_targets import BoxTargets
from featherpose.methods.declared import keypoint_output, map_shape
from featherpose.methods.gaussians import draw_gaussians, ignore_boxes
from featherpose.methods.hourglass import quarter_shift
from featherpose.methods.method import Arrays, Output, Target
from featherpose.methods.regions.places import PlaceDecoder, PlaceMethod, PlaceOptions, people_loss, row_outputs
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RESIDUAL", "ResidualDecoder", "ResidualMethod", "ResidualOptions"]

_STRIDE, _SIGMA_PX = 4, 7.0
# A softmax over 56x36 cells begins at ln 2016 = 7.6 a keypoint, so weighted at 2.3; a box costs 5 at most (`box_loss`).
_KEYPOINT_WEIGHT = 0.3
# Cells of the heatmap around the chosen place in which the peak is looked for.
_REACH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualOptions(PlaceOptions):
    """Rules by which rows and heatmaps become people: those of `PlaceOptions`, with people rated."""

    rating_weight: float = 0.5


class ResidualDecoder(PlaceDecoder):
    """Decodes heatmaps and rows into people."""

    def locate(
        self, places: Float32[np.ndarray, "n K 3"], outputs: Arrays
    ) -> tuple[Float32[np.ndarray, "n K 2"], Float32[np.ndarray, "n K"]]:
        """Return the highest cell of the heatmap beside each place; its height is the score."""
        stride = self._outputs[0].stride
        heatmaps = np.ascontiguousarray(outputs["heatmaps"][: self._skeleton.num_keypoints], np.float32)
        rows, columns = heatmaps.shape[1:]
        start = np.floor(np.nan_to_num(places[:, :, :2]) / np.float32(stride))
        start = np.clip(start, 0, [columns - 1, rows - 1]).astype(np.int64)
        steps = np.arange(-_REACH, _REACH + 1)
        x = np.clip(start[:, :, 0, None, None] + steps, 0, columns - 1)
        y = np.clip(start[:, :, 1, None, None] + steps[:, None], 0, rows - 1)
        k = np.arange(heatmaps.shape[0])[None, :, None, None]
        heights = heatmaps[k, y, x].reshape(*start.shape[:2], len(steps) ** 2)
        best = heights.argmax(axis=2)
        cells = np.stack((
            np.clip(start[:, :, 0] + best % len(steps) - _REACH, 0, columns - 1),
            np.clip(start[:, :, 1] + best // len(steps) - _REACH, 0, rows - 1),
        ), -1).astype(np.float32)  # fmt: skip
        for person, own in enumerate(cells):
            cells[person] = quarter_shift(heatmaps, own)
        points = (cells + np.float32(0.5)) * np.float32(stride)
        return points.astype(np.float32), np.asarray(heights.max(axis=2), np.float32)


class ResidualMethod(PlaceMethod):
    """Heatmaps, boxes, and which peak is whose."""

    name = "multiposenet"
    title = "Heatmaps, boxes, and which peak is whose (Kocabas et al. 2018, MultiPoseNet)"
    Options = ResidualOptions
    Decoder = ResidualDecoder
    kernel_modules = (*PlaceMethod.kernel_modules, "featherpose.methods.gaussians")

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``heatmaps``, ``boxes``, ``scores`` and ``places``.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> [(o.name, o.stride) for o in RESIDUAL.outputs(COCO_17)]
            [('heatmaps', 4), ('boxes', 0), ('scores', 0), ('places', 0)]
        """
        return keypoint_output("heatmaps", skeleton, _STRIDE), *row_outputs(skeleton)

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
        """Write boxes, scores and places, and draw a Gaussian around each keypoint.

        Heatmaps are unknown where the boxes are, and in the boxes of people without keypoints.
        """
        target = super().encode_in_boxes(people, boxes, ignore, skeleton, size, outputs, targets)
        stride = self.by_name(outputs)["heatmaps"].stride
        heatmaps = np.zeros((skeleton.num_keypoints, *map_shape(size, stride)), np.float32)
        draw_gaussians(people, heatmaps, False, np.float32(stride), np.float32(_SIGMA_PX))
        labeled = np.isfinite(people).all(axis=2).any(axis=1)
        known = np.maximum(ignore_boxes(ignore, size, stride), 1 - ignore_boxes(boxes[labeled], size, stride))
        known = np.minimum(known, ignore_boxes(boxes[~labeled], size, stride))
        return Target({"heatmaps": heatmaps, **target.values}, {"heatmaps": known, **target.masks})

    def loss(
        self,
        stages: Sequence[Mapping[str, Tensor]],
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        config: Any,
        skeleton: Skeleton,
        *,
        probabilities: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare heatmaps as method ``heatmap`` does, and add the losses of boxes, scores and choices."""
        from featherpose.methods.heatmap import HEATMAP

        stage = stages[-1]
        parts = people_loss(stage, values, masks)
        heatmaps, _ = HEATMAP.loss(
            [{"heatmaps": stage["heatmaps"]}], {"heatmaps": values["heatmaps"]}, {"heatmaps": masks["heatmaps"]},
            config, skeleton, probabilities=probabilities,
        )  # fmt: skip
        total = heatmaps + parts["boxes"] + parts["scores"] + _KEYPOINT_WEIGHT * parts["keypoints"]
        return total, {"heatmaps": heatmaps.detach(), **{name: part.detach() for name, part in parts.items()}}


RESIDUAL = ResidualMethod()
"""The method, as a value."""
