"""Boxes of people, and no keypoints: what a detector answers, in front of a network that sees one person at a time.

Detectors are brought (PicoDet), or trained here: `featherpose.methods.boxes.box_loss` says what their cells learn. A
box is a pose of two keypoints, its top left and bottom right corner, so engines, images and videos need no second path
for detectors. `PERSON_BOX` is that skeleton.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.geometry import Letterbox
from featherpose.methods.boxes.box_suppression import best_rows
from featherpose.methods.boxes.box_targets import BoxTargets, box_target
from featherpose.methods.declared import IMAGENET_MEAN, IMAGENET_STD, DeclaredDecoder, DeclaredMethod, check_arrays
from featherpose.methods.method import Arrays, GraphShapes, Output, Recognized, Target
from featherpose.option_ranges import check_within
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PERSON_BOX", "PERSON_BOXES", "PersonBoxDecoder", "PersonBoxMethod", "PersonBoxOptions"]

PERSON_BOX = Skeleton.create("person_box", ["top_left", "bottom_right"], [("top_left", "bottom_right")])
"""A box as a skeleton."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonBoxOptions:
    """Rules by which rows become boxes.

    Attributes:
        min_score: Boxes of lower score are nobody.
        max_overlap: Of two boxes with a larger intersection over union the better one stays.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_score: float = 0.3
    max_overlap: float = 0.6

    def __post_init__(self) -> None:
        for name in ("min_score", "max_overlap"):
            check_within(name, getattr(self, name), 0, 1)


class PersonBoxDecoder(DeclaredDecoder[PersonBoxOptions]):
    """Decodes boxes and scores."""

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find everyone's box in one image, best first, in pixels of the source image, cut at its border.

        Raises:
            ModelError: If an output has another form.
        """
        scores = outputs["scores"].reshape(-1)
        # Rows of four numbers: their axis is the channel of this output.
        boxes = outputs["boxes"].reshape(-1, 4)
        check_arrays({"boxes": outputs["boxes"], "scores": outputs["scores"]}, self._outputs, PERSON_BOX)
        count, options = min(len(scores), len(boxes)), self._options
        kept = best_rows(
            boxes[:count], scores[:count], min_score=options.min_score, max_overlap=options.max_overlap
        )  # fmt: skip
        # Positions are counted from the edge of the first pixel, not from its center.
        corners = letterbox.inverse(boxes[kept].reshape(-1, 2, 2).astype(np.float32) - np.float32(0.5))
        width, height = letterbox.source_size
        corners = np.clip(corners, 0, np.array([width - 1, height - 1], np.float32))
        kept = kept[(corners[:, 1] > corners[:, 0]).all(axis=1)]
        corners = corners[(corners[:, 1] > corners[:, 0]).all(axis=1)]
        found = np.clip(scores[kept], 0, 1).astype(np.float32)
        return Poses(corners, np.repeat(found[:, None], 2, axis=1), found, PERSON_BOX, letterbox.source_size)

    def warm_up(self) -> None:
        """Compile the kernel, or load it from disk."""
        arrays = {"boxes": np.ones((2, 1, 4), np.float32), "scores": np.ones((1, 1, 2), np.float32)}
        self(arrays, Letterbox.fit((16, 16), height=16, multiple=8))


class PersonBoxMethod(DeclaredMethod):
    """Boxes of people."""

    name = "person-boxes"
    title = "Boxes of people, for networks that see one person at a time (PicoDet, Yu et al. 2021)"
    Options = PersonBoxOptions
    Decoder = PersonBoxDecoder
    Targets = BoxTargets
    kernel_modules = ("featherpose.methods.boxes.box_suppression",)
    search_space: Mapping[str, Sequence[Any]] = {"min_score": (0.1, 0.2, 0.3, 0.4, 0.5), "max_overlap": (0.5, 0.6, 0.7)}

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``boxes``, rows of left, top, right and bottom, and ``scores``; neither is a map.

        Example:
            >>> [(o.name, o.stride) for o in PERSON_BOXES.outputs(PERSON_BOX)]
            [('boxes', 0), ('scores', 0)]
        """
        return (
            Output(name="boxes", channels=1, stride=0, more_channels=True),
            Output(name="scores", channels=1, stride=0, more_channels=True),
        )

    def recognize(self, outputs: Collection[str], shapes: GraphShapes | None = None) -> Recognized | None:
        """Recognize a graph with N boxes and N scores of one class; such detectors see the image squashed."""
        if shapes is None or len(shapes.outputs) != 2 or shapes.fixed_size is None:
            return None
        boxes = [name for name, shape in shapes.outputs.items() if len(shape) == 3 and shape[2] == 4 and shape[1] != 4]
        scores = [name for name, shape in shapes.outputs.items() if len(shape) == 3 and shape[1] == 1]
        if len(boxes) != 1 or len(scores) != 1 or boxes == scores:
            return None
        names = {"boxes": boxes[0], "scores": scores[0]}
        return Recognized(
            skeleton=PERSON_BOX, outputs=self.outputs(PERSON_BOX, names=names), rgb=True,
            mean=IMAGENET_MEAN, scale=IMAGENET_STD, fixed_size=shapes.fixed_size, squashed=True,
        )  # fmt: skip

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: BoxTargets,
    ) -> Target:
        """Write everyone's box with score 1; people are boxes as `PERSON_BOX` has them."""
        whole = people[np.isfinite(people).all(axis=(1, 2))].reshape(-1, 4)
        return self.encode_in_boxes(people, whole, ignore, skeleton, size, outputs, targets)

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
        """Write everyone's box with score 1; keypoints do not count."""
        self.by_name(outputs)
        return box_target(boxes, ignore, size, targets)[0]

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
        """Compare boxes and scores with the people (`box_loss`), summed over stages."""
        import torch

        from featherpose.methods.boxes.box_loss import box_loss

        total, parts = torch.zeros((), device=values["boxes"].device), {}
        for number, stage in enumerate(stages):
            boxes, scores = box_loss(
                stage["boxes"], stage["scores"], values["boxes"], values["scores"], masks["boxes"]
            )  # fmt: skip
            parts[f"boxes_{number}"], parts[f"scores_{number}"] = boxes.detach(), scores.detach()
            total = total + boxes + scores
        return total, parts


PERSON_BOXES = PersonBoxMethod()
"""The method, as a value."""
