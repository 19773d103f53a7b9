"""A person detector on the trunk: boxes and scores from each cell at strides 8, 16 and 32, without anchors.

As in FCOS (Tian et al. 2019, arXiv 1904.01355, section 3.1) a cell answers how far the four sides of a box lie from
its center, in units of its stride and as exponents, and how sure it is; as in PAN (Liu et al. 2018, arXiv 1803.01534)
fine features come back down to coarser levels. `featherpose.methods.boxes.box_loss` says which cells learn whom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from featherpose.methods.boxes.box_loss import BOX_STRIDES
from featherpose.methods.boxes.person_boxes import PERSON_BOX, PERSON_BOXES
from featherpose.methods.method import Method
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.outputs import BoxRows
from featherpose.nn.trunk.network import ImageNetwork, Levels, cell_indices, maps_head, probability
from featherpose.skeleton import Skeleton

__all__ = ["LightPersonDetector", "PeopleHead"]

_WIDTH, _HIDDEN = 96, 64
# Sides of a fresh head's boxes lie this many cells from the center.
_FIRST_REACH = 3.0
# Exponents beyond it are no sides of a box in an image; unbounded, a bad step ends as infinity.
_MAX_EXPONENT = 6.0


class PeopleHead(nn.Module):
    """Boxes and scores of all cells.

    Args:
        widths: Channels of the decoder's levels.

    Example:
        >>> levels = [torch.zeros(1, c, 64 // s, 96 // s) for c, s in zip((8, 8, 8, 8), (4, 8, 16, 32))]
        >>> rows = PeopleHead((8, 8, 8, 8)).eval()(levels)
        >>> tuple(rows.boxes.shape), tuple(rows.scores.shape)
        ((1, 1, 126, 4), (1, 1, 126, 1))
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        before = (widths[0], _WIDTH, _WIDTH)
        self.down = nn.ModuleList(conv_norm_relu(width, _HIDDEN, stride=2) for width in before)
        self.mix = nn.ModuleList(conv_norm_relu(width + _HIDDEN, _WIDTH) for width in widths[1:])
        self.sure = nn.ModuleList(conv_norm_relu(_WIDTH, _HIDDEN) for _ in BOX_STRIDES)
        self.reach = nn.ModuleList(conv_norm_relu(_WIDTH, _HIDDEN) for _ in BOX_STRIDES)
        self.scores = nn.ModuleList(maps_head(_HIDDEN, 1) for _ in BOX_STRIDES)
        self.sides = nn.ModuleList(maps_head(_HIDDEN, 4, first=math.log(_FIRST_REACH)) for _ in BOX_STRIDES)

    def forward(self, levels: Sequence[Tensor]) -> BoxRows:
        """Compute the rows from features at strides 4, 8, 16 and 32."""
        boxes, scores = [], []
        x = levels[0]
        for number, stride in enumerate(BOX_STRIDES):
            x = self.mix[number](torch.cat((levels[number + 1], self.down[number](x)), 1))
            sides = self.sides[number](self.reach[number](x)).float().clamp(max=_MAX_EXPONENT).exp()
            center = cell_indices(sides) + 0.5
            found = stride * torch.cat((center - sides[:, :2], center + sides[:, 2:]), 1)
            boxes.append(found.flatten(2))
            scores.append(probability(self.scores[number](self.sure[number](x))).flatten(2))
        rows = torch.cat(boxes, 2).transpose(1, 2)[:, None]
        return BoxRows(rows, torch.cat(scores, 2).transpose(1, 2)[:, None])


class LightPersonDetector(ImageNetwork):
    """Boxes of people.

    Args:
        skeleton: Without effect: people are boxes, whatever keypoints the data has.

    Example:
        >>> (rows,) = LightPersonDetector().eval()(torch.zeros(1, 3, 64, 96))
        >>> tuple(rows.boxes.shape)
        (1, 1, 126, 4)
    """

    MARK: ClassVar[str] = "people.sides.0.weight"
    method: Method = PERSON_BOXES
    probabilities = True
    size_multiple = 32

    def __init__(self, skeleton: Skeleton = PERSON_BOX) -> None:
        super().__init__(PERSON_BOX, PERSON_BOXES.outputs(PERSON_BOX))
        self.people = PeopleHead(self.decoder.widths)

    def answer(self, levels: Levels) -> tuple[BoxRows, ...]:
        """Compute a row for each cell; one stage."""
        return (self.people(levels),)
