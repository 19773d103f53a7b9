"""What networks share that find boxes first and then look into them: the people, and regions in training.

In use the regions are the best boxes that the network itself finds. In training they are boxes around the annotated
people, disturbed as found boxes are: what happens in a box can be learned before boxes are good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from featherpose.methods.boxes.box_loss import overlaps
from featherpose.methods.method import Output
from featherpose.nn.outputs import BoxRows, Split, Stage
from featherpose.nn.trunk.detector import PeopleHead
from featherpose.nn.trunk.network import ImageNetwork, Levels
from featherpose.skeleton import Skeleton

__all__ = ["MAX_PEOPLE", "PeopleNetwork", "Regions", "best_people", "highest_cells", "widened"]

MAX_PEOPLE = 20
"""Boxes of an image that are looked into."""

# Rows among which doubles are told, and the overlap from which two are of one person.
_ROWS, _SAME = 128, 0.6
# Of an image's people so many are learned in a step, drawn anew each time.
_LEARNED = 6
# Standard deviation by which a learned box is moved and scaled, in its sides.
_DISTURBED = 0.06
# What is looked at around a box on each side, in its sides.
_MARGIN = 0.08


class Regions(NamedTuple):
    """People to be learned, of all images of a batch.

    Attributes:
        boxes: float[B, n, 4]: disturbed and widened boxes, some of them of nobody.
        present: bool[B, n]: which are of somebody.
        images: int[R]: the image of each person.
        rows: int[R]: their rows in the targets.
    """

    boxes: Tensor
    present: Tensor
    images: Tensor
    rows: Tensor

    @property
    def of_people(self) -> Float[Tensor, "R 4"]:
        """Return the box of each person."""
        return self.boxes[self.present]


def best_people(found: BoxRows, count: int = MAX_PEOPLE) -> BoxRows:
    """Choose the best boxes, of several of one person one: Fast NMS (Bolya et al. 2019, arXiv 1904.02689, section 3.3).

    A row is dropped if any better one overlaps it, whether that one stays or not; so all are judged at once, and any
    engine can compute it.

    Args:
        found: All rows.
        count: Rows of the result; empty ones have score 0.

    Example:
        >>> boxes = torch.tensor([[[[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]]]])
        >>> best = best_people(BoxRows(boxes, torch.tensor([[[[0.5], [0.9], [0.7]]]])), 3)
        >>> [round(score, 2) for score in best.scores.flatten().tolist()], best.boxes[0, 0, 0].tolist()
        ([0.9, 0.7, 0.0], [1.0, 0.0, 11.0, 10.0])
    """
    scores, boxes = found.scores[:, 0, :, 0].float(), found.boxes[:, 0].float()
    scores = torch.cat((scores, torch.zeros_like(scores[:, :1]).expand(-1, _ROWS)), 1)
    boxes = torch.cat((boxes, torch.zeros_like(boxes[:, :1]).expand(-1, _ROWS, -1)), 1)
    scores, rows = scores.topk(_ROWS, dim=1)
    boxes = boxes.gather(1, rows[:, :, None].expand(-1, -1, 4))
    better = torch.ones(_ROWS, _ROWS, device=boxes.device).triu(1)
    covered = (overlaps(boxes[:, :, None], boxes[:, None]) * better).amax(1) > _SAME
    scores, rows = torch.where(covered, torch.zeros_like(scores), scores).topk(count, dim=1)
    boxes = boxes.gather(1, rows[:, :, None].expand(-1, -1, 4))
    return BoxRows(boxes[:, None], scores[:, None, :, None])


def widened(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Widen boxes on each side, because hands and feet lie at their borders and found boxes are too small at times.

    Example:
        >>> [round(side, 2) for side in widened(torch.tensor([0.0, 0, 10, 20])).tolist()]
        [-0.8, -1.6, 10.8, 21.6]
    """
    margin = _MARGIN * (boxes[..., 2:] - boxes[..., :2])
    return torch.cat((boxes[..., :2] - margin, boxes[..., 2:] + margin), -1)


