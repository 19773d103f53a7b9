"""Mask R-CNN for keypoints on the trunk (He et al. 2017, arXiv 1703.06870): RoIAlign and one hot cell a keypoint.

The published network proposes boxes with anchors and corrects them in a second look; here the anchor-free head answers
the final boxes at once. RoIAlign cuts 14x14 cells of a fine and a coarse level for each of the best boxes; 3x3
convolutions, a deconvolution and a bilinear upsampling make maps of 56x56 cells, as published but narrower and fewer.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.method import Method
from featherpose.methods.regions.mask import MASK
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.layers.roi_align import roi_align
from featherpose.nn.outputs import BoxRows
from featherpose.nn.trunk.network import Levels
from featherpose.nn.trunk.people import PeopleNetwork, Regions, best_people, highest_cells, widened
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LearnedRegions", "LightMaskRcnn", "RegionRows"]

_CELLS = 14, 14
_WIDTH, _LAYERS = 96, 4


class RegionRows(NamedTuple):
    """The outputs of Mask R-CNN.

    Attributes:
        boxes: float[B, 1, N, 4]: left, top, right, bottom in input pixels, counted from the edge of the first one.
        scores: float[B, 1, N, 1] in 0..1.
        places: float[B, 1, N, 3K]: x, y and probability of each keypoint.
    """

    boxes: Float[Tensor, "B 1 N 4"]
    scores: Float[Tensor, "B 1 N 1"]
    places: Float[Tensor, "B 1 N D"]


class LearnedRegions(NamedTuple):
    """What Mask R-CNN learns from: all rows of boxes, and the maps of R annotated boxes.

    Attributes:
        boxes: float[B, 1, N, 4].
        scores: float[B, 1, N, 1].
        logits: float[R, K, rows, columns].
        regions: float[R, 4]: the boxes of the maps.
        images: int[R]: the image of each.
        rows: int[R]: the row of each in the targets.
    """

    boxes: Float[Tensor, "B 1 N 4"]
    scores: Float[Tensor, "B 1 N 1"]
    logits: Float[Tensor, "R K rows columns"]
    regions: Float[Tensor, "R 4"]
    images: Int[Tensor, " R"]
    rows: Int[Tensor, " R"]


class LightMaskRcnn(PeopleNetwork):
    """Boxes, and the place of each keypoint in each box.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> (rows,) = LightMaskRcnn().eval()(torch.zeros(1, 3, 64, 96))
        >>> tuple(rows.boxes.shape), tuple(rows.places.shape)
        ((1, 1, 20, 4), (1, 1, 20, 51))
    """

    MARK: ClassVar[str] = "maps.weight"
    method: Method = MASK

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, MASK.outputs(skeleton))
        fine, _, coarse, _ = self.decoder.widths
        self.enter = conv_norm_relu(fine + coarse, _WIDTH, 1)
        self.look = nn.Sequential(*(conv_norm_relu(_WIDTH, _WIDTH) for _ in range(_LAYERS)))
        self.maps = nn.ConvTranspose2d(_WIDTH, skeleton.num_keypoints, 4, 2, 1)

    def _cut(self, levels: Levels, boxes: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C 14 14"]:
        return torch.cat((roi_align(levels[0], boxes, 4, _CELLS), roi_align(levels[2], boxes, 16, _CELLS)), 2)

    def _maps(self, regions: Float[Tensor, "R C 14 14"]) -> Float[Tensor, "R K 56 56"]:
        x = self.maps(self.look(self.enter(regions)))
        return F.interpolate(x.float(), scale_factor=2.0, mode="bilinear", align_corners=False)

    def answer(self, levels: Levels) -> tuple[RegionRows, ...]:
        """Compute the places in the best boxes; one stage."""
        found = best_people(self.people(levels))
        boxes = widened(found.boxes[:, 0])
        logits = self._maps(self._cut(levels, boxes).flatten(0, 1))
        likely = logits.flatten(2).softmax(2).reshape(boxes.shape[0], boxes.shape[1], *logits.shape[1:])
        return (RegionRows(*found, highest_cells(likely, boxes)),)

    def guided(self, levels: Levels, regions: Regions) -> tuple[LearnedRegions, ...]:
        """Compute all boxes, and the maps of the regions."""
        logits = self._maps(self._cut(levels, regions.boxes)[regions.present])
        found: BoxRows = self.people(levels)
        return (LearnedRegions(*found, logits, regions.of_people, regions.images, regions.rows),)
