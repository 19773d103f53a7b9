"""Boxes and keypoints in one output: YOLO-pose exports (Maji et al. 2022, arXiv 2204.06806).

The graph answers one row of 4 + 1 + 3K numbers for each of its cells: center, width and height of a box in input
pixels, the score of a person, and x, y and score of each keypoint. Rows overlap, so the best of each group stays.
Nothing is trained here: people bring such files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from featherpose.geometry import Letterbox
from featherpose.methods.boxes.box_suppression import PeopleRowOptions, likely_rows, suppress_boxes
from featherpose.methods.declared import DeclaredDecoder, check_arrays
from featherpose.methods.method import Arrays, GraphShapes, Output, Recognized, Target
from featherpose.methods.untrained import NoTargets, UntrainedMethod
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["BOX_ROWS", "BoxRowDecoder", "BoxRowMethod", "BoxRowOptions"]

_BOX = 5
# Rows of a graph for the smallest useful input, 64x64 at strides 8, 16 and 32.
_FEWEST_ROWS = 64 + 16 + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxRowOptions(PeopleRowOptions):
    """Rules by which rows become people."""

    max_overlap: float = 0.7


class BoxRowDecoder(DeclaredDecoder[BoxRowOptions]):
    """Decodes rows into people."""

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find everyone in one image, best first, in pixels of the source image.

        Raises:
            ModelError: If a row has fewer numbers than the skeleton's keypoints need.
        """
        check_arrays(outputs, self._outputs, self._skeleton)
        k, options = self._skeleton.num_keypoints, self._options
        table = np.asarray(outputs["rows"], np.float32).reshape(len(outputs["rows"]), -1)
        rows = table[: _BOX + 3 * k, likely_rows(table[4], options.min_score)].T
        rows = rows[np.isfinite(rows).all(axis=1)]
        half = rows[:, 2:4] / 2
        boxes = np.concatenate((rows[:, :2] - half, rows[:, :2] + half), axis=1)
        kept = rows[suppress_boxes(boxes, np.ascontiguousarray(rows[:, 4]), options.max_overlap)]
        points = kept[:, _BOX:].reshape(len(kept), k, 3)
        found = points[:, :, 2] >= options.min_keypoint_score
        # These networks count positions from the edge of the first pixel, not from its center.
        keypoints = letterbox.inverse(points[:, :, :2] - np.float32(0.5))
        keypoints[~found] = np.nan
        scores = np.where(found, np.clip(points[:, :, 2], 0, 1), np.float32(0))
        people = np.flatnonzero(found.sum(axis=1) >= options.min_keypoints)
        return Poses(
            keypoints[people], scores[people], np.clip(kept[people, 4], 0, 1), self._skeleton, letterbox.source_size
        )

    def warm_up(self) -> None:
        """Compile the kernel, or load it from disk."""
        rows = np.zeros((_BOX + 3 * self._skeleton.num_keypoints, 1, 2), np.float32)
        rows[2:] = 0.5
        self({"rows": rows}, Letterbox.fit((16, 16), height=16, multiple=8))


class BoxRowMethod(UntrainedMethod):
    """Boxes and keypoints in rows."""

    name = "yolo-pose"
    title = "Boxes and keypoints in one output (Maji et al. 2022, YOLO-pose)"
    Options = BoxRowOptions
    Decoder = BoxRowDecoder
    kernel_modules = ("featherpose.methods.boxes.box_suppression",)
    search_space: Mapping[str, Sequence[Any]] = {
        "min_score": (0.02, 0.05, 0.1, 0.25),
        "max_overlap": (0.5, 0.6, 0.65, 0.7, 0.8),
        "min_keypoint_score": (0.0, 0.1, 0.2, 0.3, 0.5),
    }

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``rows``, which is no map: float32[5 + 3K, 1, N].

        Example:
            >>> [(o.name, o.channels, o.stride) for o in BOX_ROWS.outputs(COCO_17)]
            [('rows', 56, 0)]
        """
        return (Output(name="rows", channels=_BOX + 3 * skeleton.num_keypoints, stride=0),)

    def recognize(self, outputs: Collection[str], shapes: GraphShapes | None = None) -> Recognized | None:
        """Recognize a graph of one output of 56 rows, the keypoints of COCO, whatever it is called."""
        if shapes is None or len(shapes.outputs) != 1:
            return None
        ((name, shape),) = shapes.outputs.items()
        wanted = _BOX + 3 * COCO_17.num_keypoints
        if len(shape) != 3 or shape[1] != wanted or (shape[2] is not None and shape[2] < _FEWEST_ROWS):
            return None
        return Recognized(
            skeleton=COCO_17, outputs=self.outputs(COCO_17, names={"rows": name}), size_multiple=32, rgb=True,
            scale=(255.0, 255.0, 255.0), pad_value=114, fixed_size=shapes.fixed_size,
        )  # fmt: skip

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: NoTargets,
    ) -> Target:
        """Write one row for each person, with the box around the keypoints: what the decoder reads, for scenes."""
        self.by_name(outputs)
        known = np.isfinite(people).all(axis=2)
        seen = known.any(axis=1)
        table = np.zeros((_BOX + 3 * skeleton.num_keypoints, 1, max(1, int(seen.sum()))), np.float32)
        for row, (person, has) in enumerate(zip(people[seen], known[seen], strict=True)):
            low, high = person[has].min(axis=0), person[has].max(axis=0)
            table[:4, 0, row] = (*((low + high) / 2 + 0.5), *np.maximum(high - low, 1))
            table[4, 0, row] = 1
            table[_BOX:, 0, row] = np.column_stack([np.nan_to_num(person) + 0.5, has]).ravel()
        return Target({"rows": table}, {"rows": np.ones(table.shape[1:], np.float32)})


BOX_ROWS = BoxRowMethod()
"""The method, as a value."""