def highest_cells(maps: Float[Tensor, "B N K rows columns"], boxes: Float[Tensor, "B N 4"]) -> Float[Tensor, "B 1 N D"]:
    """Return where in the image each map is highest, and how high: x, y and score of each keypoint, D = 3K.

    Args:
        maps: Of the boxes.
        boxes: (left, top, right, bottom) in pixels.

    Example:
        >>> maps = torch.zeros(1, 1, 1, 2, 4)
        >>> maps[0, 0, 0, 1, 2] = 0.5
        >>> highest_cells(maps, torch.tensor([[[10.0, 0.0, 18.0, 4.0]]])).flatten().tolist()
        [15.0, 3.0, 0.5]
    """
    rows, columns = maps.shape[3:]
    height, cell = maps.flatten(3).max(3)
    row = torch.div(cell, columns, rounding_mode="floor").float()
    column = cell.float() - columns * row
    corner, side = boxes[:, :, None, :2], boxes[:, :, None, 2:] - boxes[:, :, None, :2]
    x = corner[..., 0] + side[..., 0] * ((column + 0.5) / columns)
    y = corner[..., 1] + side[..., 1] * ((row + 0.5) / rows)
    return torch.stack((x, y, height.float()), -1).flatten(2)[:, None]


class PeopleNetwork(ImageNetwork):
    """A network on feather's trunk that finds boxes and looks into them.

    Args:
        skeleton: Keypoints of the outputs.
        outputs: The method's outputs.
    """

    guides: ClassVar[tuple[str, ...]] = ("boxes", "scores")
    probabilities = True
    size_multiple = 32

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output]) -> None:
        super().__init__(skeleton, outputs)
        self.people = PeopleHead(self.decoder.widths)

    def guided(self, levels: Levels, regions: Regions) -> tuple[Stage, ...]:
        """Compute what is learned from the decoder's features at strides 4 to 32 and the regions of the people."""
        raise NotImplementedError

    def training_stages(
        self, images: Float[Tensor, "B 3 H W"], guides: Mapping[str, Tensor] | None = None
    ) -> tuple[Stage, ...]:
        """Compute the stages that the loss compares with the targets; without guides those of use."""
        return self._after(self.features(images), guides)

    def splits(self) -> tuple[Split, ...]:
        """Split behind the trunk, or behind its front."""
        trunk, front = super().splits()
        return (
            Split(trunk.parts, trunk.names, trunk.before, self._after),
            Split(front.parts, front.names, front.before, self._after_front),
        )

    def _after_front(self, seen: Sequence[Tensor], guides: Mapping[str, Tensor] | None = None) -> tuple[Stage, ...]:
        return self._after(self._behind_front(seen), guides)

    def _after(self, seen: Sequence[Tensor], guides: Mapping[str, Tensor] | None = None) -> tuple[Stage, ...]:
        if guides is None:
            return self._behind_trunk(seen)
        return self.guided(self.levels(seen), _drawn_regions(guides["boxes"][:, 0], guides["scores"][:, 0, :, 0]))


def _drawn_regions(boxes: Float[Tensor, "B M 4"], present: Float[Tensor, "B M"]) -> Regions:
    """Draw some of each image's people, and disturb and widen their boxes."""
    order = torch.rand_like(present) + present
    rows = order.topk(min(_LEARNED, order.shape[1]), dim=1).indices
    chosen = boxes.gather(1, rows[:, :, None].expand(-1, -1, 4))
    sides = chosen[..., 2:] - chosen[..., :2]
    moved = chosen + _DISTURBED * torch.randn_like(chosen) * torch.cat((sides, sides), -1)
    low = torch.minimum(moved[..., :2], moved[..., 2:] - 1)
    there = present.gather(1, rows) > 0
    boxes = widened(torch.cat((low, moved[..., 2:]), -1))
    return Regions(boxes, there, there.nonzero()[:, 0], rows[there])
