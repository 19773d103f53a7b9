"""Keypoints as one hot cell of a box: Mask R-CNN for human pose (He et al. 2017, arXiv 1703.06870, section 5).

The network answers boxes with their scores, and for each box where every keypoint is: the cell of its m x m map that
a softmax over all of them says is the likeliest, and how likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featherpose.methods.method import Output
from featherpose.methods.regions.places import PlaceDecoder, PlaceMethod, people_loss, row_outputs
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MASK", "MaskMethod"]

# A softmax over 56x56 cells begins at ln 3136 = 8 a keypoint, so weighted at 4; a box costs 5 at most (`box_loss`).
_KEYPOINT_WEIGHT = 0.5


class MaskMethod(PlaceMethod):
    """Boxes, and one hot cell a keypoint in them."""

    name = "mask-rcnn"
    title = "Boxes, and one hot cell a keypoint in them (He et al. 2017, Mask R-CNN)"
    Decoder = PlaceDecoder

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``boxes``, ``scores`` and ``places``.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> [(o.name, o.stride) for o in MASK.outputs(COCO_17)]
            [('boxes', 0), ('scores', 0), ('places', 0)]
        """
        return row_outputs(skeleton)

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
        """Add the losses of boxes, scores and keypoints (`people_loss`) of a network that was told the people."""
        parts = people_loss(stages[-1], values, masks)
        total = parts["boxes"] + parts["scores"] + _KEYPOINT_WEIGHT * parts["keypoints"]
        return total, {name: part.detach() for name, part in parts.items()}


MASK = MaskMethod()
"""The method, as a value."""
